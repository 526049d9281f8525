"""`fpmd tasks --parity`: what it measures, keeps and shows; nothing is simulated here."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

import envs
from envs import originals, registry
from envs.devtools import parity
from envs.devtools.parity import page, sweep
from envs.devtools.parity.tolerances import TOLERANCE, tolerance
from fpmd_mjx import cli
from fpmd_mjx.report import tasks
from fpmd_mjx.report.records import write_json
from fpmd_mjx.run.provenance import provenance

NAMES = ["gym/InvertedPendulum-v4", "gym/InvertedPendulum-v5", "dmc/cartpole_balance"]

EXACT = {
    "states": 2000,
    "contacts": 0.25,
    "paid": 1.0,
    "one_step": {x: {"max": 1e-5, "p99": 1e-6} for x in ("obs", "reward", "qpos", "qvel")},
    "open_loop": {x: {"max": 2e-4, "median": 1e-6} for x in ("obs", "reward", "qpos", "qvel")},
    "rounding": {
        "one_step": {"beyond": 0, "explained": 0},
        "open_loop": {"beyond": 0, "explained": 0},
    },
    "flags": {"episodes": 20, "terminated": 18, "different": 0},
    "resets": {"port": 2000, "original": 2000, "p": 0.25, "tests": 18},
    "returns": {
        "controller": "balance",
        "episodes": 20,
        "steps": 1000,
        "port": [10.0, 9.0, 11.0],
        "original": [10.5, 9.5, 11.5],
    },
    "seconds": 12.0,
}


def changed(**parts: dict[str, Any]) -> dict[str, Any]:
    """EXACT with some entries of some parts replaced."""
    found = copy.deepcopy(EXACT)
    for part, entries in parts.items():
        found[part] |= entries
    return found


def rounded(part: str, beyond: int, explained: int) -> dict[str, Any]:
    """EXACT with errors beyond the tolerance, of which rounding explains some."""
    found = changed(**{part: {"obs": {"max": 0.01, "p99": 0.0, "median": 0.0}}})
    found["rounding"][part] = {"beyond": beyond, "explained": explained}
    return found


@pytest.mark.parametrize(
    ("name", "found", "status"),
    [
        ("gym/Ant-v5", EXACT, "within stated tolerance"),
        ("gym/Ant-v4", EXACT, "exact"),
        ("gym/Humanoid-v4", EXACT, "within stated tolerance"),
        ("gym/HumanoidStandup-v5", EXACT, "within stated tolerance"),
        ("dmc/humanoid_run", EXACT, "exact"),
        # The original is changed.
        ("dmc/dog_run", EXACT, "within stated tolerance"),
        ("dmc/dog_fetch", EXACT, "within stated tolerance"),
        ("gym/Ant-v5", changed(one_step={"obs": {"max": 0.21}}), "differs: one_step"),
        ("dmc/dog_run", changed(flags={"different": 1}), "differs: flags"),
    ],
)
def test_exact_is_said_of_the_usual_tolerance_and_the_original_as_released(
    name: str, found: dict[str, Any], status: str
) -> None:
    found = copy.deepcopy(found)
    found["rounding"]["one_step"]["beyond"] = int(found["one_step"]["obs"]["max"] > 0.2)
    assert parity.status(name, found) == status
    assert parity.passed(name, found) == (not status.startswith("differs"))


def test_every_task_that_is_held_to_something_of_its_own_is_told_apart() -> None:
    """By what is compared, not by the lists of names: no exact task has a larger error."""
    for name, found in parity.measured().items():
        told = parity.status(name, found)
        usual = tolerance(name).one_step == TOLERANCE and not found.get("released")
        assert told == ("exact" if usual else "within stated tolerance"), name


@pytest.mark.parametrize(
    ("name", "found", "status"),
    [
        ("gym/InvertedPendulum-v5", EXACT, "exact"),
        ("gym/InvertedPendulum-v5", None, "not measured"),
        ("dmc/cheetah_run", changed(open_loop={"obs": {"max": 1.0}}), "exact"),
        ("dmc/cartpole_balance", rounded("open_loop", beyond=4, explained=3), "open_loop"),
        ("dmc/cartpole_balance", rounded("open_loop", beyond=4, explained=4), "exact"),
        ("dmc/cheetah_run", rounded("one_step", beyond=4, explained=3), "one_step"),
        ("dmc/cheetah_run", rounded("one_step", beyond=40, explained=40), "exact"),
        # More than 2 %.
        ("dmc/cheetah_run", rounded("one_step", beyond=41, explained=41), "one_step"),
        ("dmc/cartpole_balance", changed(open_loop={"qvel": {"max": 0.01}}), "exact"),
        ("dmc/cartpole_balance", rounded("one_step", beyond=1, explained=0), "one_step"),
        ("dmc/cartpole_balance", changed(flags={"different": 1}), "flags"),
        ("dmc/cartpole_balance", changed(resets={"p": 1e-5}), "resets"),
        ("dmc/cartpole_balance", changed(returns={"port": [9.4, 7.0, 12.0]}), "returns"),
        ("dmc/cartpole_balance", changed(returns={"original": [10.9, 10.1, 11.7]}), "returns"),
        ("dmc/cartpole_balance", changed(returns={"port": [10.505, 10.504, 10.506]}), "exact"),
        (
            "dmc/cartpole_balance",
            changed(flags={"different": 1}, resets={"p": 0.0}),
            "flags, resets",
        ),
    ],
)
def test_status(name: str, found: dict[str, Any] | None, status: str) -> None:
    plain = status in ("exact", "not measured")
    assert parity.status(name, found) == (status if plain else f"differs: {status}")


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tasks as they are measured, of NAMES alone, by a stand-in that finds EXACT."""
    seen: list[str] = []

    def measure(port: str, real: str) -> dict[str, Any]:
        assert port == real
        seen.append(port)
        return EXACT

    monkeypatch.setattr(parity, "RECORDS", tmp_path / "measured.json")
    for module in (page, sweep):
        monkeypatch.setattr(module, "PAGE", tmp_path / "parity.md")
    monkeypatch.setattr(parity, "comparable", lambda: NAMES)
    monkeypatch.setattr(parity, "measure", measure)
    monkeypatch.setattr(sweep.Port, "of", lambda env: env)
    monkeypatch.setattr(registry, "make", lambda name: name)
    monkeypatch.setattr(originals, "make_real", lambda name: name)
    return seen


def sweep_of(patterns: list[str]) -> list[str]:
    return sweep.sweep(patterns, provenance(), write_json)


def test_within_its_stated_tolerance_a_task_passes(
    records: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["dmc/dog_run", "gym/Ant-v5", "gym/InvertedPendulum-v5"]
    monkeypatch.setattr(parity, "comparable", lambda: names)
    assert cli.main(["tasks", "--parity"]) == 0
    assert records == names
    shown = capsys.readouterr().out
    assert "dmc/dog_run: within stated tolerance (12 s" in shown
    assert "gym/InvertedPendulum-v5: exact (12 s" in shown
    text = page.PAGE.read_text()
    assert "of 3 measured tasks, 1 is exact and 2 are within a stated tolerance" in text


def test_what_is_missing_is_measured(records: list[str]) -> None:
    assert sweep_of([NAMES[1]]) == []
    assert sweep_of([]) == []
    assert records == [NAMES[1], NAMES[0], NAMES[2]]
    assert sweep_of([]) == []
    assert len(records) == 3
    assert list(parity.measured()) == NAMES
    assert parity.measured()[NAMES[0]]["commit"] == provenance()["commit"]


def test_what_was_measured_with_other_versions_is_measured_again(records: list[str]) -> None:
    sweep_of([])
    found = parity.measured()
    found[NAMES[1]]["versions"]["mujoco-mjx"] = "1.0"
    parity.RECORDS.write_text(json.dumps(found))
    records.clear()
    sweep_of([])
    assert records == [NAMES[1]]


def test_patterns_measure_again(records: list[str]) -> None:
    sweep_of([])
    records.clear()
    sweep_of(["gym/*"])
    assert records == NAMES[:2]
    with pytest.raises(sweep.NothingToMeasureError, match="humanoid matches no task"):
        sweep_of(["gym/*", "humanoid"])
    assert records == NAMES[:2]


def test_an_interrupted_sweep_goes_on(records: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = parity.measure

    def stopped(port: str, real: str) -> dict[str, Any]:
        if records:
            raise KeyboardInterrupt
        return whole(port, real)

    monkeypatch.setattr(parity, "measure", stopped)
    with pytest.raises(KeyboardInterrupt):
        sweep_of([])
    monkeypatch.setattr(parity, "measure", whole)
    sweep_of([])
    assert records == NAMES


def test_a_broken_task_keeps_no_other_from_being_measured(
    records: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = parity.measure

    def broken(port: str, real: str) -> dict[str, Any]:
        if port == NAMES[0]:
            raise FloatingPointError("it broke")
        return whole(port, real) if port == NAMES[1] else changed(flags={"different": 1})

    monkeypatch.setattr(parity, "measure", broken)
    assert cli.main(["tasks", "--parity"]) == 1
    shown = capsys.readouterr()
    assert f"{NAMES[0]}: FloatingPointError: it broke" in shown.err
    assert f"{NAMES[1]}: exact (12 s; of 2000 steps" in shown.out
    assert f"{NAMES[2]}: differs: flags" in shown.out
    assert list(parity.measured()) == NAMES[1:]
    assert f"Not measured yet: `{NAMES[0]}`." in page.PAGE.read_text()


def test_a_task_without_its_backend_is_listed_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make = envs.make

    def without_warp(name: str) -> envs.Env:
        if name.startswith("dmc/dog"):
            raise ModuleNotFoundError("install warp")
        return make(name)

    monkeypatch.setattr(envs, "make", without_warp)
    monkeypatch.setattr(envs, "tasks", lambda: ["dmc/dog_run", "gym/InvertedPendulum-v5"])
    tasks.show()
    _, dog, pendulum, *_ = capsys.readouterr().out.splitlines()
    assert dog.split() == ["dmc/dog_run", "install", "warp"]
    assert pendulum.split()[:3] == ["gym/InvertedPendulum-v5", "4", "1"]


def test_the_page_is_that_of_the_committed_records() -> None:
    assert page.PAGE.read_text() == page.page(parity.measured())
