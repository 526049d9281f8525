"""The logged metrics, from those of the program."""

from typing import Any

import numpy as np

Columns = dict[str, np.ma.MaskedArray]
"""Values by name, (seeds,) each; masked where an epoch has no such value."""

COUNTS = ("env_resets", "skipped_updates")
"""The program's counts of numbers that were not finite, `nonfinite/NAME` in its metrics."""


class Counts:
    """Resets of simulations that were not finite, and skipped updates, since the start of the run,
    by seed."""

    def __init__(self, seeds: int) -> None:
        self._totals = {name: [0] * seeds for name in COUNTS}

    def add(self, metrics: dict[str, np.ndarray]) -> Columns:
        """Adds an epoch of the program's metrics. Returns both counts of this epoch, and their
        totals as `nonfinite/NAME_total`."""
        columns: Columns = {}
        for name in COUNTS:
            before = np.asarray(self._totals[name])
            total = before + metrics[f"nonfinite/{name}"].astype(np.int64)
            self._totals[name] = total.tolist()
            columns[f"nonfinite/{name}"] = np.ma.asarray(total - before)
            columns[f"nonfinite/{name}_total"] = np.ma.asarray(total)
        return columns

    def summed(self) -> dict[str, int]:
        """Totals over the seeds."""
        return {name: sum(total) for name, total in self._totals.items()}

    def saved(self) -> dict[str, list[int]]:
        """Its state as JSON, for a checkpoint."""
        return dict(self._totals)

    def restore(self, saved: dict[str, list[int]]) -> None:
        self._totals = dict(saved)


def columns(metrics: dict[str, np.ndarray], learned: bool) -> Columns:
    """The program's metrics of an epoch without its counts.

    The nan of an empty mean is masked. Returns and lengths have one for a seed without a finished
    episode, and all metrics of learning unless the epoch `learned`.
    """
    no_episode = metrics["rollout/episodes"] == 0
    found = {}
    for name, x in metrics.items():
        if name.startswith("nonfinite/"):
            continue
        nothing: Any = no_episode if name.startswith("rollout/") else not learned
        found[name] = np.ma.masked_array(x, np.isnan(x) & nothing)
    return found


def not_finite(found: Columns) -> list[str]:
    """Names of the metrics with a value that is not finite."""
    return [name for name, x in found.items() if not np.isfinite(x.compressed()).all()]
