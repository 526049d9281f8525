"""Which checkpoints of a run stay on disk."""

from collections.abc import Sequence
from typing import Any


class Retention:
    """Which checkpoints stay: the newest that a run can continue from, and the best.

    Epochs after the newest resumable checkpoint are lost when the run is killed, even the best one.
    So the best up to that checkpoint stays as well.

    Args:
        last: how many resumable checkpoints stay, at least 1.
        best: whether those with the highest score stay.
    """

    def __init__(self, last: int, best: bool) -> None:
        self._last, self._best = last, best

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Whether each of `checkpoints`, sorted by step, stays: orbax's `PreservationPolicy`."""
        continuable = [info.step for info in checkpoints if resumable(info.metrics)]
        kept = set(continuable[-self._last :])
        if self._best:
            scores = {info.step: score_of(info.metrics) for info in checkpoints}
            kept.add(best(scores))
            if continuable:
                kept.add(best({e: x for e, x in scores.items() if e <= continuable[-1]}))
        return [info.step in kept for info in checkpoints]


def resumable(metrics: Any) -> bool:
    """Whether a checkpoint with these orbax metrics has the whole state.

    Those of versions that did not store `resumable` all have it.
    """
    return metrics is None or metrics.get("resumable", True)


def score_of(metrics: Any) -> float | None:
    """The score of a checkpoint with these orbax metrics."""
    return None if metrics is None else metrics["score"]


def best(scores: dict[int, float | None]) -> int | None:
    """The epoch with the highest score, the oldest of equals; None if none has a score."""
    scored = [(-score, epoch) for epoch, score in scores.items() if score is not None]
    return min(scored)[1] if scored else None
