"""What the processes of `startup`, `memory` and `target` do, in this one and with a toy."""

import dataclasses
from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np
import pytest

import fpmd_mjx.program
from fpmd_mjx import config as configs
from fpmd_mjx import memory, train
from fpmd_mjx.bench import fresh, startup, target
from fpmd_mjx.bench.plan import Cell
from fpmd_mjx.config import Config
from fpmd_mjx.program import Program

from ..conftest import Toy


@pytest.fixture
def toy(plain: Toy, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """What a process builds and compiles from any config."""
    monkeypatch.setattr(
        fpmd_mjx.program,
        "make_program",
        lambda config: Program(config, plain.program.agent, plain.program.vector),
    )
    monkeypatch.setattr(train, "compile_program", lambda program: plain.compiled)
    monkeypatch.setattr(train, "use_compile_cache", lambda: None)
    return plain


def test_a_start_tells_when_it_could_train_and_what_it_held(toy: Toy) -> None:
    ready, held = startup.start(configs.to_yaml(toy.config))
    assert ready == {"compile_seconds": toy.compiled.seconds}
    assert held["plan"] == memory.plan(toy.program)
    state = memory.size(toy.program.traced_init.out_info)
    assert held["program"] - held["temporary"] == pytest.approx(state, rel=0.02)
    assert held["temporary"] == toy.compiled.train_epoch.memory_analysis().temp_size_in_bytes
    assert held["peak"] is None  # a CPU does not tell


def test_memory_is_compared_with_the_plan() -> None:
    planned = {"replay": 60, "parameters": 20, "environments": 10, "batches": 4, "activations": 6}
    record: dict[str, Any] = {"plan": planned, "program": 120, "temporary": 30, "peak": None}
    found = startup.memory_metrics(record)
    assert found == {
        "memory.plan_bytes": 100,
        "memory.program_bytes": 120,
        "memory.program_to_plan": 1.2,
        "memory.plan_temporary_bytes": 10,
        "memory.temporary_bytes": 30,
    }
    more = startup.memory_metrics(record | {"peak": 150})
    assert more == found | {"memory.peak_bytes": 150, "memory.peak_to_plan": 1.5}


def test_the_second_start_finds_the_caches_of_the_first(
    plain: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, str]] = []

    def run(function: Callable[..., Any], text: str, env: dict[str, str]) -> Generator[Any]:
        assert function is startup.start
        assert configs.from_yaml(text) == plain.config
        seen.append(env)
        yield {"compile_seconds": 10.0 - len(seen)}
        raise AssertionError("nothing is asked of a start once it could train")

    monkeypatch.setattr(fresh, "run", run)
    found = startup.startup(Cell("", plain.config))
    assert found["startup.cold_compile_seconds"] == 9.0
    assert found["startup.cached_compile_seconds"] == 8.0
    assert found["startup.cold_seconds"] >= 0
    assert found["startup.cached_seconds"] >= 0
    assert seen[0] == seen[1]


@pytest.fixture
def records(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """What training to a target yields while evaluations rise by 10 an epoch."""

    def run(goal: float, **changes: Any) -> list[Any]:
        config: Config = dataclasses.replace(toy.config, **changes)
        returns: Iterator[float] = iter(10.0 * x for x in range(1, 100))

        def evaluate(policy: Any, keys: Any) -> tuple[np.ndarray, None]:
            # seeds differ; only their mean counts
            spread = np.linspace(-50, 50, config.seeds)[:, None]
            return next(returns) + spread + np.zeros(config.eval.episodes), None

        compiled = dataclasses.replace(toy.compiled, evaluation=lambda: evaluate)
        monkeypatch.setattr(train, "compile_program", lambda program: compiled)
        return list(target.train(configs.to_yaml(config), goal))

    return run


def test_training_ends_when_the_mean_over_the_seeds_is_on_target(records: Any) -> None:
    found = records(20.0, env_steps=640)
    assert [(x["return"], x["reached"], x["env_steps"]) for x in found] == [
        (pytest.approx(10.0), False, 160),
        (pytest.approx(20.0), True, 320),
    ]
    assert 0 < found[0]["train_seconds"] < found[1]["train_seconds"]
    assert found[1]["updates"] > 0


def test_training_ends_with_the_run_and_evaluates_as_often_as_the_run_does(records: Any) -> None:
    every = configs.EvalConfig(episodes=2, every=2)
    found = records(1e6, env_steps=800, eval=every)
    assert [x["env_steps"] for x in found] == [320, 640, 800]
    assert not any(x["reached"] for x in found)


def reach(cell: Cell) -> list[dict[str, float]]:
    found: list[Any] = []
    target.reach(cell, True, found.append)
    return found


def test_the_last_evaluation_is_the_result(plain: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    record = {"return": 5.0, "reached": False, "env_steps": 160, "updates": 9}
    record |= {"train_seconds": 1.5, "compile_seconds": 2.0}

    def run(function: Callable[..., Any], text: str, goal: float, env: Any) -> Iterator[Any]:
        assert (function, goal) == (target.train, 7.0)
        yield record
        yield record | {"return": 8.0, "reached": True, "env_steps": 320}

    monkeypatch.setattr(fresh, "run", run)
    [found] = reach(Cell("", plain.config, target=7.0))
    assert found.pop("target.wall_seconds") >= 0
    assert found == {
        "target.return": 8.0,
        "target.reached": 1.0,
        "target.env_steps": 320.0,
        "target.updates": 9.0,
        "target.train_seconds": 1.5,
        "target.compile_seconds": 2.0,
        "target.train_and_compile_seconds": 3.5,
    }


def test_training_beyond_its_limit_is_stopped_and_its_seconds_are_bounds(
    plain: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(function: Callable[..., Any], text: str, goal: float, env: Any) -> Iterator[Any]:
        spent = {"env_steps": 160, "train_seconds": 1.5, "compile_seconds": 2.0}
        yield {"return": 5.0, "reached": False, **spent}
        raise AssertionError("it goes on beyond its limit")

    monkeypatch.setattr(fresh, "run", run)
    [found] = reach(Cell("", plain.config, target=7.0, limit=1e-9))
    assert found.pop("target.more_than_wall_seconds") > 0
    assert found == {
        "target.return": 5.0,
        "target.reached": 0.0,
        "target.more_than_env_steps": 160.0,
        "target.more_than_train_seconds": 1.5,
        "target.compile_seconds": 2.0,
        "target.more_than_train_and_compile_seconds": 3.5,
    }


@pytest.mark.parametrize("empty", [True, False])
def test_caches_are_empty_or_the_users(
    plain: Toy, monkeypatch: pytest.MonkeyPatch, empty: bool
) -> None:
    seen: list[dict[str, str]] = []

    def run(function: Callable[..., Any], *arguments: Any, env: dict[str, str]) -> Iterator[Any]:
        seen.append(env)
        yield from ()

    monkeypatch.setattr(fresh, "run", run)
    target.reach(Cell("", plain.config, target=7.0), empty, lambda metrics: None)
    assert ["JAX_COMPILATION_CACHE_DIR" in env for env in seen] == [empty]


def test_an_interruption_leaves_the_last_evaluation_as_a_bound(
    plain: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(function: Callable[..., Any], text: str, goal: float, env: Any) -> Iterator[Any]:
        spent = {"env_steps": 160, "train_seconds": 1.5, "compile_seconds": 2.0}
        yield {"return": 5.0, "reached": False, **spent}
        raise KeyboardInterrupt

    monkeypatch.setattr(fresh, "run", run)
    found: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        target.reach(Cell("", plain.config, target=7.0), True, found.append)
    assert found[0]["target.more_than_train_seconds"] == 1.5
