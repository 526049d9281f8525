"""Scores: results of evaluating a policy, and their place in a summary of any version."""

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
    """One result as JSON: the statistics of `summarize` and the conditions of the measurement.

    episodes: an `Episodes`; epoch, env_steps: of the policy; seed: of the episodes, None for an
    evaluation during training; provenance: as of `provenance`, device and commit are kept.
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
    """The newest score of a run's final policy, or None.

    Scores of `fpmd eval` come first. In MJX the last evaluation during training stands in for them.
    Summaries of version 0.1 hold scores in the original simulator as `eval_mujoco`, and a score of
    `fpmd eval` in MJX replaces their evaluation.
    """
    for score in reversed(summary.get("scores", [])):
        asked = score["mode"], score["simulator"], score["env_steps"]
        if asked == (mode, simulator, summary["env_steps"]):
            return score
    return summary.get({"mjx": "eval", "mujoco": "eval_mujoco"}[simulator], {}).get(mode)
