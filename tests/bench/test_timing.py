"""Turns and quartiles, on clocks that are told the time."""

from dataclasses import dataclass, field

import pytest

from fpmd_mjx.bench.timing import Measured, Quartiles, Table, interleave, rates, ratio


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Worker:
    """Takes `costs` seconds of `clock`, one after the other, and notes its turns in `log`."""

    name: str
    costs: list[float]
    clock: Clock
    log: list[str]
    env_steps: int = 60
    updates: int = 0
    turns: int = field(default=0)

    def run(self) -> None:
        self.clock.now += self.costs[self.turns]
        self.turns += 1
        self.log.append(self.name)


def workers(**costs: list[float]) -> tuple[list[Worker], Clock, list[str]]:
    clock, log = Clock(), []  # type: tuple[Clock, list[str]]
    return [Worker(name, each, clock, log) for name, each in costs.items()], clock, log


def test_each_chunk_is_timed_alone_and_the_first_round_does_not_count() -> None:
    found, clock, _ = workers(a=[100.0, 1.0, 2.0], b=[50.0, 10.0, 20.0])
    measured: list[Measured] = list(found)
    assert list(interleave(measured, 2, clock)) == [[1.0, 10.0], [2.0, 20.0]]


def test_they_take_turns_and_take_turns_in_beginning() -> None:
    found, clock, log = workers(a=[1.0] * 4, b=[1.0] * 4, c=[1.0] * 4)
    list(interleave(found, 3, clock))
    assert "".join(log) == "abc" + "abc" + "bca" + "cab"


def test_what_slows_the_machine_for_a_while_leaves_ratios_alone() -> None:
    slowdown = [1.0, 1.0, 5.0, 5.0, 1.0]
    found, clock, _ = workers(a=[2 * x for x in slowdown], b=[3 * x for x in slowdown])
    a, b = zip(*interleave(found, 4, clock), strict=True)
    assert max(a) == 5 * min(a)
    assert ratio(b, a) == Quartiles(1.5, 1.5, 1.5)


def test_a_round_is_known_before_the_next_one_runs() -> None:
    found, clock, log = workers(a=[1.0] * 3, b=[1.0] * 3)
    assert next(interleave(found, 2, clock)) == [1.0, 1.0]
    assert "".join(log) == "ab" + "ab"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7.0], (7.0, 7.0, 7.0)),
        ([1.0, 3.0], (1.5, 2.0, 2.5)),
        ([5.0, 1.0, 4.0, 2.0, 3.0], (2.0, 3.0, 4.0)),
    ],
)
def test_quartiles(values: list[float], expected: tuple[float, float, float]) -> None:
    assert Quartiles.of(values) == Quartiles(*expected)


def test_a_table_is_aligned_and_numbers_stand_to_the_right() -> None:
    table = Table(("kernel", "count", "share"), (("gemm", 12, 0.75), ("a sort", 3, 0.123456789)))
    assert table.lines() == [
        "kernel  count     share",
        "gemm       12      0.75",
        "a sort      3  0.123457",
    ]
    assert Table(("kernel", "count"), ()).lines() == ["kernel  count"]


def test_rates_are_of_the_work_there_is() -> None:
    [worker], _, _ = workers(a=[])
    assert rates(worker, [1.0, 2.0, 3.0]) == {"a.env_steps_per_second": Quartiles(25.0, 30.0, 45.0)}
    worker.env_steps, worker.updates = 0, 6
    assert rates(worker, [2.0]) == {"a.updates_per_second": Quartiles(3.0, 3.0, 3.0)}
