"""Training to a stated return, and the curve until then, with a toy."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from fpmd_mjx import seeds
from fpmd_mjx.bench import fresh, target
from fpmd_mjx.bench.plan import Cell
from fpmd_mjx.bench.timing import Table
from fpmd_mjx.config import load as configs
from fpmd_mjx.config.schema import Config, ConfigError, EvalConfig
from fpmd_mjx.evaluation import rollout as evaluation
from fpmd_mjx.run import compile as compiling

from ..conftest import Toy


@pytest.fixture
def records(
    toy: Toy,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., list[Any]]:
    """What training to a target yields while evaluations rise by 10 an epoch."""

    def run(goal: float | None, modes: list[str] | None = None, **changes: Any) -> list[Any]:
        config: Config = dataclasses.replace(toy.config, **changes)
        returns: Iterator[float] = iter(10.0 * x for x in range(1, 100))

        def evaluate(policy: Any, keys: Any) -> evaluation.Episodes:
            # seeds differ; only their mean counts
            spread = np.linspace(-50, 50, config.seeds)[:, None]
            found = next(returns) + spread + np.zeros(config.eval.episodes)
            return evaluation.Episodes(found, None, None)

        evaluations = {**toy.compiled.evaluations, evaluation.Mode("one_step"): lambda: evaluate}
        compiled = dataclasses.replace(toy.compiled, evaluations=evaluations)
        monkeypatch.setattr(compiling, "compile_program", lambda program: compiled)
        return list(target.train(configs.to_yaml(config), goal, modes or ["one_step"]))

    return run


def test_training_ends_when_the_mean_over_the_seeds_is_on_target(records: Any) -> None:
    found = records(20.0, env_steps=640)
    assert [(x["return"], x["reached"], x["env_steps"]) for x in found] == [
        (pytest.approx(10.0), False, 160),
        (pytest.approx(20.0), True, 320),
    ]
    assert 0 < found[0]["train_seconds"] < found[1]["train_seconds"]
    assert found[1]["updates"] > 0
    assert found[0]["returns"]["one_step"] == pytest.approx([-40, 10 - 50 / 3, 10 + 50 / 3, 60])


@pytest.mark.parametrize("goal", [1e6, None])
def test_training_ends_with_the_run_and_evaluates_as_often_as_the_run_does(
    records: Any, goal: float | None
) -> None:
    every = EvalConfig(episodes=2, every=2)
    found = records(goal, env_steps=800, eval=every, seed=3)
    assert [x["env_steps"] for x in found] == [160, 320, 480, 640, 800]
    assert [x.keys() == {"env_steps"} for x in found] == [True, False, True, False, False]
    found = [x for x in found if "returns" in x]
    assert not any(x["reached"] for x in found)
    assert found[0]["seeds"] == [3, 4, 5, 6]


def test_every_mode_is_evaluated_as_it_is_elsewhere(
    toy: Toy,
    records: Any,
) -> None:
    *_, found = records(None, ["best_of_n", "one_step"], env_steps=320)
    assert found["return"] == pytest.approx(np.mean(found["returns"]["best_of_n"]))
    state, _ = toy.run(2)
    keys = seeds.stream_keys(seeds.Stream.EVALUATION, seeds.seed_array(toy.config), 2)
    mode = evaluation.Mode("best_of_n")
    episodes = toy.config.eval.episodes
    returns = evaluation.rollout(
        toy.program, mode, episodes, toy.program.policy(state), keys
    ).returns
    assert found["returns"]["best_of_n"] == pytest.approx(np.mean(returns, 1).tolist())
    with pytest.raises(ConfigError, match="mode=sampled is unknown"):
        records(None, ["sampled"])


RECORD: dict[str, Any] = {
    "return": 5.0,
    "returns": {"one_step": [4.0, 6.0], "best_of_n": [7.0, 9.0]},
    "seeds": [2, 3],
    "reached": False,
    "env_steps": 160,
    "updates": 9,
    "train_seconds": 1.5,
    "compile_seconds": 2.0,
}


@pytest.fixture
def yields(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the process yield records, and the clock show the seconds at which they come."""

    def fake(*found: dict[str, Any], at: tuple[float, ...] = (), end: Any = None) -> None:
        def run(function: Callable[..., Any], *arguments: Any, env: Any) -> Iterator[Any]:
            assert function is target.train
            yield from found
            if end is not None:
                raise end

        monkeypatch.setattr(fresh, "run", run)
        if at:
            clock = iter((0.0, *at))
            monkeypatch.setattr(target.time, "perf_counter", lambda: next(clock))

    return fake


class Kept:
    """What a benchmark hands on: metrics that may still change, and final ones."""

    def __init__(self) -> None:
        self.open: list[Any] = []
        self.final: dict[str, Any] = {}

    def __call__(self, metrics: Any, final: bool = True) -> None:
        if final:
            self.final |= metrics
        else:
            self.open.append(dict(metrics))


def cell(plain: Toy, **changes: Any) -> Cell:
    return Cell("", plain.config, **changes)


def test_the_last_evaluation_is_the_result(plain: Toy, yields: Any) -> None:
    reached = RECORD | {"return": 8.0, "reached": True, "env_steps": 320}
    reached |= {"returns": {"one_step": [3.0, 13.0], "best_of_n": [1.0, 1.0]}}
    yields(RECORD, reached, at=(4, 9))
    kept = Kept()
    target.reach(cell(plain, target=7.0), True, kept)
    assert kept.final.pop("target.curve") == Table(
        (
            *("env_steps", "train_seconds", "wall_seconds", "one_step.seed_2", "one_step.seed_3"),
            *("best_of_n.seed_2", "best_of_n.seed_3"),
        ),
        ((160, 1.5, 4, 4.0, 6.0, 7.0, 9.0), (320, 1.5, 9, 3.0, 13.0, 1.0, 1.0)),
    )
    assert kept.final == {
        "target.return": 8.0,
        "target.reached": 1.0,
        "target.env_steps": 320.0,
        "target.updates": 9.0,
        "target.train_seconds": 1.5,
        "target.wall_seconds": 9.0,
        "target.compile_seconds": 2.0,
        "target.train_and_compile_seconds": 3.5,
        "target.last.one_step.seed_2": 3.0,
        "target.last.one_step.seed_3": 13.0,
        "target.last.best_of_n.seed_2": 1.0,
        "target.last.best_of_n.seed_3": 1.0,
        "target.best.one_step.seed_2": 4.0,
        "target.best.one_step.seed_3": 13.0,
        "target.best.best_of_n.seed_2": 7.0,
        "target.best.best_of_n.seed_3": 9.0,
    }
    assert [x.get("target.more_than_env_steps") for x in kept.open] == [160.0, None]


def test_training_beyond_its_limit_is_stopped_and_its_seconds_are_bounds(
    plain: Toy, yields: Any
) -> None:
    yields(RECORD, end=AssertionError("it goes on beyond its limit"), at=(3,))
    kept = Kept()
    target.reach(cell(plain, target=7.0, limit=2.0), True, kept)
    bounds = {name: x for name, x in kept.final.items() if "more_than" in name}
    assert bounds == {
        "target.more_than_env_steps": 160.0,
        "target.more_than_updates": 9.0,
        "target.more_than_train_seconds": 1.5,
        "target.more_than_wall_seconds": 3.0,
        "target.more_than_train_and_compile_seconds": 3.5,
    }
    assert kept.final["target.reached"] == 0.0
    assert kept.final["target.compile_seconds"] == 2.0


def test_a_curve_has_no_target_and_no_bounds(plain: Toy, yields: Any) -> None:
    yields(RECORD)
    kept = Kept()
    target.curve(cell(plain), True, kept)
    assert kept.final["curve.env_steps"] == 160.0
    assert not any("more_than" in name or "reached" in name for name in kept.final)


def test_a_whole_run_that_will_not_end_in_time_ends_at_once_and_says_how_long_it_takes(
    plain: Toy, yields: Any
) -> None:
    """The first epoch ends after 100 s, most of them compilation; then one each 10 s, the third of
    which with the first evaluation."""
    steps = 1600
    config = dataclasses.replace(plain.config, env_steps=steps)
    whole = 110.0 + 10.0 * (steps - 320) / 160
    epochs = [{"env_steps": 160}, {"env_steps": 320}, RECORD | {"env_steps": 480}]
    yields(*epochs[:2], end=AssertionError("it goes on"), at=(100, 110))
    kept = Kept()
    target.curve(Cell("", config, limit=whole - 1, whole=True), True, kept)
    assert kept.final == {target.PROJECTED: pytest.approx(whole)}
    for limit, more in ((whole + 1, True), (whole - 1, False)):
        yields(*epochs, at=(100, 110, 120))
        kept = Kept()
        target.curve(Cell("", config, limit=limit, whole=more), True, kept)
        assert target.PROJECTED not in kept.final
        assert kept.final["curve.env_steps"] == 480.0


@pytest.mark.parametrize(("env_steps", "ends"), [(1600, False), (480, True)])
def test_a_run_beyond_its_limit_is_whole_only_where_it_has_ended(
    plain: Toy, yields: Any, env_steps: int, ends: bool
) -> None:
    config = dataclasses.replace(plain.config, env_steps=env_steps)
    yields({"env_steps": 160}, RECORD | {"env_steps": 480}, at=(100, 481))
    kept = Kept()
    target.curve(Cell("", config, limit=480.0, whole=True), True, kept)
    assert (target.PROJECTED not in kept.final) == ends
    assert kept.final["curve.env_steps"] == 480.0


@pytest.mark.parametrize("empty", [True, False])
def test_caches_are_empty_or_the_users(
    plain: Toy, monkeypatch: pytest.MonkeyPatch, empty: bool
) -> None:
    seen: list[dict[str, str]] = []

    def run(function: Callable[..., Any], *arguments: Any, env: dict[str, str]) -> Iterator[Any]:
        seen.append(env)
        yield from ()

    monkeypatch.setattr(fresh, "run", run)
    target.reach(cell(plain, target=7.0), empty, Kept())
    assert ["JAX_COMPILATION_CACHE_DIR" in env for env in seen] == [empty]


def test_an_interruption_leaves_the_last_evaluation_as_a_bound(plain: Toy, yields: Any) -> None:
    yields(RECORD, end=KeyboardInterrupt())
    kept = Kept()
    with pytest.raises(KeyboardInterrupt):
        target.reach(cell(plain, target=7.0), True, kept)
    assert kept.final["target.more_than_train_seconds"] == 1.5
