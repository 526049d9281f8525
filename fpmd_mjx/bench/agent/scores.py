"""The scores of settings on a yardstick, and how they differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fpmd_mjx.bench.agent.yardstick import Task
from fpmd_mjx.bench.timing import Table
from fpmd_mjx.report.statistics import stratified_bootstrap

LAST = 3
"""Evaluations whose mean is the score of a run, so that one of them does not decide."""

FALL, FIRST_FALL = 0.7, 0.1
"""An evaluation is a fall if it has less than this share of the seed's best score so far, and that
best score is at least `FIRST_FALL`."""


@dataclass(frozen=True)
class Curve:
    """The evaluations of one run.

    Attributes:
        env_steps: per seed, (evaluations,).
        seconds: of training, without compilation and evaluation: (evaluations,).
        scores: of `Task.score`, (evaluations, seeds).
        updates: of the whole run, per seed.
    """

    env_steps: np.ndarray
    seconds: np.ndarray
    scores: np.ndarray
    updates: int

    @classmethod
    def of(cls, task: Task, records: Sequence[Mapping[str, Any]]) -> "Curve":
        """From the records of `bench.target.train`."""

        def column(name: str) -> np.ndarray:
            return np.asarray([record[name] for record in records], np.float64)

        returns = np.asarray([record["returns"]["one_step"] for record in records])
        return cls(
            column("env_steps"),
            column("train_seconds"),
            task.score(returns),
            int(column("updates")[-1]),
        )

    def score(self, seconds: float = np.inf) -> np.ndarray:
        """The mean of the `LAST` evaluations within `seconds` of training: (seeds,). Without any
        it is 0, the score of random actions."""
        found = self.scores[self.seconds <= seconds][-LAST:]
        return found.mean(0) if len(found) else np.zeros(self.scores.shape[1])

    def falls(self) -> tuple[int, int]:
        """Falls, and evaluations that could be one, of all seeds."""
        best = np.maximum.accumulate(self.scores)[:-1]
        possible = best >= FIRST_FALL
        fallen = possible & (self.scores[1:] < FALL * best)
        return int(fallen.sum()), int(possible.sum())


Curves = Mapping[str, Curve]
"""The curves of one setting, by task."""


def summary(settings: Mapping[str, Curves]) -> Table:
    """A row for each setting: its score and what it costs. All have the same tasks and seeds."""
    rows = []
    for name, curves in settings.items():
        scores = np.stack([curve.score() for curve in curves.values()])
        low, high = stratified_bootstrap(scores, _mean)
        falls = np.sum([curve.falls() for curve in curves.values()], 0)
        seconds = sum(curve.seconds[-1] for curve in curves.values())
        env_steps = sum(curve.env_steps[-1] for curve in curves.values()) * scores.shape[1]
        updates = sum(curve.updates for curve in curves.values()) * scores.shape[1]
        rows.append(
            (
                name,
                float(scores.mean()),
                low,
                high,
                float(falls[0] / max(falls[1], 1)),
                updates / env_steps,
                1000 * seconds / max(updates, 1),
                float(seconds),
            )
        )
    return Table(
        (
            *("setting", "score", "low", "high", "falls"),
            *("updates per env step", "ms per update", "training seconds"),
        ),
        tuple(rows),
    )


def differences(settings: Mapping[str, Curves], equal: str) -> Table:
    """A row for each other setting and each task beside the first setting, and one for all tasks.

    equal: `env steps`, of the whole runs, or `seconds`, of training until the faster of the two has
    ended. Intervals are of the difference and of how many times as much; seeds are paired.
    """
    first, *others = settings
    rows = []
    for name in others:
        pairs = []
        for task, before in settings[first].items():
            after = settings[name][task]
            until = min(before.seconds[-1], after.seconds[-1]) if equal == "seconds" else np.inf
            pairs.append(np.stack([before.score(until), after.score(until)], -1))
            rows.append((name, task, *_difference(pairs[-1:])))
        rows.append((name, "all", *_difference(pairs)))
    columns = ("setting", "task", first, "score", "difference", "low", "high", "times")
    return Table((*columns, "times low", "times high"), tuple(rows))


def _difference(pairs: Sequence[np.ndarray]) -> tuple[float, ...]:
    """Both mean scores, their difference and ratio, each with its interval; pairs: (seeds, 2) a
    task."""
    scores = np.stack(pairs)

    def gain(x: np.ndarray) -> np.ndarray:
        return _mean(x[..., 1]) - _mean(x[..., 0])

    def times(x: np.ndarray) -> np.ndarray:
        before, after = _mean(x[..., 0]), _mean(x[..., 1])
        some = before > 0  # there is no multiple of nothing
        return np.where(some, after / np.where(some, before, 1.0), np.nan)

    found: list[Any] = [_mean(scores[..., 0]), _mean(scores[..., 1])]
    for statistic in (gain, times):
        found += [statistic(scores), *stratified_bootstrap(scores, statistic)]
    return tuple(float(x) for x in found)


def _mean(scores: np.ndarray) -> np.ndarray:
    """(..., tasks, seeds) -> (...)."""
    return scores.mean((-2, -1))
