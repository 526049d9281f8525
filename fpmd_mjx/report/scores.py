"""Scores: one result of evaluating a policy, and where summaries of all versions have them."""

from typing import Any

import numpy as np

from fpmd_mjx.report.statistics import summarize


def entry(
    episodes: Any,
    *,
    mode: str,
    epoch: int,
    env_steps: int,
    simulator: str = "mjx",
    seed: int | None = None,
    **provenance: Any,
) -> dict[str, Any]:
    """One result as JSON: `summarize`'s statistics, and what they were measured with.

    episodes: an `Episodes`; epoch, env_steps: of the policy; seed: of the episodes, None for an
    evaluation during training; provenance: of which device and commit are kept.
    """
    return {
        **summarize(episodes.returns, env_steps),
        "nonfinite_episodes": np.asarray(episodes.nonfinite).tolist(),
        "mode": mode,
        "simulator": simulator,
        "seed": seed,
        "epoch": epoch,
        "device": provenance["device"],
        "commit": provenance["commit"],
    }


def same_question(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two scores are of the same policy in the same episodes."""
    return all(a[key] == b[key] for key in ("mode", "simulator", "seed", "episodes", "epoch"))


def find(summary: dict[str, Any], mode: str, simulator: str) -> dict[str, Any] | None:
    """The newest score of a run's final policy: of `fpmd eval` if there is one, or, in MJX, of the
    last evaluation during training.

    Summaries of version 0.1 had the scores of the original simulator as `eval_mujoco`, and in MJX
    those of `fpmd eval` in place of the evaluation.
    """
    for score in reversed(summary.get("scores", [])):
        asked = score["mode"], score["simulator"], score["env_steps"]
        if asked == (mode, simulator, summary["env_steps"]):
            return score
    return summary.get({"mjx": "eval", "mujoco": "eval_mujoco"}[simulator], {}).get(mode)
