"""summary.json: the result of a run, and all its scores."""

import json
from pathlib import Path
from typing import Any

from fpmd_mjx.config.schema import Config
from fpmd_mjx.report import records, scores
from fpmd_mjx.run.evaluations import Evaluations
from fpmd_mjx.run.parts import Parts

NAME = "summary.json"


def read(folder: Path) -> dict[str, Any] | None:
    """The summary of a run folder, None if the run has not ended yet."""
    path = folder / NAME
    return json.loads(path.read_text()) if path.exists() else None


def write(folder: Path, summary: dict[str, Any]) -> dict[str, Any]:
    """Writes the summary with the scores of the one that it replaces, and returns it."""
    before = read(folder) or {}
    summary = summary | {"scores": before.get("scores", [])}
    records.write_json(folder / NAME, summary)
    return summary


def add_score(folder: Path, score: dict[str, Any]) -> bool:
    """Adds a score to the summary, in place of one of the same policy and episodes.

    Returns False if there is no summary.
    """
    summary = read(folder)
    if summary is None:
        return False
    kept = [x for x in summary.get("scores", []) if not scores.same_question(x, score)]
    records.write_json(folder / NAME, summary | {"scores": [*kept, score]})
    return True


def of_run(
    config: Config,
    parts: Parts,
    evaluations: Evaluations,
    *,
    env_steps: int,
    updates: int,
    nonfinite: dict[str, int],
) -> dict[str, Any]:
    """The summary of a run, without its scores.

    Seconds are of all its parts. Rates are of all seeds together and of training alone. Device,
    versions and commit are those of the last part.
    """
    train_seconds = parts.seconds("train_seconds")

    def rate(count: int) -> float:
        return round(count * config.seeds / max(train_seconds, 1e-9), 1)

    return {
        "task": config.task.name,
        "actor": config.algorithm.name,
        "preset": config.preset,
        "seeds": config.seeds,
        "num_envs": config.num_envs,
        "env_steps": env_steps,
        "updates": updates,
        "compile_seconds": round(parts.seconds("compile_seconds"), 2),
        "train_seconds": round(train_seconds, 2),
        "wall_seconds": round(parts.seconds("wall_seconds"), 2),
        "env_steps_per_second": rate(env_steps),
        "updates_per_second": rate(updates),
        **parts.provenance,
        "parts": parts.listed(),
        "eval": evaluations.last,
        "best": evaluations.best,
        "nonfinite": {**nonfinite, "eval_episodes": evaluations.nonfinite},
    }
