"""brax's SAC and this program at equal settings: a chunk's work, and what is said of its time."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

from fpmd_mjx import config as configs
from fpmd_mjx.bench import fresh
from fpmd_mjx.bench.peers import speed
from fpmd_mjx.bench.peers.speed import Side
from fpmd_mjx.bench.plan import make_plan
from fpmd_mjx.bench.timing import Quartiles
from fpmd_mjx.config import ConfigError

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
    "improvement.candidates=2",
    "learn.policy_delay=1",
]
[CELL] = make_plan(TINY, 1).cells


@pytest.fixture(scope="module")
def brax() -> speed.Chunk:
    return speed.brax_sac(CELL.config)


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
    asked: list[configs.Config] = []
    ran: list[str] = []

    def fpmd(config: configs.Config) -> speed.Chunk:
        asked.append(config)
        return ours

    monkeypatch.setattr(speed, "use_compile_cache", lambda: None)
    monkeypatch.setattr(speed, "brax_sac", lambda config: brax)
    monkeypatch.setattr(speed, "fpmd", fpmd)
    monkeypatch.setattr(speed.Chunk, "run", lambda chunk: ran.append(chunk.side.name))
    words = [x for x in TINY if not x.startswith(("improvement", "learn.policy"))]
    [cell] = make_plan([*words, "actor=fpmd_m,fpmd_r", "improvement.candidates=1,8"], 1).cells
    records = list(speed.compare(cell.overrides, cell.variants, 2))
    assert [record.get("name") for record in records[:2]] == ["brax_sac", ours.side.name]
    assert [len(record["seconds"]) for record in records[9:]] == [9, 9]
    assert ran.count("brax_sac") == 3
    assert [
        (x.actor.name, x.actor.flow_steps, x.improvement.candidates, x.learn.policy_delay)
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


def test_ratios_are_within_a_round_and_of_speed() -> None:
    sides = [Side("brax_sac", 20, 15, 1.0), Side("ours", 20, 15, 2.0)]
    found = speed.metrics(sides, [[2.0, 1.0], [4.0, 1.0], [3.0, 1.5]])
    assert found == {
        "peers-speed.brax_sac.env_steps_per_second": Quartiles.of([10.0, 5.0, 20 / 3]),
        "peers-speed.brax_sac.updates_per_second": Quartiles.of([7.5, 3.75, 5.0]),
        "peers-speed.ours.env_steps_per_second": Quartiles.of([20.0, 20.0, 40 / 3]),
        "peers-speed.ours.updates_per_second": Quartiles.of([15.0, 15.0, 10.0]),
        "peers-speed.ours.ratio_to_brax_sac": Quartiles.of([2.0, 4.0, 2.0]),
    }


def test_an_interruption_leaves_the_rounds_until_then(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(function: Any, *arguments: Any, env: Any) -> Iterator[fresh.Record]:
        assert (function, arguments) == (speed.compare, (CELL.overrides, CELL.variants, 5))
        yield vars(Side("brax_sac", 20, 15, 1.5))
        yield vars(Side("ours", 20, 15, 2.5))
        yield {"seconds": [2.0, 1.0]}
        raise KeyboardInterrupt

    monkeypatch.setattr(fresh, "run", run)
    found: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        speed.measure(CELL, 5, True, found.append)
    assert found[:2] == [
        {"peers-speed.brax_sac.compile_seconds": 1.5},
        {"peers-speed.ours.compile_seconds": 2.5},
    ]
    assert found[2]["peers-speed.ours.ratio_to_brax_sac"] == Quartiles(2.0, 2.0, 2.0)


def test_an_unknown_task_is_named_before_anything_is_compiled() -> None:
    words = [x.replace("PendulumSwingup", "Pendulum") for x in TINY]
    [cell] = make_plan(words, 1).cells
    with pytest.raises(ConfigError, match="task=playground/Pendulum is unknown"):
        speed.brax_sac(cell.config)
