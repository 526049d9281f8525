"""metrics.csv across crashes, and JSON that is always whole."""

import csv
import json
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from fpmd_mjx.report.records import read_metrics, write_json
from fpmd_mjx.run import logs, provenance
from fpmd_mjx.run.logs import MetricsLog

SEEDS = [4, 5]


def write(log: MetricsLog, epoch: int, value: float | None = None) -> None:
    x = np.array([epoch + 0.25, epoch + 0.125] if value is None else [value, value], np.float32)
    log.write(
        {"epoch": epoch, "env_steps": 40 * epoch}, {"a/loss": x, "eval/one_step": 100 + x}, SEEDS
    )


def filled(folder: Path, epochs: int) -> Path:
    log = MetricsLog(folder, 0)
    for epoch in range(1, epochs + 1):
        write(log, epoch)
    log.close()
    return folder / "metrics.csv"


def epochs(path: Path) -> list[int]:
    return [int(row["epoch"]) for row in read_metrics(path)]


def test_one_row_for_each_epoch_and_seed(tmp_path: Path) -> None:
    rows = read_metrics(filled(tmp_path, 2))
    assert rows[3] == {
        "epoch": "2",
        "env_steps": "80",
        "seed": "5",
        "a/loss": "2.125",
        "eval/one_step": "102.125",
        "nonfinite/metrics": "0.0",
    }
    assert [(row["epoch"], row["seed"]) for row in rows] == [
        ("1", "4"), ("1", "5"), ("2", "4"), ("2", "5")
    ]  # fmt: skip
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_resumed_run_logs_nothing_twice(tmp_path: Path) -> None:
    path = filled(tmp_path, 5)
    log = MetricsLog(tmp_path, 3)
    assert epochs(path) == [1, 1, 2, 2, 3, 3]
    write(log, 4)
    log.close()
    assert epochs(path) == [1, 1, 2, 2, 3, 3, 4, 4]
    with path.open() as file:
        assert sum(line.startswith("epoch") for line in file) == 1


def test_a_run_that_begins_anew_logs_from_the_beginning(tmp_path: Path) -> None:
    """Killed before its first checkpoint."""
    path = filled(tmp_path, 2)
    log = MetricsLog(tmp_path, 0)
    assert read_metrics(path) == []
    write(log, 1)
    log.close()
    assert epochs(path) == [1, 1]


def test_a_last_line_cut_short_anywhere_is_left_out(tmp_path: Path) -> None:
    path = filled(tmp_path, 2)
    whole, rows = path.read_bytes(), read_metrics(path)
    start = whole.rindex(b"\n", 0, len(whole) - 1) + 1
    assert len(rows) == 4
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        assert read_metrics(path) == rows[:3], whole[start:end]
    MetricsLog(tmp_path, 2).close()  # and resuming removes it, so that the next row begins a line
    assert path.read_bytes() == whole[:start]


def test_a_header_cut_short_is_no_log(tmp_path: Path) -> None:
    path = filled(tmp_path, 1)
    path.write_bytes(path.read_bytes()[:9])
    assert read_metrics(path) == []
    write(MetricsLog(tmp_path, 0), 1)
    assert epochs(path) == [1, 1]


def test_what_is_not_finite_stays_in_the_csv(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, 0)
    write(log, 1, math.nan)
    log.close()
    assert math.isnan(float(read_metrics(tmp_path / "metrics.csv")[0]["a/loss"]))


def test_no_file_has_no_rows(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "metrics.csv") == []


def test_json_holds_null_for_what_is_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_json(path, {"a": math.nan, "b": [1.5, (math.inf, -math.inf)], "c": {"d": None, "e": 3}})
    read: Any = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert read == {"a": None, "b": [1.5, [None, None]], "c": {"d": None, "e": 3}}


def test_json_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "summary.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}

    def crash(part: Path, target: Path) -> None:
        assert json.loads(Path(part).read_text()) == {"a": 2}
        raise OSError("killed here")

    monkeypatch.setattr(logs.os, "replace", crash)
    with pytest.raises(OSError, match="killed here"):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}


def test_a_crash_while_resuming_loses_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = filled(tmp_path, 3)

    def crash(part: Path, target: Path) -> None:
        raise OSError("killed here")

    monkeypatch.setattr(logs.os, "replace", crash)
    with pytest.raises(OSError, match="killed here"):
        MetricsLog(tmp_path, 2)
    assert epochs(path) == [1, 1, 2, 2, 3, 3]


def test_versions_name_what_decides_a_result() -> None:
    found = provenance.versions()
    assert {"python", "jax", "jaxlib", "mujoco", "mujoco-mjx", "flax", "optax"} <= found.keys()
    assert found["jax"] == jax.__version__
    assert all(isinstance(x, str) and x for x in found.values())


def installed(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """A file of the package at `folder`, for which `provenance` takes itself."""
    folder.mkdir(parents=True)
    module = folder / "provenance.py"
    module.write_text("")
    patch.setattr(provenance, "__file__", str(module))
    return module


def git(folder: Path, *args: str) -> None:
    me = ["-c", "user.name=me", "-c", "user.email=me@localhost", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *me, *args], check=True, capture_output=True)


def test_the_environment_tells_the_commit_of_a_tree_without_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path / "fpmd_mjx", monkeypatch)
    monkeypatch.delenv("FPMD_COMMIT", raising=False)
    assert provenance.commit() is None
    monkeypatch.setenv("FPMD_COMMIT", "")
    assert provenance.commit() is None
    monkeypatch.setenv("FPMD_COMMIT", "0123456789ab+")
    assert provenance.commit() == provenance.provenance()["commit"] == "0123456789ab+"


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_checkout_tells_its_own_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = installed(tmp_path / "fpmd_mjx", monkeypatch)
    monkeypatch.setenv("FPMD_COMMIT", "0123456789ab")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "one")
    clean = provenance.commit()
    assert clean is not None
    assert re.fullmatch("[0-9a-f]{12}", clean)
    module.write_text("changed")
    assert provenance.commit() == clean + "+"


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_repository_around_an_installed_package_is_not_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "-m", "of another project")
    installed(tmp_path / ".venv" / "fpmd_mjx", monkeypatch)
    monkeypatch.delenv("FPMD_COMMIT", raising=False)
    assert provenance.commit() is None
    monkeypatch.setenv("FPMD_COMMIT", "0123456789ab")
    assert provenance.commit() == "0123456789ab"


def test_columns_do_not_depend_on_the_epoch(tmp_path: Path) -> None:
    path = filled(tmp_path, 1)
    log = MetricsLog(tmp_path, 1)
    write(log, 2)
    with pytest.raises(ValueError, match="not in fieldnames"):
        log.write({"epoch": 3, "env_steps": 80}, {"new": np.zeros(2)}, SEEDS)
    with path.open(newline="") as file:
        assert {len(row) for row in csv.reader(file)} == {6}


def test_a_resumed_run_may_log_other_columns(tmp_path: Path) -> None:
    path = filled(tmp_path, 1)
    log = MetricsLog(tmp_path, 1)
    log.write({"epoch": 2, "env_steps": 80}, {"a/loss": np.ones(2), "new": np.zeros(2)}, SEEDS)
    before, after = read_metrics(path)[0], read_metrics(path)[-1]
    assert (before["a/loss"], before["eval/one_step"], before["new"]) == ("1.25", "101.25", "")
    assert (after["a/loss"], after["eval/one_step"], after["new"]) == ("1.0", "", "0.0")
