"""The command that measures solver limits and buffer sizes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from envs import tune
from envs.limits import limits_of


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


def test_the_command_leaves_its_evidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tune, "_ITERATIONS", (1, 8))
    monkeypatch.setattr(tune, "_LS_ITERATIONS", (12,))
    argv = ["tune", "dmc/cartpole_balance", "--states", "20", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", argv)
    tune.main()
    evidence = json.loads((tmp_path / "dmc_cartpole_balance.json").read_text())
    limits = evidence["limits"]
    assert limits["iterations"] in (1, 8)
    assert limits["ls_iterations"] == 12
    assert {(x["iterations"], x["ls_iterations"]) for x in evidence["tried"]} >= {(8, None)}
    for buffer in ("contacts", "constraints"):
        assert evidence["most_in_warp"][buffer] >= evidence["most_in_c"][buffer]
        assert limits[buffer] >= 1.5 * evidence["most_in_warp"][buffer]
    assert f"iterations={limits['iterations']}, ls_iterations=12" in capsys.readouterr().out


def test_what_was_not_measured_is_left_open() -> None:
    assert limits_of("dmc/cheetah_run")["iterations"] == 8
    assert limits_of("dmc/unheard_of") == {}
