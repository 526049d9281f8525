"""Campaigns of stand-in commands: what is measured, in what order, and what every end leaves."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fpmd_mjx import cli
from fpmd_mjx.bench import fresh
from fpmd_mjx.bench.campaign import cells, command, run
from fpmd_mjx.bench.campaign.cells import Cell
from fpmd_mjx.bench.campaign.parts import missing_seeds, seeds_at_once
from fpmd_mjx.bench.campaign.run import Runner
from fpmd_mjx.bench.campaign.store import Record, Store

ROOT = Path(__file__).parents[3]
CARD: dict[str, Any] = {"device": "a card", "platform": "gpu", "driver": "1", "commit": "c"}
CARD |= {"versions": {"jax": "2", "mujoco-mjx": "3", "warp-lang": "4"}}


def cell(name: str = "one", how: str = "well", **changes: Any) -> Cell:
    settings: dict[str, Any] = {
        "name": name,
        "title": name,
        "words": ("program", f"how={how}"),
        "rounds": 1,
        "seconds": 1.0,
        "limit": 90.0,
        "env": {},
        "needs": (),
        "seeds": 0,
        "figures": {"rate": "some.rate"},
    }
    return Cell(**settings | changes)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "CHILD", "tests.bench.campaign.stand_in")
    monkeypatch.chdir(ROOT)


@pytest.fixture
def campaign(stand_in: None, tmp_path: Path) -> Callable[..., Store]:
    """Runs cells as one campaign of `program`, and returns what it left."""

    def measure(
        *todo: Cell, program: str = "p", again: tuple[str, ...] = (), left: float = math.inf
    ) -> Store:
        store = Store(tmp_path)
        runner = Runner(store, CARD, program, time.monotonic() + left)
        runner.recover(todo)
        runner.run(runner.queue(list(todo), set(again)), set(again))
        return store

    return measure


def complete(store: Store, name: str) -> Record:
    record = store.complete(name)
    assert record is not None
    return record


def attempt(store: Store, name: str) -> Record:
    record = store.open(name)
    assert record is not None
    return record


def test_a_result_says_what_was_measured_with_what(campaign: Callable[..., Store]) -> None:
    store = campaign(cell(env={"XLA_FLAGS": "--a=b c"}))
    record = complete(store, "one")
    assert record.status == "measured"
    assert record.reason is None
    assert record.metrics == {"some.rate": {"q1": 1.0, "median": 2.0, "q3": 3.0}}
    command = "fpmd bench program how=well --rounds 1 --shared-caches"
    assert record.command == f"XLA_FLAGS='--a=b c' {command}"
    assert record.provenance == {k: CARD[k] for k in ("device", "driver", "versions", "commit")}
    assert record.seconds > 0
    assert store.open("one") is None


def test_what_is_there_is_not_measured_again(campaign: Callable[..., Store]) -> None:
    store = campaign(cell())
    path = store.folder / "one.json"
    written = path.stat().st_mtime_ns
    campaign(cell())
    assert path.stat().st_mtime_ns == written
    campaign(cell(), again=("one",))
    assert path.stat().st_mtime_ns > written
    written = path.stat().st_mtime_ns
    assert complete(campaign(cell(), program="another"), "one").program == "another"
    assert path.stat().st_mtime_ns > written


@pytest.mark.parametrize(
    "change",
    [
        {"words": ("program", "how=well", "num_envs=9")},
        {"env": {"XLA_FLAGS": "--x"}},
        {"rounds": 2},
        {"needs": ("warp",)},
    ],
)
def test_a_result_of_another_command_or_other_packages_is_measured_anew(
    campaign: Callable[..., Store], monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    store = campaign(cell(needs=("warp",)) if "needs" in change else cell())
    if "needs" in change:
        newer = CARD["versions"] | {"warp-lang": "5"}
        monkeypatch.setitem(CARD, "versions", newer)
    path = store.folder / "one.json"
    written = path.stat().st_mtime_ns
    campaign(cell(**change))
    assert path.stat().st_mtime_ns > written


def test_what_was_never_measured_comes_before_what_is_stale_or_failed(
    campaign: Callable[..., Store], tmp_path: Path
) -> None:
    campaign(cell("stale"), cell("failed", "in vain"))
    campaign(cell("there"), program="next")
    todo = [cell(name) for name in ("there", "failed", "stale", "new", "again")]
    campaign(cell("again"), program="next")
    runner = Runner(Store(tmp_path), CARD, "next", math.inf)
    queue = runner.queue(todo, {"again"})
    assert [each.name for each in queue] == ["new", "again", "failed", "stale"]


@pytest.mark.parametrize(
    ("how", "status", "reason"),
    [
        ("in vain", "failed", "exit code 2: fpmd: learn.batch=0 is not possible: give a whole"),
        ("short of memory", "partial", "exit code 1: MemoryError"),
        ("killed", "partial", "killed by SIGKILL, as the system does when memory is short"),
    ],
)
def test_a_failure_leaves_its_reason_and_what_was_measured_and_the_next_cell_runs(
    campaign: Callable[..., Store], how: str, status: str, reason: str
) -> None:
    store = campaign(cell("bad", how), cell("good"))
    record = attempt(store, "bad")
    assert record.status == status
    assert record.reason is not None
    assert record.reason.startswith(reason)
    assert ("some.rate" in record.metrics) == (status == "partial")
    assert complete(store, "good").status == "measured"


def test_what_was_interrupted_comes_first_and_what_failed_last(
    campaign: Callable[..., Store], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "GRACE", 2.0)
    store = campaign(cell("cut", "for ever"), left=6.0)
    assert str(attempt(store, "cut").reason).endswith("the campaign's time was up")
    campaign(cell("long", "for ever", limit=3.0), cell("broken", "in vain"))
    todo = [cell("new"), cell("long", "for ever", limit=3.0), cell("broken", "in vain")]
    todo.append(cell("cut", "for ever"))
    queue = Runner(Store(tmp_path), CARD, "p", math.inf).queue(todo, set())
    assert [each.name for each in queue] == ["new", "cut", "long", "broken"]


def test_an_attempt_without_a_result_leaves_those_before(campaign: Callable[..., Store]) -> None:
    campaign(cell(how="killed"))
    record = attempt(campaign(cell(how="in vain")), "one")
    assert "some.rate" in record.metrics
    reason = "with the results of an earlier attempt: exit code 2: fpmd: learn.batch=0"
    assert str(record.reason).startswith(reason)


def test_an_interruption_without_a_result_still_comes_first(tmp_path: Path) -> None:
    store, one = Store(tmp_path), cell()
    runner = Runner(store, CARD, "p", math.inf)
    store.write(runner._record(one, "partial", "it broke", [{"cells": []}], 1.0))
    assert runner._rank(one, again=False) == 1
    store.write(runner._record(one, "failed", "interrupted", [], 1.0))
    assert runner._rank(one, again=False) == 0


def test_limits_in_a_command_leave_time_to_end(
    campaign: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = cell(words=("target", "how=well", "limit=60"))
    assert complete(campaign(one), "one").metrics["curve.limit"] == 60.0
    record = complete(campaign(one, program="next", left=50.0), "one")
    assert 0 < record.metrics["curve.limit"] <= 20.0  # GRACE at the end, and GRACE to end by itself


def test_a_failure_does_not_replace_a_result(campaign: Callable[..., Store]) -> None:
    campaign(cell())
    store = campaign(cell(how="killed"), program="next")
    assert complete(store, "one").program == "p"
    assert attempt(store, "one").program == "next"


def test_a_command_beyond_its_limit_is_stopped_and_what_it_measured_is_kept(
    campaign: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "GRACE", 3.0)
    store = campaign(cell("long", "for ever", limit=6.0), cell("deaf", "deaf", limit=6.0))
    for name in ("long", "deaf"):
        record = attempt(store, name)
        assert record.status == "partial"
        assert record.reason == "stopped after 6 s: its limit"
        assert "some.rate" in record.metrics
    assert attempt(store, "long").seconds < attempt(store, "deaf").seconds
    assert attempt(store, "deaf").seconds < 30


def test_a_result_without_its_figures_is_not_complete(campaign: Callable[..., Store]) -> None:
    record = attempt(campaign(cell(figures={"rate": "some.rates"})), "one")
    assert record.status == "partial"
    assert record.reason == "none of its figures, such as some.rates, is there"


def test_a_result_of_another_device_is_none(
    campaign: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = campaign(cell(env={"DEVICE": "x86_64 CPU, 2 cores"}))
    record = attempt(store, "one")
    assert record.status == "failed"
    assert record.reason == "it ran on the x86_64 CPU, 2 cores, not on the a card"
    assert not record.results


def test_no_cell_begins_that_will_not_fit(campaign: Callable[..., Store]) -> None:
    todo = cell("large", seconds=300.0), cell("medium", seconds=50.0), cell("small", seconds=40.0)
    store = campaign(*todo, left=60.0)  # of which the last 15 s are for a command that is stopped
    assert store.complete("large") is None
    assert store.open("large") is None
    assert store.complete("medium") is None
    assert store.complete("small") is not None


def test_a_command_is_stopped_before_the_campaigns_time_is_up(
    campaign: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "GRACE", 3.0)
    start = time.monotonic()
    store = campaign(cell("long", "for ever"), left=9.0)
    assert time.monotonic() - start < 9.0
    reason = attempt(store, "long").reason
    assert reason is not None
    assert reason.startswith("stopped after ")


def test_the_estimate_is_what_it_took_before(
    campaign: Callable[..., Store], tmp_path: Path
) -> None:
    one = cell(seconds=300.0)
    campaign(one)
    again = campaign(one, program="next", left=60.0)
    assert complete(again, "one").program == "next"


def test_results_of_others_count(campaign: Callable[..., Store], tmp_path: Path) -> None:
    campaign(cell())
    store = Store(tmp_path / "elsewhere", tmp_path)
    runner = Runner(store, CARD, "p", math.inf)
    assert runner.queue([cell()], set()) == []
    assert len(Runner(store, CARD, "q", math.inf).queue([cell()], set())) == 1


def test_a_missing_package_is_told_not_failed(
    campaign: Callable[..., Store], capsys: pytest.CaptureFixture[str]
) -> None:
    store = campaign(cell(needs=("no_such_package",)))
    assert "needs no_such_package, not installed here" in capsys.readouterr().err
    assert store.open("one") is None


@pytest.mark.parametrize(
    ("status", "output", "reason"),
    [
        (2, "x\nfpmd: learn.batch=0 is not possible.\n", "exit code 2: fpmd: learn.batch=0 is not"),
        (
            1,
            "Traceback\n  File x\njax.errors.JaxRuntimeError: INTERNAL: no kernel\n"
            "Traceback\n  for record in fresh.run(start):\n"
            "RuntimeError: start failed in its own process, status 1\n",
            "exit code 1: jax.errors.JaxRuntimeError: INTERNAL: no kernel",
        ),
        (
            1,
            "jax.errors.JaxRuntimeError: RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\n"
            "RuntimeError: start failed in its own process, status 1\n",
            "exit code 1: jax.errors.JaxRuntimeError: RESOURCE_EXHAUSTED: Out of memory",
        ),
        (
            1,
            "W0000 bfc.cc] Allocator ran out of memory trying to allocate 9GiB. The caller "
            "indicates that this is not a failure\nZeroDivisionError: division by zero\n",
            "exit code 1: ZeroDivisionError",
        ),
        (
            1,
            "Traceback\nRuntimeError: start failed in its own process, status -9\n",
            "killed by SIGKILL, as the system does when memory is short",
        ),
        (
            -6,
            "F1127 env.cc:93] Check failed: ret == 0 (11 vs. 0)\n"
            "*** Check failure stack trace: ***\n"
            "    @     0x7f7756158ba3  PyObject_Vectorcall\n",
            "killed by SIGABRT; last line: F1127 env.cc:93] Check failed: ret == 0",
        ),
        (-11, "", "killed by SIGSEGV"),
        (1, "", "exit code 1"),
    ],
)
def test_the_reason_of_a_failure(status: int, output: str, reason: str) -> None:
    assert command.failure(status, output).startswith(reason)


# ---------------------------------------------------------------------------------- seeds in parts


def seeds_cell(how: str = "well", **changes: Any) -> Cell:
    """Of eight seeds, of which on paper four fit into the limit less `GRACE`."""
    settings: dict[str, Any] = {"seeds": 8, "seconds": 150.0, "limit": 115.0}
    return cell("seeds", how, **settings | changes)


def trained(record: Record) -> list[int]:
    return sorted(int(name.rpartition("_")[2]) for name in record.metrics if "seed_" in name)


def test_all_seeds_at_once_where_they_fit(campaign: Callable[..., Store]) -> None:
    record = complete(campaign(seeds_cell(limit=165.0)), "seeds")
    assert [(part["seed"], part["seeds"]) for part in record.parts] == [(0, 8)]
    assert trained(record) == list(range(8))
    assert record.metrics["curve.limit"] == 150.0  # so that it can end before it is stopped


def test_fewer_at_a_time_where_they_do_not_and_all_in_the_end(
    campaign: Callable[..., Store],
) -> None:
    record = complete(campaign(seeds_cell("slow above 2", limit=165.0)), "seeds")
    ended = [(part["seed"], part["seeds"]) for part in record.parts if part["ended"]]
    assert ended == [(0, 2), (2, 2), (4, 2), (6, 2)]
    assert [part["seeds"] for part in record.parts if not part["ended"]] == [8, 4]
    assert trained(record) == list(range(8))


def test_fewer_at_a_time_where_memory_is_short(campaign: Callable[..., Store]) -> None:
    record = complete(campaign(seeds_cell("killed above 4", limit=165.0)), "seeds")
    assert [(p["seed"], p["seeds"], p["ended"]) for p in record.parts] == [
        (0, 8, False),
        (0, 4, True),
        (4, 4, True),
    ]
    assert trained(record) == list(range(8))


def test_seeds_that_are_missing_are_trained_the_next_time(campaign: Callable[..., Store]) -> None:
    record = attempt(campaign(seeds_cell("broken from 4")), "seeds")
    assert record.status == "partial"
    assert record.reason is not None
    assert record.reason.startswith("exit code 1: ZeroDivisionError")
    assert trained(record) == [0, 1, 2, 3]
    assert record.unfinished
    record = complete(campaign(seeds_cell()), "seeds")
    assert trained(record) == list(range(8))
    assert [part["seed"] for part in record.parts if part["ended"]] == [0, 4]


def test_seeds_of_another_program_are_not_mixed_in(campaign: Callable[..., Store]) -> None:
    campaign(seeds_cell("broken from 4"))
    record = complete(campaign(seeds_cell(limit=165.0), program="next"), "seeds")
    assert [(part["seed"], part["seeds"]) for part in record.parts] == [(0, 8)]


def test_no_seeds_begin_that_will_not_fit(
    campaign: Callable[..., Store], capsys: pytest.CaptureFixture[str]
) -> None:
    store = campaign(seeds_cell(), left=60.0)
    assert store.open("seeds") is None
    assert "no time   seeds                            for seeds 0 to 7" in capsys.readouterr().err


def test_seeds_that_are_missing_are_named(
    campaign: Callable[..., Store], capsys: pytest.CaptureFixture[str]
) -> None:
    campaign(seeds_cell(seeds=5))
    told = capsys.readouterr().err
    assert "seeds 2 to 4 still to train" in told
    assert "seed 4 still to train" in told
    campaign(cell("slow", "slow above 0", seeds=1, seconds=50.0))
    told = capsys.readouterr().err
    assert "seed 0 would take 160 s" in told
    assert "no time   slow                             for seed 0 within 75 s" in told


def test_sizes_of_parts() -> None:
    one = cell(seeds=8, seconds=400.0)
    assert seeds_at_once(one, [], 8, 400.0) == 8
    assert seeds_at_once(one, [], 8, 399.0) == 4
    assert seeds_at_once(one, [], 3, 400.0) == 2
    assert seeds_at_once(one, [], 8, 160.0) is None  # one takes 400 * (1 + 2 / 8) / 3
    assert seeds_at_once(one, [], 8, 170.0) == 1
    slow = [{"seed": 0, "seeds": 8, "seconds": 700.0, "ended": False}]
    assert seeds_at_once(one, slow, 8, 400.0) == 2
    too_large = [{"seed": 0, "seeds": 8, "seconds": None, "ended": False}]
    assert seeds_at_once(one, too_large, 8, 1000.0) == 4
    measured = [*slow, {"seed": 0, "seeds": 2, "seconds": 390.0, "ended": True}]
    assert seeds_at_once(one, measured, 6, 400.0) == 2
    assert missing_seeds(8, measured) == [2, 3, 4, 5, 6, 7]
    middle = [{"seed": 2, "seeds": 2, "seconds": 1.0, "ended": True}]
    assert missing_seeds(8, middle) == [0, 1]


def test_a_part_that_is_stopped_before_it_can_be_projected_is_followed_by_a_smaller_one(
    campaign: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "GRACE", 1.0)
    one = seeds_cell("for ever above 4", seconds=3.0, limit=5.0)
    store = campaign(one)
    [part] = attempt(store, "seeds").parts
    assert (part["seeds"], part["ended"]) == (8, False)
    assert part["seconds"] > 7.0
    record = complete(campaign(one), "seeds")
    # On paper then, 4 take 5 s and 2 take 3.75; what these really take is next to nothing.
    assert [part["seeds"] for part in record.parts if part["ended"]] == [2, 4, 2]


def test_seeds_of_another_command_are_not_mixed_in(campaign: Callable[..., Store]) -> None:
    campaign(seeds_cell("broken from 4"))
    other = seeds_cell(words=("curve", "how=well", "learn.gamma=0.5"))
    record = complete(campaign(other), "seeds")
    assert [part["seed"] for part in record.parts] == [0, 4]


def test_measuring_seeds_again_goes_on_where_it_was_stopped(campaign: Callable[..., Store]) -> None:
    campaign(seeds_cell())
    time.sleep(1.1)  # dates have seconds
    campaign(seeds_cell("broken from 4"), again=("seeds",))
    store = campaign(seeds_cell("broken from 4"))
    assert trained(attempt(store, "seeds")) == [0, 1, 2, 3]


def test_seeds_in_parts_are_no_failure(campaign: Callable[..., Store], tmp_path: Path) -> None:
    for how, limit, failures in (("slow above 2", 165.0, 0), ("broken from 4", 115.0, 1)):
        runner = Runner(Store(tmp_path / how), CARD, "p", math.inf)
        runner.run([seeds_cell(how, limit=limit)], set())
        assert runner.failures == failures


# --------------------------------------------------------------------------------- whole campaigns

DRIVER = """
import sys, types
from pathlib import Path
from fpmd_mjx.bench.campaign import run
from tests.bench.campaign.test_run import CARD, cell
run.CHILD = "tests.bench.campaign.stand_in"
store = run.Store(Path(sys.argv[1]))
runner = run.Runner(store, CARD, "p", float("inf"))
runner.run([cell("first"), cell("long", "for ever", limit=600.0)], set())
"""


def test_a_campaign_that_is_killed_goes_on(campaign: Callable[..., Store], tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)], cwd=ROOT)
    running = tmp_path / "long.running.json"
    deadline = time.monotonic() + 120
    while not running.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    while processes(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first = (tmp_path / "first.json").stat().st_mtime_ns
    store = campaign(cell("first"), cell("long", limit=600.0))
    assert (tmp_path / "first.json").stat().st_mtime_ns == first
    assert complete(store, "long").status == "measured"
    assert store.open("long") is None


def processes(folder: Path) -> str:
    """Process numbers of the commands that write to `folder`."""
    command = ["pgrep", "-f", f"stand_in.*{folder}"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def test_what_a_killed_campaign_measured_is_kept(stand_in: None, tmp_path: Path) -> None:
    store = Store(tmp_path)
    one = cell()
    from tests.bench.campaign import stand_in as module

    module.write(store.running(one), {"some.rate": 2.0}, "a card")
    Runner(store, CARD, "p", math.inf).recover((one,))
    record = attempt(store, "one")
    assert record.status == "partial"
    assert record.reason == "killed with its campaign"
    assert record.metrics == {"some.rate": 2.0}
    assert record.program == "p"


def test_what_a_campaign_of_another_commit_measured_is_not_this_programs(
    stand_in: None, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    one = cell()
    from tests.bench.campaign import stand_in as module

    module.write(store.running(one), {"some.rate": 2.0}, "a card", commit="b")
    Runner(store, CARD, "p", math.inf).recover((one,))
    record = attempt(store, "one")
    assert record.program == "unknown"
    assert record.provenance["commit"] == "b"


@pytest.fixture
def small(stand_in: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """The campaign `gpu` with other cells, on another card."""

    def replace(*todo: Cell, platform: str = "gpu") -> Path:
        found = cells.Campaign("gpu", "a test", todo)
        monkeypatch.setattr(cells, "load", lambda name, toy: found)
        found_card = [CARD | {"platform": platform}]
        monkeypatch.setattr(fresh, "run", lambda function, env: found_card)
        monkeypatch.setattr(run, "LOCKS", tmp_path)
        return tmp_path

    return replace


def test_the_command_writes_results_and_the_table(small: Callable[..., Path]) -> None:
    out = small(cell("good"), cell("bad", "in vain"))
    assert cli.main(["bench", "campaign", "gpu", "--out", str(out)]) == 1
    assert (out / "a-card" / "good.json").exists()
    assert (out / "a-card" / "bad.open.json").exists()
    text = (out / "table.md").read_text()
    assert "| good | rate | 2 |" in text
    assert "| bad | rate | not measured |" in text
    assert "- bad, failed: exit code 2: fpmd: learn.batch=0" in text


def test_a_machine_without_a_gpu_is_refused(
    small: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    out = small(cell(), platform="cpu")
    assert cli.main(["bench", "campaign", "--out", str(out)]) == 2
    assert "add --rehearse to run every cell at toy size on the CPU" in capsys.readouterr().err
    assert not (out / "a-card").exists()


def test_an_interruption_keeps_what_was_measured(
    small: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = small(cell("long", "for ever"), cell("never"))
    execute = command.execute

    def interrupt(*args: Any) -> Any:
        signal.setitimer(signal.ITIMER_REAL, 6.0)
        return execute(*args)

    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    monkeypatch.setattr(command, "execute", interrupt)
    assert cli.main(["bench", "campaign", "--out", str(out)]) == 128 + signal.SIGINT
    record = attempt(Store(out / "a-card"), "long")
    assert (record.status, record.reason) == ("partial", "interrupted")
    assert "some.rate" in record.metrics
    assert not (out / "a-card" / "never.json").exists()


def test_a_rehearsal_runs_two_cells_at_a_time_on_any_device(small: Callable[..., Path]) -> None:
    todo = [cell("a", "in turn", env={"OTHER": "b"}), cell("b", "in turn", env={"OTHER": "a"})]
    out = small(*todo, cell("c"), platform="cpu")
    assert cli.main(["bench", "campaign", "--rehearse", "--out", str(out)]) == 0
    assert all((out / "a-card" / f"{name}.json").exists() for name in "abc")


def test_an_interrupted_rehearsal_leaves_no_process(
    small: Callable[..., Path], tmp_path: Path
) -> None:
    out = small(*(cell(name, "for ever") for name in "abc"), platform="cpu")
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    signal.setitimer(signal.ITIMER_REAL, 6.0)
    assert cli.main(["bench", "campaign", "--rehearse", "--out", str(out)]) == 128 + signal.SIGINT
    assert not processes(tmp_path)
    assert not (out / "a-card" / "c.log").exists()


def test_two_campaigns_do_not_share_a_card(
    small: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    out = small(cell())
    with run._alone(out / "fpmd-campaign-a-card.lock"):
        assert cli.main(["bench", "campaign", "--out", str(out)]) == 2
    assert "another campaign has this card" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--minutes", "0"], "--minutes 0.0 is not possible: give a number above 0."),
        (["--again", "check-*"], "cell check-* is unknown: choose one of"),
        (["--cell", "ceiling"], "cell ceiling is unknown: choose one of ceilings"),
        (["gpus"], "campaign gpus is unknown: choose one of gpu"),
        (["--cache", "nowhere/x"], "--cache nowhere/x is not there: give the FILE of"),
    ],
)
def test_mistakes_are_told_before_anything_runs(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", "campaign", *words]) == 2
    assert message in capsys.readouterr().err
