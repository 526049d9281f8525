"""The command that measures solver limits and buffer sizes."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from envs.devtools import tune
from envs.physics.limits import _LIMITS, limits_of

EVIDENCE = Path(__file__).parents[3] / "benchmarks" / "solver"


def test_the_smallest_that_passes_is_found() -> None:
    candidates = (1, 2, 4, 8, 16)
    for limit in range(20):
        asked: list[int] = []

        def passes(count: int, limit: int = limit, asked: list[int] = asked) -> bool:
            asked.append(count)
            return count >= limit

        wanted = next((count for count in candidates if count >= limit), None)
        assert tune.smallest(candidates, passes) == wanted
        assert len(asked) <= 3


def test_the_next_larger_is_the_margin() -> None:
    assert tune.next_larger((1, 2, 4), 1) == 2
    assert tune.next_larger((1, 2, 4), 2) == 4
    # Then the model's own.
    assert tune.next_larger((1, 2, 4), 4) is None
    assert tune.next_larger((1, 2, 4), None) is None


def test_the_command_leaves_its_evidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tune, "_ITERATIONS", (8, 10))
    monkeypatch.setattr(tune, "_LS_ITERATIONS", (12, 16))
    monkeypatch.setattr(tune, "_TURN_SECONDS", 0.01)
    argv = ["tune", "dmc/point_mass_easy", "--states", "20", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", argv)
    tune.main()
    evidence = json.loads((tmp_path / "dmc_point_mass_easy.json").read_text())
    limits = evidence["limits"]
    assert evidence["smallest"] == {"iterations": 8, "ls_iterations": 12}
    assert (limits["iterations"], limits["ls_iterations"]) == (10, 16)
    assert {(x["iterations"], x["ls_iterations"]) for x in evidence["tried"]} >= {(8, None)}
    for buffer in ("contacts", "constraints"):
        assert evidence["most_in_warp"][buffer] >= evidence["most_in_c"][buffer]
        assert limits[buffer] >= 1.5 * evidence["most_in_warp"][buffer]
    rates = evidence["control_steps_per_second"]
    assert min(rates["before"], rates["after"]) > 0
    assert "iterations=10, ls_iterations=16" in capsys.readouterr().out


MORE = {
    "dmc/dog_walk": {"constraints"},
    "dmc/manipulator_bring_ball": {"iterations", "ls_iterations"},
    "dmc/quadruped_walk": {"iterations"},
}
"""Limits that are larger than their evidence."""

UNMEASURED = ("dmc/humanoid_CMU", "dmc/stacker", "dmc/manipulator_bring_peg")


def evidence() -> dict[str, dict[str, Any]]:
    """What was measured, by task."""
    found = [json.loads(path.read_text()) for path in EVIDENCE.glob("*.json")]
    return {each["task"]: each for each in found}


def test_every_limit_has_evidence() -> None:
    assert len(list(EVIDENCE.glob("*.json"))) == len(evidence())

    def domain(task: str) -> str:
        return re.split("[-_]", task)[0]

    for task in _LIMITS:
        alike = [x for x in evidence() if task.startswith(domain(x))]
        measured = any(limits_of(x) == limits_of(task) for x in alike)
        assert measured != task.startswith(UNMEASURED), task


def test_limits_are_those_of_the_evidence() -> None:
    larger: dict[str, set[str]] = {}
    for task, found in evidence().items():
        limits: dict[str, Any] = dict(limits_of(task))
        assert limits.get("impl", "jax") == found["impl"]
        measured = dict(found["limits"])
        if not found["most_in_c"]["constraints"]:  # nothing was to be solved, nothing was shown
            del measured["iterations"], measured["ls_iterations"]
            assert (limits.get("iterations"), limits.get("ls_iterations")) in (
                (8, 12),
                (None, None),
            )
        for what, value in measured.items():
            assert limits[what] >= value, (task, what)
            if limits[what] > value:
                larger.setdefault(task, set()).add(what)
    assert larger == MORE


def test_the_evidence_says_what_was_measured() -> None:
    """The smallest limits that pass, the next larger ones, and room in the buffers, worked out
    anew from the errors and counts."""
    for task, found in evidence().items():
        reference, chosen = found["own"], found["smallest"]

        def passes(tried: dict[str, Any], reference: dict[str, Any] = reference) -> bool:
            return all(tried[x] <= 1.5 * reference[x] + 1e-6 for x in ("p99", "max"))

        of_solver = {x["iterations"]: passes(x) for x in found["tried"] if not x["ls_iterations"]}
        of_search = {x["ls_iterations"]: passes(x) for x in found["tried"] if x["ls_iterations"]}
        assert {x["iterations"] for x in found["tried"] if x["ls_iterations"]} == {
            chosen["iterations"]
        }
        for what, tried in (("iterations", of_solver), ("ls_iterations", of_search)):
            assert min(count for count, passed in tried.items() if passed) == chosen[what], task
            assert all(count < chosen[what] for count, passed in tried.items() if not passed)
            assert found["limits"][what] > chosen[what]
        for what, most in found["most_in_warp"].items():
            assert most >= found["most_in_c"][what]
            room = found["limits"][what]
            assert room % 8 == 0
            assert 1.5 * most <= room < 1.5 * most + 8 or room == 8


def test_what_was_not_measured_is_left_open() -> None:
    assert limits_of("dmc/cheetah_run")["iterations"] == 8
    assert limits_of("dmc/unheard_of") == {}
