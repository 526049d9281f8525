"""What a campaign's file says, and that every command of ours can be carried out."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fpmd_mjx.bench.campaign import cells
from fpmd_mjx.bench.plan import make_plan
from fpmd_mjx.config.load import choices
from fpmd_mjx.config.schema import ConfigError
from fpmd_mjx.run.process import child_environment

ENTRY: dict[str, Any] = {
    "name": "rates-{task}-{n}",
    "title": "Rates of {task}",
    "bench": "program task={task} num_envs={n} learn.batch=256",
    "each": {"task": ["dmc/a", "dmc/b"], "n": [8, 16]},
    "seconds": 90,
    "limit": 120,
}


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Reads a campaign of the given entries."""

    def read(*entries: dict[str, Any], toy: bool = False, **more: Any) -> tuple[cells.Cell, ...]:
        (tmp_path / "campaign").mkdir(exist_ok=True)
        tree = {"description": "d", "toy": {"num_envs": 4}, "cells": list(entries)} | more
        (tmp_path / "campaign" / "mine.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
        return cells.load("mine", toy).cells

    monkeypatch.setattr("fpmd_mjx.config.load.configs_dir", lambda: tmp_path)
    return read


def test_every_combination_is_a_cell(load: Any) -> None:
    entry = ENTRY | {"name": "x-{n}-{t}", "bench": "program task={t} num_envs={n}", "title": "{t}"}
    found = load(entry | {"each": {"t": ["a", "b"], "n": [8, 16]}})
    assert [cell.name for cell in found] == ["x-8-a", "x-16-a", "x-8-b", "x-16-b"]
    assert found[1].words == ("program", "task=a", "num_envs=16")
    assert found[1].title == "a"
    assert (found[1].seconds, found[1].limit, found[1].rounds) == (90.0, 120.0, cells.ROUNDS)


def test_a_list_names_its_combinations(load: Any) -> None:
    entry = ENTRY | {"name": "{t}", "env": {"XLA_FLAGS": "--x={f}"}, "title": "", "needs": ["{p}"]}
    entry |= {
        "bench": "program",
        "each": [{"t": "a", "f": "", "p": "jax"}, {"t": "b", "f": 1, "p": "w"}],
    }
    found = load(entry)
    assert [dict(cell.env) for cell in found] == [{"XLA_FLAGS": "--x="}, {"XLA_FLAGS": "--x=1"}]
    assert [cell.needs for cell in found] == [("jax",), ("w",)]


def test_a_rehearsal_has_settings_of_its_own_and_runs_no_command_twice(load: Any) -> None:
    entry = ENTRY | {"name": "x-{n}", "each": {"task": ["dmc/a"], "n": [8, 16]}, "rounds": 9}
    toy = {"task": "dmc/toy", "learn.batch": None, "program": 1, "learn": None}
    own = entry | {"name": "y-{n}", "toy": toy, "env": {"XLA_FLAGS": "--x={n}"}}
    own |= {"bench": "learn program task={task} num_envs=8 learn.batch=256"}
    first, second = load(entry, own, toy=True)
    assert first.name == "x-8"  # 8 and 16 environments are both 4 in a rehearsal
    assert first.words == ("program", "task=dmc/a", "learn.batch=256", "num_envs=4")
    assert second.words == ("program", "num_envs=8", "task=dmc/toy", "program=1")
    assert second.name == "y-8"  # flags are for GPUs
    assert first.rounds == 1
    assert second.env == cells.REHEARSAL


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"estimate": 3}, "mine.yaml, cell one has the unknown key 'estimate': use only"),
        ({"each": {"n": [1, 2]}}, "mine.yaml has two cells named one: rename one of them"),
        ({"name": "a/b"}, "mine.yaml has a cell named a/b: use letters, digits"),
        ({"title": "{task}"}, "mine.yaml, cell one has no value of {task}: add it to 'each'"),
    ],
)
def test_mistakes_in_the_file_are_named(load: Any, change: dict[str, Any], message: str) -> None:
    entry = ENTRY | {"name": "one", "bench": "program", "title": "", "each": [{}]}
    with pytest.raises(ConfigError, match=message):
        load(entry | change)


def test_a_cell_without_a_limit_is_refused(load: Any) -> None:
    entry = {key: value for key, value in ENTRY.items() if key != "limit"}
    with pytest.raises(ConfigError, match=r"mine.yaml, cell rates-\{task\}-\{n\} has no 'limit'"):
        load(entry)


def test_a_campaign_without_cells_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "campaign").mkdir()
    (tmp_path / "campaign" / "mine.yaml").write_text("description: d\ntoy: {}\n")
    monkeypatch.setattr("fpmd_mjx.config.load.configs_dir", lambda: tmp_path)
    with pytest.raises(ConfigError, match=r"mine\.yaml has no 'cells': add it"):
        cells.load("mine")


def test_the_readme_shows_cells_that_there_are(load: Any) -> None:
    entry = ENTRY | {"name": "one", "bench": "program", "title": "", "each": [{}]}
    load(entry, readme=["one"])
    with pytest.raises(ConfigError, match="cell two is unknown"):
        load(entry, readme=["two"])


@pytest.mark.parametrize("toy", [False, True])
@pytest.mark.parametrize("name", choices("campaign"))
def test_every_command_of_ours_is_possible(name: str, toy: bool) -> None:
    for cell in cells.load(name, toy).cells:
        more = ["seed=0", f"seeds={cell.seeds}", "limit=9"] if cell.seeds else []
        assert make_plan([*cell.words, *more], cell.rounds).cells, cell.name
        assert all(importlib.util.find_spec(need) for need in cell.needs), cell.name
        assert cell.seconds <= cell.limit or cell.seeds, cell.name


def test_the_suite_of_the_peers_is_whole() -> None:
    """MuJoCo Playground's DeepMind Control Suite, less the tasks that no peer is reported on."""
    from mujoco_playground._src import dm_control_suite

    named = {cell.name.removeprefix("suite-") for cell in cells.load("gpu").cells}
    assert set(dm_control_suite.ALL_ENVS) - named == {"PointMass", "SwimmerSwimmer6"}


def _flags() -> set[str]:
    return {cell.env["XLA_FLAGS"] for cell in cells.load("gpu").cells if "XLA_FLAGS" in cell.env}


@pytest.mark.parametrize("flags", sorted(_flags()))
def test_xla_knows_every_flag_of_ours(flags: str) -> None:
    """It ends the process of one that it does not know, on any device."""
    command = [sys.executable, "-c", "import jax; jax.devices()"]
    result = subprocess.run(command, env=child_environment(XLA_FLAGS=flags), capture_output=True)
    assert result.returncode == 0, result.stderr[-500:]


def test_xla_does_not_know_every_flag() -> None:
    command = [sys.executable, "-c", "import jax; jax.devices()"]
    env = child_environment(XLA_FLAGS="--xla_gpu_no_such_flag=1")
    assert subprocess.run(command, env=env, capture_output=True).returncode != 0
