"""Which runs are trained, what stays of them, and what is shown, without training."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fpmd_mjx import cli
from fpmd_mjx.bench import fresh, target
from fpmd_mjx.bench.agent import run
from fpmd_mjx.bench.agent.yardstick import load, parse_settings
from fpmd_mjx.config.load import from_yaml
from fpmd_mjx.run import provenance

YARDSTICK = load("tuning", ["dmc/cheetah_run", "dmc/reacher_hard"], seeds=2)
SETTINGS = parse_settings(["before=", "after=learn.batch=512"], YARDSTICK)


class Trained:
    """A stand-in for training, whose returns depend on batch and seed."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, int]] = []
        self.broken = ""

    def __call__(self, function: Any, text: str, cores: list[int]) -> Iterator[fresh.Record]:
        assert function is run.train
        config = from_yaml(text)
        self.runs.append((config.task.name, config.learn.batch))
        for i in range(1, 5):
            if config.task.name == self.broken and i == 3:
                raise RuntimeError("train failed in its own process, status 1")
            yield {
                "return": 0.0,
                "returns": {"one_step": [config.learn.batch * i / 10, 50 * i]},
                "env_steps": 1000 * i,
                "updates": 100 * i,
                "train_seconds": 2.0 * i,
                "device": "a card",
            }


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    trained = Trained()

    class Closing:
        def __init__(self, *arguments: Any) -> None:
            self.records = trained(*arguments)

        def __iter__(self) -> Iterator[fresh.Record]:
            return self.records

        def close(self) -> None:
            pass

    monkeypatch.setattr(fresh, "run", Closing)
    monkeypatch.setattr(run, "program_id", lambda: "this program")
    return trained


ALL = [(task, batch) for task in ("dmc/cheetah_run", "dmc/reacher_hard") for batch in (256, 512)]


def test_settings_of_a_task_are_trained_together_and_only_once(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run.measure(YARDSTICK, SETTINGS, tmp_path, jobs=1)
    assert trained.runs == ALL
    first = capsys.readouterr().out
    assert "at equal seconds" in first
    assert (tmp_path / "scores.txt").read_text() == first
    run.measure(YARDSTICK, SETTINGS, tmp_path, jobs=2)
    assert trained.runs == ALL
    assert capsys.readouterr().out == first


def test_a_result_has_all_that_it_was_measured_with(trained: Trained, tmp_path: Path) -> None:
    run.measure(YARDSTICK, SETTINGS, tmp_path, jobs=1)
    result = json.loads((tmp_path / "after" / "dmc_reacher_hard.json").read_text())
    assert result["config"]["learn"]["batch"] == 512
    assert [record["env_steps"] for record in result["records"]] == [1000, 2000, 3000, 4000]
    assert {"commit", "versions", "command", "cores"} <= result.keys()
    assert result["device"] == "a card"  # as its own process names it


def test_another_program_or_other_settings_are_trained_again(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.measure(YARDSTICK, SETTINGS, tmp_path, jobs=1)
    changed = parse_settings(["before=", "after=learn.batch=128"], YARDSTICK)
    run.measure(YARDSTICK, changed, tmp_path, jobs=1)
    assert trained.runs[4:] == [("dmc/cheetah_run", 128), ("dmc/reacher_hard", 128)]
    for i, broken in enumerate(("cut sho", "{}", "[1]")):
        (tmp_path / "before" / "dmc_cheetah_run.json").write_text(broken)
        run.measure(YARDSTICK, changed, tmp_path, jobs=1)
        assert trained.runs[6 + i :] == [("dmc/cheetah_run", 256)]
    monkeypatch.setattr(run, "program_id", lambda: "another program")
    run.measure(YARDSTICK, changed, tmp_path, jobs=1)
    assert len(trained.runs) == 9 + 4


def test_a_run_that_fails_does_not_stop_the_others(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained.broken = "dmc/cheetah_run"
    failed = run.measure(YARDSTICK, SETTINGS, tmp_path, jobs=1)
    assert failed == ["before dmc/cheetah_run", "after dmc/cheetah_run"]
    said = capsys.readouterr().err.replace("\n", " ")
    assert "before dmc/cheetah_run failed: train failed" in said
    assert "2 of 4 runs failed" in said
    assert trained.runs == ALL
    trained.broken = ""
    run.measure(YARDSTICK, SETTINGS, tmp_path, jobs=1)
    assert trained.runs[4:] == ALL[:2]


@pytest.mark.parametrize(("failed", "code"), [([], 0), (["a dmc/cheetah_run"], 1)])
def test_a_failed_run_shows_in_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, failed: list[str], code: int
) -> None:
    monkeypatch.setattr(run, "measure", lambda *arguments: failed)
    assert cli.main(["bench", "agent", "a=", "--task", "dmc/cheetah_run"]) == code


def test_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3, 4}, raising=False)
    assert run.shares(1) == [[0, 1, 2, 3, 4]]
    assert run.shares(2) == [[0, 1], [2, 3]]
    assert run.shares(7) == [[0], [1], [2], [3], [4], [0], [1]]
    monkeypatch.delattr(os, "sched_getaffinity")
    assert run.shares(2) == [[], []]


def test_a_process_trains_to_the_end_on_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Any] = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda *x: called.append(x), raising=False)

    def train(*arguments: Any) -> Iterator[fresh.Record]:
        called.append(arguments)
        yield {"a": 1}

    monkeypatch.setattr(target, "train", train)
    assert list(run.train("text", [1])) == [{"a": 1, "device": provenance.device()}]
    assert called == [(0, [1]), ("text", None, ["one_step"])]
