"""brax's SAC and PPO and this program: a chunk's work, and what is said of its time."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

from fpmd_mjx.bench import fresh
from fpmd_mjx.bench.peers import speed
from fpmd_mjx.bench.peers.speed import Side
from fpmd_mjx.bench.plan import make_plan
from fpmd_mjx.bench.timing import Quartiles
from fpmd_mjx.config import load as configs
from fpmd_mjx.config.schema import ConfigError

TINY = [
    "peers-speed",
    "task=playground/PendulumSwingup",  # the smallest
    "task.impl=jax",
    "num_envs=4",
    "learn.batch=8",
    "learn.updates=3",
    "actor.hidden=[8]",
    "learn.replay=400",
    "warmup_steps=14",  # brax's come in whole vector steps
    "epoch_steps=20",
    "algorithm.candidates=2",
    "algorithm.policy_delay=1",
]
[CELL] = make_plan(TINY, 1).cells


@pytest.fixture(scope="module")
def brax() -> speed.Chunk:
    return speed.brax_chunk(speed.make_peer("sac", CELL.config, 1))


@pytest.fixture(scope="module")
def ours() -> speed.Chunk:
    return speed.fpmd(configs.load([*CELL.overrides, *CELL.variants[0]]))


def test_a_chunk_of_brax_does_what_it_says(brax: speed.Chunk) -> None:
    def counters() -> list[int]:
        training = brax.state[0]
        return [int(training.env_steps.lo[0]), int(training.gradient_steps.lo[0])]

    assert counters() == [16, 0]
    weights = jax.tree.map(np.array, brax.state[0].policy_params)
    brax.run()
    assert counters() == [16 + 20, 15]
    assert (brax.side.env_steps, brax.side.updates) == (20, 15)
    after = brax.state[0].policy_params
    assert not np.array_equal(*(jax.tree.leaves(x)[0] for x in (weights, after)))
    assert brax.state[2].data.shape[1] == 400
    hidden = [x.shape[2] for x in jax.tree.leaves(brax.state[0].q_params) if x.ndim == 3]
    assert hidden == [8, 1, 8, 1]


def test_a_chunk_of_ppo_is_a_training_step_of_its_tuned_settings() -> None:
    chunk = speed.brax_chunk(speed.make_peer("ppo", CELL.config, 128))
    assert chunk.side.name == "brax_ppo.divisor_128"
    env_steps = 1024 * 32 * 30 // 128
    assert (chunk.side.env_steps, chunk.side.updates) == (env_steps, 0)
    weights = jax.tree.map(np.array, chunk.state[0].params)
    for chunks in (1, 2):
        chunk.run()
        assert int(chunk.state[0].env_steps.lo[0]) == chunks * env_steps
    after = jax.tree.map(np.array, chunk.state[0].params)
    assert not np.array_equal(*(jax.tree.leaves(x)[0] for x in (weights, after)))
    assert chunk.state[1].obs.shape[:2] == (1, 2048 // 128)


@pytest.mark.parametrize(
    ("peer", "epoch_steps", "warmup", "env_steps", "updates"),
    [
        ("sac_tuned", 20, 8192, 128, 8),
        ("sac_tuned", 1000, 8192, 1024, 64),
        ("ppo", 20, 0, 983_040, 0),
        ("ppo", 1_000_000, 0, 1_966_080, 0),
    ],
)
def test_an_epoch_of_a_tuned_peer_is_whole_training_steps(
    peer: str, epoch_steps: int, warmup: int, env_steps: int, updates: int
) -> None:
    config = configs.load([*CELL.overrides, f"epoch_steps={epoch_steps}", "seed=3"])
    found = speed.make_peer(peer, config, 1)
    assert (found.name, found.env_steps, found.updates) == (f"brax_{peer}", env_steps, updates)
    assert found.settings["num_timesteps"] == warmup + env_steps
    assert found.settings["seed"] == 3
    assert found.settings["num_envs"] == {"sac_tuned": 128, "ppo": 2048}[peer]
    assert not {"num_evals", "num_resets_per_eval"} & found.settings.keys()


def test_a_chunk_of_ours_does_what_it_says(ours: speed.Chunk) -> None:
    def counters() -> np.ndarray:
        return np.array([int(ours.state.vector_steps) * 4, int(ours.state.updates)])

    before = counters()
    assert before[1] > 0  # it is past its warm-up
    ours.run()
    assert (counters() - before).tolist() == [20, 15]
    assert (ours.side.env_steps, ours.side.updates) == (20, 15)
    assert ours.side.name == "fpmd_m.flow_steps_1.candidates_2.policy_delay_1"


def test_jax_is_left_as_it_is(brax: speed.Chunk) -> None:
    assert not hasattr(jax, "device_put_replicated")
    assert importlib.import_module("brax.training.agents.sac.train").jax is jax


def test_all_variants_are_compared_in_turns_with_brax(
    brax: speed.Chunk, ours: speed.Chunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def named(peer: speed.Peer) -> Side:
        return Side(peer.name, peer.env_steps, peer.updates, 1.0)

    asked: list[configs.Config] = []
    ran: list[str] = []

    def fpmd(config: configs.Config) -> speed.Chunk:
        asked.append(config)
        return ours

    monkeypatch.setattr(speed, "use_compile_cache", lambda: None)
    monkeypatch.setattr(
        speed, "brax_chunk", lambda peer: dataclasses.replace(brax, side=named(peer))
    )
    monkeypatch.setattr(speed, "fpmd", fpmd)
    monkeypatch.setattr(speed.Chunk, "run", lambda chunk: ran.append(chunk.side.name))
    words = [x for x in TINY if not x.startswith("algorithm.")]
    words += ["algorithm=fpmd_m,fpmd_r", "algorithm.candidates=1,8", "peer_divisor=8"]
    [cell] = make_plan(words, 1).cells
    records = list(speed.compare(cell.overrides, cell.variants, cell.peers, cell.peer_divisor, 2))
    peers = ["brax_sac", "brax_sac_tuned.divisor_8", "brax_ppo.divisor_8"]
    assert [record.get("name") for record in records[:4]] == [*peers, ours.side.name]
    assert [len(record["seconds"]) for record in records[11:]] == [11, 11]
    assert all(ran.count(peer) == 3 for peer in peers)
    assert [
        (
            x.algorithm.name,
            x.algorithm.flow_steps,
            x.algorithm.candidates,
            x.algorithm.policy_delay,
        )
        for x in asked
    ] == [
        (*actor, candidates, delay)
        for actor in (("fpmd_m", 1), ("fpmd_r", 20))
        for candidates in (1, 8)
        for delay in (2, 1)
    ]
    for config in asked:
        learn = config.learn
        assert (config.num_envs, config.epoch_steps, learn.batch, learn.updates) == (4, 20, 8, 3)
        assert (learn.n_step, learn.collect_steps, learn.normalize_obs) == (1, 1, True)
        assert config.actor.hidden == config.critic.hidden == [8]


def test_ratios_are_within_a_round_and_of_env_step_rates() -> None:
    sides = [
        Side("brax_sac", 20, 15, 1.0),
        Side("ours", 20, 15, 2.0),
        Side("brax_ppo", 600, 0, 3.0),
    ]
    seconds = [[2.0, 1.0, 3.0], [4.0, 1.0, 4.0], [5.0, 2.0, 10.0]]
    found = speed.metrics(sides, seconds)
    rates = {
        "peers-speed.brax_sac.env_steps_per_second": Quartiles.of([10.0, 5.0, 4.0]),
        "peers-speed.brax_sac.updates_per_second": Quartiles.of([7.5, 3.75, 3.0]),
        "peers-speed.ours.env_steps_per_second": Quartiles.of([20.0, 20.0, 10.0]),
        "peers-speed.ours.updates_per_second": Quartiles.of([15.0, 15.0, 7.5]),
        "peers-speed.brax_ppo.env_steps_per_second": Quartiles.of([200.0, 150.0, 60.0]),
    }
    assert found == rates | {
        "peers-speed.ours.ratio_to_brax_sac": Quartiles.of([2.0, 4.0, 2.5]),
        "peers-speed.brax_ppo.ratio_to_brax_sac": Quartiles.of([20.0, 30.0, 15.0]),
    }
    without = speed.metrics(sides[1:], [row[1:] for row in seconds])
    assert without == {name: x for name, x in rates.items() if "brax_sac" not in name}


@pytest.mark.parametrize("empty", [True, False])
def test_an_interruption_leaves_the_rounds_until_then(
    monkeypatch: pytest.MonkeyPatch, empty: bool
) -> None:
    def run(function: Any, *arguments: Any, env: Any) -> Iterator[fresh.Record]:
        assert function is speed.compare
        assert ("JAX_COMPILATION_CACHE_DIR" in env) == empty
        assert arguments == (CELL.overrides, CELL.variants, ("sac", "sac_tuned", "ppo"), 1, 5)
        yield vars(Side("brax_sac", 20, 15, 1.5))
        yield vars(Side("ours", 20, 15, 2.5))
        yield {"seconds": [2.0, 1.0]}
        raise KeyboardInterrupt

    monkeypatch.setattr(fresh, "run", run)
    found: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        speed.measure(CELL, 5, empty, found.append)
    assert found[:2] == [
        {"peers-speed.brax_sac.compile_seconds": 1.5},
        {"peers-speed.ours.compile_seconds": 2.5},
    ]
    assert found[2]["peers-speed.ours.ratio_to_brax_sac"] == Quartiles(2.0, 2.0, 2.0)


def test_an_unknown_task_is_named_before_anything_is_compiled() -> None:
    words = [x.replace("PendulumSwingup", "Pendulum") for x in TINY]
    [cell] = make_plan(words, 1).cells
    with pytest.raises(ConfigError, match="task=playground/Pendulum is unknown"):
        speed.make_peer("sac", cell.config, 1)


def test_a_task_that_nobody_tuned_is_named_before_anything_is_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(speed, "use_compile_cache", lambda: None)
    monkeypatch.setattr(speed, "brax_chunk", lambda peer: pytest.fail("compiles"))
    # Loading this one downloads its model.
    monkeypatch.setattr(speed.brax, "environment", lambda task, impl: {"action_repeat": 1})
    words = [x.replace("PendulumSwingup", "PandaPickCube") for x in TINY]
    [cell] = make_plan(words, 1).cells
    with pytest.raises(ConfigError, match="or peer=sac of peers-speed"):
        list(speed.compare(cell.overrides, cell.variants, cell.peers, 1, 1))
