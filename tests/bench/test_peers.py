"""brax's SAC and PPO, driven from outside, and what is said about their time."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from fpmd_mjx.bench import peers, timing
from fpmd_mjx.bench.peers import Settings
from fpmd_mjx.config import ConfigError

TASK = "playground/PendulumSwingup"  # the smallest
TINY = Settings(
    TASK, num_envs=4, batch=8, updates=3, hidden=(8,), replay=400, warmup=16, chunk=5, impl="jax"
)
SHORT = {"episode_length": 10, "num_eval_envs": 2, "num_envs": 4, "num_evals": 3}
"""Changes of the tuned settings, for runs that cost little but their compilation."""


@pytest.fixture(scope="module")
def brax() -> peers.Chunk:
    return peers.brax_sac(TINY)


@pytest.fixture(scope="module")
def ours() -> peers.Chunk:
    return peers.fpmd(TINY, "fpmd_m", candidates=2, flow_steps=1)


def test_a_chunk_of_brax_does_what_it_says(brax: peers.Chunk) -> None:
    def counters() -> np.ndarray:
        training = brax.state[0]
        return np.array([int(training.env_steps.lo[0]), int(training.gradient_steps.lo[0])])

    before, weights = counters(), jax.tree.map(np.array, brax.state[0].policy_params)
    brax.run()
    assert (counters() - before).tolist() == [brax.env_steps, brax.updates] == [20, 15]
    after = brax.state[0].policy_params
    assert not np.array_equal(*(jax.tree.leaves(x)[0] for x in (weights, after)))
    assert brax.state[2].data.shape[1] == TINY.replay
    hidden = [x.shape[2] for x in jax.tree.leaves(brax.state[0].q_params) if x.ndim == 3]
    assert hidden == [8, 1, 8, 1]


def test_a_chunk_of_ours_does_what_it_says(ours: peers.Chunk) -> None:
    def counters() -> np.ndarray:
        steps = int(ours.state.vector_steps) * TINY.num_envs
        return np.array([steps, int(ours.state.updates)])

    before = counters()
    assert before[1] > 0  # it is past its warm-up
    ours.run()
    assert (counters() - before).tolist() == [ours.env_steps, ours.updates] == [20, 15]


def test_both_sides_have_the_same_settings() -> None:
    config = peers.fpmd_config(TINY, "fpmd_m", candidates=2, flow_steps=1, seed=0)
    assert (config.num_envs, config.warmup_steps, config.epoch_steps) == (4, 16, 20)
    learn = config.learn
    assert (learn.batch, learn.updates, learn.replay, learn.policy_delay) == (8, 3, 400, 1)
    assert (learn.n_step, learn.collect_steps, learn.normalize_obs) == (1, 1, True)
    assert config.actor.hidden == config.critic.hidden == [8]


def test_speeds_are_taken_in_turns(
    brax: peers.Chunk, ours: peers.Chunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interleave(runners: list[peers.Chunk], rounds: int) -> list[list[float]]:
        assert (runners, rounds) == ([brax, ours], 3)
        return [[2.0, 4.0, 3.0], [1.0, 1.0, 1.5]]

    monkeypatch.setattr(peers, "brax_sac", lambda settings: brax)
    monkeypatch.setattr(peers, "fpmd", lambda *args: ours)
    monkeypatch.setattr(timing, "interleave", interleave)
    result = peers.compare(TINY, candidates=[2], rounds=3)
    theirs, mine = result["results"]
    assert theirs["env_steps_per_second"] == pytest.approx(20 / 3, abs=0.1)
    assert theirs["ratio_to_brax"] == {"q1": 1.0, "median": 1.0, "q3": 1.0}
    assert mine["updates_per_second"] == 15.0
    assert mine["ratio_to_brax"] == {"q1": 2.0, "median": 2.0, "q3": 3.0}
    assert result["versions"]["brax"] == "0.14.2"


@pytest.mark.parametrize(
    ("algorithm", "changes"),
    [
        (
            "sac",
            {
                "num_timesteps": 100,
                "min_replay_size": 20,
                "max_replay_size": 100,
                "batch_size": 8,
                "num_resets_per_eval": 2,
                "network_factory": {"hidden_layer_sizes": [8]},
            },
        ),
        (
            "ppo",
            {
                "num_timesteps": 160,
                "unroll_length": 5,
                "num_minibatches": 2,
                "num_updates_per_batch": 1,
                "batch_size": 4,
                "num_resets_per_eval": 2,
            },
        ),
    ],
)
def test_time_to_a_return_holds_no_other_time(algorithm: str, changes: dict[str, Any]) -> None:
    result = peers.time_to_return(TASK, 1e9, algorithm, 0, SHORT | changes, impl="jax")
    assert not result["reached"]
    # The untrained policy, and then one evaluation for each of (3 - 1) * 2 resets.
    steps = [point["env_steps"] for point in result["curve"]]
    per_evaluation = {"sac": 20, "ppo": 40}[algorithm]
    warmup = {"sac": 20, "ppo": 0}[algorithm]
    assert steps == [0, *(warmup + per_evaluation * (i + 1) for i in range(4))]
    parts = [result[f"{what}_seconds"] for what in ("train", "compile", "eval")]
    assert min(parts) > 0
    assert sum(parts) < result["wall_seconds"]
    assert parts[0] < parts[1]  # 100 steps of training are less work than their compilation
    train = [point["train_seconds"] for point in result["curve"]]
    assert train == sorted(train)
    assert result["settings"]["unroll_length" if algorithm == "ppo" else "batch_size"] in (5, 8)


def test_a_run_ends_at_its_target(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(environment: Any, progress_fn: Any, **settings: Any) -> None:
        assert settings["num_evals"] == 91  # of the tuned settings, 9 times 10 resets
        for steps, mean in ((0, 0.1), (10, 0.4), (20, 0.6), (30, 0.9)):
            progress_fn(steps, {"eval/episode_reward": np.float32(mean)})

    module = importlib.import_module("brax.training.agents.ppo.train")
    monkeypatch.setattr(module, "train", train)
    result = peers.time_to_return(TASK, 0.5, "ppo", 0, impl="jax")
    assert (result["reached"], result["env_steps"]) == (True, 20)
    assert result["best"] == pytest.approx(0.6)
    assert [point["env_steps"] for point in result["curve"]] == [0, 10, 20]


def test_jax_is_left_as_it_is(brax: peers.Chunk) -> None:
    assert not hasattr(jax, "device_put_replicated")
    assert importlib.import_module("brax.training.agents.sac.train").jax is jax


def test_mistakes_name_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"not one of playground/\.\.\."):
        peers.brax_sac(Settings("dmc/cheetah_run"))
    with pytest.raises(ConfigError, match="choose sac or ppo"):
        peers.time_to_return(TASK, 0.0, "td3", 0)
    monkeypatch.setitem(__import__("sys").modules, "brax.training.agents.sac.train", None)
    with pytest.raises(ConfigError, match=r"fpmd-mjx\[peers\]"):
        peers.brax_sac(TINY)


def test_the_command_writes_what_it_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {
        "name": "fpmd_m",
        "env_steps_per_second": 2000.0,
        "updates_per_second": 10.0,
        "ratio_to_brax": {"q1": 1.2, "median": 1.5, "q3": 1.6},
        "compile_seconds": 3.0,
    }
    asked: list[Any] = []

    def compare(*args: Any) -> dict[str, Any]:
        asked.extend(args)
        return {"results": [row]}

    monkeypatch.setattr(peers, "compare", compare)
    out = tmp_path / "speed.json"
    words = ["speed", TASK, "--hidden", "64", "32", "--candidates", "1", "--output", str(out)]
    assert peers.main(words) == 0
    assert asked[0] == Settings(TASK, hidden=(64, 32))
    assert json.loads(out.read_text()) == {"results": [row]}
    assert "1.50 of brax's (1.20 to 1.60)" in capsys.readouterr().out
    assert peers.main(["return", TASK, "1", "--change", "num_envs", "--output", str(out)]) == 2
    assert "write key=value" in capsys.readouterr().err
