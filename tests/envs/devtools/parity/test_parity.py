"""The ports against the original simulators, from the same states with the same actions.

The relative errors are those of `envs.devtools.parity`, where their meaning is explained.
"""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest

import envs
from envs.devtools import parity
from envs.devtools.parity import rounding
from envs.devtools.parity.compare import different_flags, errors, scales
from envs.devtools.parity.controllers import Policy, policies, uniform, waves
from envs.devtools.parity.original import Starts, record
from envs.devtools.parity.port import BATCH
from envs.devtools.parity.tolerances import TOLERANCE
from envs.physics.options import COMPILER_OPTIONS

from ...harness import SAMPLE, Task, load, on_c

# On C MuJoCo only the states are rounded, and what the task computes.
TOLERANCE_ON_C = 1e-4
# Where things touch. A body that lies on the floor feels forces of thousands of newtons through
# penetrations that float32 barely resolves; and in some of the steps rounding decides whether a
# contact is made in this physics step or in the next, which is something else altogether.
STIFF_TOLERANCE_ON_C = TOLERANCE
NO_CONTACT_MADE = 0.95
# Compared with what was measured before: other processors round in another order.
MARGIN = 10.0
ROUNDING = 1e-6


def controllers(task: Task) -> list[Policy]:
    return list(policies(task.env).values())


def test_every_task_on_c(task_on_c: Task) -> None:
    """Observation, reward and ends, apart from MJX."""
    port, real, env = task_on_c.port, task_on_c.real, task_on_c.env
    played = record(env, real, controllers(task_on_c), episodes=5, seed=0, longest=200)
    seen = played.sample(10 * BATCH)
    stepped = port.one_step(seen)
    found = errors(stepped, seen, scales(played))
    # The double pendulum touches nothing, but shows the force at the end of its rail.
    stiff = played.contacts.any() or "InvertedDoublePendulum" in env.spec.name
    share, bound = (NO_CONTACT_MADE, STIFF_TOLERANCE_ON_C) if stiff else (1.0, TOLERANCE_ON_C)
    largest = {what: np.quantile(error, share) for what, error in found.items()}
    assert max(largest.values()) <= bound, largest
    assert different_flags(stepped, seen, env.spec) == 0


def test_a_sample_of_the_table_is_measured_again(sampled_task: Task) -> None:
    name = sampled_task.env.spec.name
    found = parity.measure(
        sampled_task.port,
        sampled_task.real,
        episodes=8,
        states=30 * BATCH,
        resets=20 * BATCH,
        seconds=10,
    )
    assert parity.status(name, found) == "exact", json.dumps(found, indent=2)
    committed = parity.measured()[name]
    assert parity.status(name, committed) == "exact"
    for what, error in found["one_step"].items():
        before = committed["one_step"][what]
        assert error["p99"] <= MARGIN * before["p99"] + ROUNDING, what
        assert error["max"] <= MARGIN * before["max"] + ROUNDING, what


@pytest.mark.parametrize("version", [4, 5])
def test_inverted_pendulum_falls_when_the_original_does(version: int) -> None:
    task = on_c(f"gym/InvertedPendulum-v{version}")
    seen = record(task.env, task.real, [uniform(task.env.spec)], episodes=60, seed=7)
    # Otherwise the comparison of flags above would have compared nothing.
    assert seen.terminated.sum() == 60
    port = task.port.one_step(seen)
    np.testing.assert_array_equal(port.terminated, seen.terminated)
    np.testing.assert_array_equal(port.reward, seen.reward)
    assert set(port.reward[seen.terminated]) == ({1.0} if version == 4 else {0.0})


def test_inverted_pendulum_terminates_when_not_finite() -> None:
    task = load("gym/InvertedPendulum-v5")
    qpos, qvel, act, obs = (np.full((BATCH, n), np.nan) for n in (2, 2, 0, 4))
    state = task.port.at(Starts(qpos, qvel, act, np.zeros((BATCH, 2)), None, obs))
    after = task.port.step(state, np.zeros((BATCH, 1), np.float32))
    assert np.asarray(after.terminated).all()


@pytest.mark.parametrize("name", ["dmc/cartpole_balance_sparse", "dmc/cartpole_swingup_sparse"])
def test_sparse_cartpole_pays_where_the_original_does(name: str) -> None:
    task = on_c(name)
    rng = np.random.default_rng(0)
    # Around the edges of both intervals that are paid for.
    starts = rng.uniform([-0.3, -0.13], [0.3, 0.13], (10 * BATCH, 2))
    rewards, observed = [], []
    for qpos in starts:
        observed.append(task.real.set_state(qpos, np.zeros(2)))
        _, reward, _, _ = task.real.step(np.zeros(1))
        rewards.append(reward)
    assert 0.2 < np.mean(rewards) < 0.8
    still, none = np.zeros((len(starts), 2)), np.zeros((len(starts), 0))
    rows = Starts(starts, still, none, still, None, np.stack(observed))
    for i in range(0, len(starts), BATCH):
        state = task.port.at(rows.take(np.arange(i, i + BATCH)))
        port = task.port.step(state, np.zeros((BATCH, 1), np.float32))
        np.testing.assert_array_equal(port.reward, rewards[i : i + BATCH])


@pytest.mark.parametrize("name", ["gym/HalfCheetah-v5", "dmc/cheetah_run"])
def test_runners_lose_no_precision_far_from_the_origin(name: str) -> None:
    task = load(name)
    seen = record(task.env, task.real, [waves(task.env.spec, 3)], 1, seed=3, longest=BATCH)
    near = task.port.one_step(seen)
    far_qpos = seen.qpos + np.where(np.arange(seen.qpos.shape[1]) == 0, 1000.0, 0.0)
    far = task.port.one_step(dataclasses.replace(seen, qpos=far_qpos))
    np.testing.assert_array_equal(far.obs, near.obs)
    np.testing.assert_array_equal(far.reward, near.reward)
    np.testing.assert_allclose(far.physics.qpos[:, 0] - 1000, near.physics.qpos[:, 0], atol=2e-4)


def test_lowered_solver_limits_move_nothing() -> None:
    """They are no further from the original than the model's own, which are too slow for more."""
    task = load("gym/HalfCheetah-v5")
    own = envs.make("gym/HalfCheetah-v5", iterations=None, ls_iterations=None)
    assert own.physics.model.opt.iterations > task.env.physics.model.opt.iterations
    step = jax.jit(jax.vmap(own.step), compiler_options=COMPILER_OPTIONS)
    seen = record(task.env, task.real, controllers(task), 4, seed=50, longest=100)
    scale = scales(seen)
    found = [
        errors(dataclasses.replace(task.port, step=s).one_step(seen), seen, scale)["obs"]
        for s in (task.port.step, step)
    ]
    # Rounding differs between two compiled programs, by the few ulps of the floor.
    for lowered, unlimited in (
        [x.max() for x in found],
        [np.quantile(x, 0.99) for x in found],
    ):
        assert lowered <= 1.5 * unlimited + ROUNDING


# --------------------------------------------------------------------- the measurement itself


def test_a_wrong_port_is_found_out() -> None:
    """Each of the checks fails for a port that is wrong in what it looks at."""
    name = "gym/InvertedPendulum-v5"
    task = on_c(name)

    def result(**changes: object) -> dict[str, bool | None]:
        port = dataclasses.replace(task.port, **changes)
        found = parity.measure(port, task.real, episodes=4, states=100, resets=200, seconds=0.5)
        return parity.verdict(name, found)

    step, reset = task.port.step, task.port.reset
    assert set(result().values()) == {True}

    def blind(state: envs.State, action: jax.Array) -> envs.State:
        after = step(state, action)
        return after.replace(obs=after.obs.at[:, 1].add(0.002))

    assert not result(step=blind)["one_step"]
    assert not result(step=blind)["open_loop"]

    def immortal(state: envs.State, action: jax.Array) -> envs.State:
        after = step(state, action)
        return after.replace(terminated=after.terminated & False)

    assert not result(step=immortal)["flags"]

    def generous(state: envs.State, action: jax.Array) -> envs.State:
        after = step(state, action)
        return after.replace(reward=after.reward * 1.01)

    assert not result(step=generous)["returns"]

    def leaning(keys: jax.Array) -> envs.State:
        start = reset(keys)
        return start.replace(obs=start.obs + 0.01)

    assert not result(reset=leaning)["resets"]


@pytest.mark.parametrize("name", SAMPLE)
def test_an_infinite_error_passes_nothing(name: str) -> None:
    found = json.loads(json.dumps(parity.measured()[name]))
    for part in ("one_step", "open_loop"):
        found[part]["obs"]["max"] = None
    verdict = parity.verdict(name, found)
    assert not verdict["one_step"]
    assert verdict["open_loop"] in (False, None)
    assert parity.status(name, found).startswith("differs: one_step")


def test_what_the_original_does_not_know_is_found_out() -> None:
    """Its solver is told to end early; played again with searches that go on, it goes elsewhere."""
    env, real = load("dmc/walker_walk").env, envs.make_real("dmc/walker_walk")

    def parts(tolerance: float, **wrong: float) -> float:
        real.model.opt.tolerance = tolerance
        seen = record(env, real, [uniform(env.spec)], 1, seed=0, longest=BATCH)
        scale = scales(seen)
        seen = dataclasses.replace(seen, **{x: getattr(seen, x) + by for x, by in wrong.items()})
        rows = (seen.take(np.array([i])) for i in range(BATCH))
        return max(rounding.from_itself(real, row, scale, TOLERANCE)["obs"] for row in rows)

    assert parts(1e-8) < 1e-5
    assert parts(1.0) > 1e-3
    # It cannot be put back to where it was seen, as if the task remembered more.
    assert parts(1.0, next_obs=0.1) == 0.0
