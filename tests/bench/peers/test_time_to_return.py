"""brax's SAC and PPO trained to a return, and what their time goes to."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

import numpy as np
import pytest

from fpmd_mjx.bench import fresh, target
from fpmd_mjx.bench.peers import brax, sbx, time_to_return
from fpmd_mjx.bench.plan import make_plan
from fpmd_mjx.config import load as configs
from fpmd_mjx.config.schema import ConfigError

TASK = "playground/PendulumSwingup"  # the smallest
SHORT = {
    "sac": {
        "num_timesteps": 100,
        "min_replay_size": 20,
        "max_replay_size": 100,
        "batch_size": 8,
        "network_factory": {"hidden_layer_sizes": [8]},
    },
    "ppo": {
        "num_timesteps": 160,
        "unroll_length": 5,
        "num_minibatches": 2,
        "num_updates_per_batch": 1,
        "batch_size": 4,
    },
}
"""Changes of the tuned settings, for runs that cost little but their compilation."""
BOTH = {
    "episode_length": 10,
    "num_eval_envs": 2,
    "num_envs": 4,
    "num_evals": 3,
    "num_resets_per_eval": 2,
}


@pytest.fixture(autouse=True)
def caches(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """How often the user's compile cache, which these tests leave alone, was asked for."""
    asked: list[bool] = []
    monkeypatch.setattr(time_to_return, "use_compile_cache", lambda: asked.append(True))
    return asked


@pytest.mark.parametrize("algorithm", ["sac", "ppo"])
def test_time_to_a_return_holds_no_other_time(
    algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = brax.tuned(TASK, algorithm) | BOTH | SHORT[algorithm]
    monkeypatch.setattr(brax, "tuned", lambda task, algorithm: short)
    curve = list(time_to_return.train(algorithm, TASK, "jax", 1, 0, 1e9))
    assert not any(point["reached"] for point in curve)
    # The untrained policy, and then one evaluation for each of (3 - 1) * 2 resets.
    per_evaluation = {"sac": 20, "ppo": 40}[algorithm]
    warmup = {"sac": 20, "ppo": 0}[algorithm]
    steps = [point["env_steps"] for point in curve]
    assert steps == [0, *(warmup + per_evaluation * (i + 1) for i in range(4))]
    parts = [curve[-1][f"{what}_seconds"] for what in ("train", "compile", "eval")]
    assert min(parts) > 0
    assert parts[0] < parts[1]  # 100 steps of training are less work than their compilation
    train = [point["train_seconds"] for point in curve]
    assert train == sorted(train)


def test_settings_are_the_tuned_ones_and_every_reset_is_followed_by_an_evaluation() -> None:
    settings = time_to_return.tuned_settings("ppo", "playground/CheetahRun", "jax", 1)
    assert (settings["num_evals"], settings["num_resets_per_eval"]) == (91, 1)  # of 10 and 10
    assert (settings["num_envs"], settings["num_timesteps"]) == (2048, 60_000_000)
    settings = time_to_return.tuned_settings("sac", "playground/CheetahRun", "jax", 1)
    assert (settings["num_evals"], settings["grad_updates_per_step"]) == (91, 8)
    assert settings["network_factory"].keywords == {"q_network_layer_norm": True}


def test_a_divisor_makes_a_tuned_run_smaller_in_proportion() -> None:
    sizes = {
        "sac": (1, 4, 78_125, 64, 32_768),
        "ppo": (16, 8, 468_750, None, None),
    }
    for algorithm, expected in sizes.items():
        task = (algorithm, "playground/CheetahRun", "jax")
        whole, part = (time_to_return.tuned_settings(*task, divisor) for divisor in (1, 128))
        assert tuple(part.get(size) for size in brax.SIZES) == expected
        changed = {key for key in whole if whole[key] != part[key]}
        assert changed - {"environment", "network_factory"} == set(brax.SIZES) & whole.keys()


def test_records_say_what_is_reached_and_failures_come_over(
    monkeypatch: pytest.MonkeyPatch, caches: list[bool]
) -> None:
    def train(environment: Any, progress_fn: Any, **settings: Any) -> None:
        assert settings["seed"] == 3
        for steps, mean in ((0, 0.4), (10, 0.6)):
            progress_fn(steps, {"eval/episode_reward": np.float32(mean)})
        raise ZeroDivisionError

    module = importlib.import_module("brax.training.agents.ppo.train")
    monkeypatch.setattr(module, "train", train)
    records = time_to_return.train("ppo", TASK, "jax", 1, 3, 0.5)
    found = [next(records), next(records)]
    assert [(x["env_steps"], x["reached"]) for x in found] == [(0, False), (10, True)]
    assert found[1]["returns"] == {"mean_action": [pytest.approx(0.6)]}
    assert found[1]["seeds"] == [3]
    assert caches == [True]
    with pytest.raises(ZeroDivisionError):
        next(records)


def test_each_is_trained_alone_to_the_same_return(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["peers-return", f"task={TASK}", "target=9", "seed=4", "algorithm=fpmd_r"]
    [cell] = make_plan(words, 1).cells
    asked: list[Any] = []
    emptied: list[bool] = []

    def run(function: Any, *arguments: Any, env: Any) -> Any:
        asked.append((function, *arguments))
        emptied.append("JAX_COMPILATION_CACHE_DIR" in env)
        spent = {"env_steps": 10, "train_seconds": 1.0, "compile_seconds": 2.0}
        returns = {"returns": {"one_step": [9.0]}, "seeds": [4]}
        yield {"return": 9.0, "reached": True, **returns, **spent}

    monkeypatch.setattr(fresh, "run", run)
    found: list[Any] = []

    def add(metrics: Any, final: bool = True) -> None:
        if final:
            found.append(metrics)

    time_to_return.measure(cell, True, add)
    assert asked == [
        (target.train, configs.to_yaml(cell.config), 9.0, ("one_step",)),
        (time_to_return.train, "sac", TASK, "auto", 1, 4, 9.0),
        (time_to_return.train, "ppo", TASK, "auto", 1, 4, 9.0),
    ]
    asked.clear()
    smaller = dataclasses.replace(cell, peers=("ppo",), peer_divisor=64)
    time_to_return.measure(smaller, False, add)
    assert asked[1:] == [(time_to_return.train, "ppo", TASK, "auto", 64, 4, 9.0)]
    assert emptied == [True, True, True, False, False]
    names = ("fpmd_r", "brax_sac", "brax_ppo", "fpmd_r", "brax_ppo.divisor_64")
    for name, metrics in zip(names, found, strict=True):
        assert metrics[f"peers-return.{name}.train_seconds"] == 1.0
        assert metrics[f"peers-return.{name}.train_and_compile_seconds"] == 3.0


@pytest.mark.usefixtures("sbx_installed")
def test_on_an_original_task_the_peers_are_agents_of_sbx(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["peers-return", "task=dmc/finger_spin", "target=9", "seed=4", "peer=sbx_tqc,sbx_sac"]
    [cell] = make_plan([*words, "eval.episodes=5"], 1).cells
    asked: list[Any] = []
    monkeypatch.setattr(
        target, "timed", lambda name, *rest: asked.append((name, rest[0], *rest[3:]))
    )
    time_to_return.measure(cell, True, lambda metrics, final=True: None)
    assert [name for name, *_ in asked] == [
        f"peers-return.{side}" for side in ("fpmd_m", "sbx_tqc", "sbx_sac")
    ]
    assert asked[1][1:] == (cell, sbx.train, "sbx_tqc", "dmc/finger_spin", 5, 4, 9.0)


def test_a_task_that_nobody_tuned_is_refused() -> None:
    with pytest.raises(ConfigError, match="no tuned settings for SAC and PPO"):
        brax.tuned("playground/Go1JoystickFlatTerrain", "sac")
