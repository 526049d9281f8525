"""Measures in turns, so that a temporary slowdown of the machine affects all sides alike."""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Work(Protocol):
    """name: prefix of its metrics; env_steps, updates: of one chunk, all seeds together."""

    @property
    def name(self) -> str: ...

    @property
    def env_steps(self) -> int: ...

    @property
    def updates(self) -> int: ...


class Runnable(Protocol):
    """Work that can take turns."""

    def run(self) -> None:
        """Does one chunk of work and returns when it is done. The next call goes on from there."""
        ...


class Measured(Work, Runnable, Protocol):
    """Something to measure."""


@dataclass(frozen=True)
class Quartiles:
    """Quartiles of the repetitions of one measurement."""

    q1: float
    median: float
    q3: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Quartiles":
        """values: at least one."""
        values = list(values)
        if len(values) == 1:
            return cls(*values * 3)
        return cls(*statistics.quantiles(values, n=4, method="inclusive"))


@dataclass(frozen=True)
class Table:
    """A metric of several rows. rows: strings and numbers, one for each of `columns`."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def lines(self) -> list[str]:
        """Aligned text: the columns, then the rows. Columns of numbers are aligned right."""
        shown = [self.columns, *(tuple(map(_shown, row)) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
        texts = [
            any(isinstance(x, str) for x in column) for column in zip(*self.rows, strict=True)
        ] or [True] * len(self.columns)
        return [
            "  ".join(
                cell.ljust(width) if text else cell.rjust(width)
                for cell, width, text in zip(row, widths, texts, strict=True)
            ).rstrip()
            for row in shown
        ]


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


Metric = Quartiles | Table | float
Metrics = Mapping[str, Metric]
"""By name."""


def interleave(
    measured: Sequence[Runnable],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[list[float]]:
    """Yields the seconds of a chunk of each, [measured], after each of `rounds` rounds.

    Each runs once in a round, and the first one changes from round to round. An extra round comes
    first and does not count, because it compiles, loads and allocates.
    """
    for each in measured:
        each.run()
    for turn in range(rounds):
        seconds = [0.0] * len(measured)
        for i in range(len(measured)):
            which = (turn + i) % len(measured)
            start = clock()
            measured[which].run()
            seconds[which] = clock() - start
        yield seconds


def rates(work: Work, seconds: Sequence[float]) -> dict[str, Quartiles]:
    """Env steps and updates per second of chunks that took `seconds`. Leaves out an amount of 0."""
    amounts = {"env_steps": work.env_steps, "updates": work.updates}
    return {
        f"{work.name}.{unit}_per_second": Quartiles.of(amount / x for x in seconds)
        for unit, amount in amounts.items()
        if amount
    }


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Quartiles:
    """Quartiles over the rounds of the ratio in each round."""
    return Quartiles.of(a / b for a, b in zip(numerator, denominator, strict=True))
