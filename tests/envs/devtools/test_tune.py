"""The command that measures solver limits and buffer sizes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from envs.devtools import tune
from envs.physics.limits import limits_of

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


@pytest.mark.parametrize("path", sorted(EVIDENCE.glob("*.json")), ids=lambda path: path.stem)
def test_limits_are_those_of_the_evidence(path: Path) -> None:
    evidence = json.loads(path.read_text())
    limits = limits_of(evidence["task"])
    for what in ("contacts", "constraints"):
        assert limits[what] >= 1.5 * evidence["most_in_c"][what]  # type: ignore[literal-required]
    # Where nothing was to be solved, nothing was shown.
    if evidence["most_in_c"]["constraints"]:
        assert limits["iterations"] >= evidence["limits"]["iterations"]
        assert limits["ls_iterations"] >= evidence["limits"]["ls_iterations"]
        assert evidence["smallest"]["iterations"] < limits["iterations"]


def test_what_was_not_measured_is_left_open() -> None:
    assert limits_of("dmc/cheetah_run")["iterations"] == 8
    assert limits_of("dmc/unheard_of") == {}
