"""Result files, and what names a program."""

import shutil
from pathlib import Path

import pytest

from fpmd_mjx.bench.campaign import store as stores
from fpmd_mjx.bench.campaign.store import Record, Store, card_name, program_id
from fpmd_mjx.run import provenance

ROOT = Path(__file__).parents[3]


def record(status: stores.Status = "measured", **changes: object) -> Record:
    found = Record("one", status, None, "p", "fpmd bench", {"device": "d"}, 3.0)
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def test_names_of_cards() -> None:
    assert card_name("NVIDIA H200") == "nvidia-h200"
    assert card_name("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
    assert card_name("x86_64 CPU, 2 cores") == "x86-64-cpu-2-cores"


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = record(results=[{"cells": [{"label": "a=1", "metrics": {"x": 1.0}}]}])
    Store(tmp_path).write(written)
    assert Store(tmp_path).complete("one") == written
    assert written.metrics == {"x[a=1]": 1.0}


def test_an_attempt_and_a_result_stand_beside_each_other_until_the_next_result(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path)
    store.write(record())
    store.write(record("failed", reason="no", program="q"))
    assert (complete := store.complete("one")) is not None
    assert complete.program == "p"
    assert (attempt := store.open("one")) is not None
    assert attempt.reason == "no"
    store.write(record(program="q"))
    assert store.open("one") is None


def test_an_attempt_that_a_later_result_elsewhere_made_old_is_none(tmp_path: Path) -> None:
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    there.write(record("failed", date="2026-11-01T00:00:00+00:00"))
    here.write(record(date="2026-11-02T00:00:00+00:00"))
    assert Store(tmp_path / "here", tmp_path / "there").open("one") is None
    assert there.open("one") is not None


def test_a_file_that_is_cut_short_counts_as_none(tmp_path: Path) -> None:
    Store(tmp_path).write(record())
    path = tmp_path / "one.json"
    path.write_text(path.read_text()[:-20])
    assert Store(tmp_path).complete("one") is None


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the sources, which `program_id` reads."""
    for name in ("fpmd_mjx", "envs", "configs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    here = tmp_path / "fpmd_mjx" / "bench" / "campaign" / "store.py"
    monkeypatch.setattr(stores, "__file__", str(here))
    monkeypatch.setattr("fpmd_mjx.config.load.configs_dir", lambda: tmp_path / "configs")
    return tmp_path


def test_a_program_is_its_code_settings_and_versions_wherever_it_lies(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = program_id()
    deciding = (
        "fpmd_mjx/algorithms/fpmd.py",
        "fpmd_mjx/bench/phases.py",
        "envs/physics/limits.py",
    )
    for path in (*deciding, "configs/preset/fast.yaml", "configs/config.yaml"):
        before = (copy / path).read_text()
        (copy / path).write_text(before + "\n")
        assert program_id() != name, path
        (copy / path).write_text(before)
    assert program_id() == name
    indifferent = (
        "fpmd_mjx/bench/agent/scores.py",
        "fpmd_mjx/bench/campaign/run.py",
        "fpmd_mjx/report/tables.py",
        "fpmd_mjx/cli.py",
    )
    settings = ("configs/campaign/gpu.yaml", "configs/yardstick/tuning.yaml")
    for path in (*indifferent, *settings, "envs/devtools/parity/measured.json"):
        whole = program_id(whole=True)
        (copy / path).write_text("")
        assert program_id() == name, path
        assert program_id(whole=True) != whole, path
    versions = provenance.versions()
    monkeypatch.setattr(provenance, "versions", lambda: versions | {"warp-lang": "another"})
    assert program_id() == name  # what is not installed at first may be later, for other cells
    monkeypatch.setattr(provenance, "versions", lambda: versions | {"jax": "another"})
    assert program_id() != name


def test_a_program_has_the_same_name_in_another_folder(copy: Path) -> None:
    in_copy = program_id()
    assert copy != ROOT
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stores, "__file__", str(ROOT / "fpmd_mjx/bench/campaign/store.py"))
        patch.setattr("fpmd_mjx.config.load.configs_dir", lambda: ROOT / "configs")
        assert program_id() == in_copy
