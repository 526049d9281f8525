"""What ends an episode, and whether its last step is paid for, at the edges of what is healthy.

The physics is replaced by one that stands still, so that the tasks see exactly the state that the
original is asked about, and nothing is compiled.
"""

from __future__ import annotations

import types
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.base import Env, PhysicsState

# Alive, in v4 always and in v5 only while healthy.
ALIVE = {"Hopper": 1.0, "Walker2d": 1.0, "Ant": 1.0, "Humanoid": 5.0}
# (index into qpos followed by qvel, values around an edge)
EDGES: dict[str, list[tuple[int, list[float]]]] = {
    "Hopper": [
        (1, [0.699, 0.701, 5.0, np.inf]),  # height
        (2, [-0.201, -0.199, 0.199, 0.201]),  # pitch
        (5, [-101.0, 99.0, 101.0]),  # an angle
        (6, [-101.0, 99.0, 101.0]),  # the first velocity
        (11, [-99.0, 101.0]),  # the last one
    ],
    "Walker2d": [
        (1, [0.799, 0.801, 1.999, 2.001, np.inf]),
        (2, [-1.001, -0.999, 0.999, 1.001]),
        (12, [1000.0]),
    ],
    "Ant": [
        (2, [0.199, 0.201, 0.999, 1.001]),
        (0, [1000.0, np.inf]),
        (20, [1000.0, -np.inf, np.nan]),
    ],
    "Humanoid": [(2, [0.999, 1.001, 1.999, 2.001, np.nan]), (30, [1000.0])],
}


def original(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return gymnasium.make(name.removeprefix("gym/"), disable_env_checker=True).unwrapped


def blank(env: Env) -> envs.State:
    """Returns a state of the task's shapes without the cost of a reset."""
    shapes = jax.eval_shape(env.reset, jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def stand_still(env: Env) -> None:
    """Replaces the step of the task's physics by the identity, at which nothing is seen."""
    model = env.physics.model
    zeros = types.SimpleNamespace(
        xpos=jnp.zeros((model.nbody, 3)),
        xipos=jnp.zeros((model.nbody, 3)),
        cvel=jnp.zeros((model.nbody, 6)),
        qfrc_actuator=jnp.zeros(model.nv),
    )

    def step(
        state: PhysicsState, ctrl: jax.Array, read: Callable[[Any], Any]
    ) -> tuple[PhysicsState, Any]:
        return state, read(zeros)

    env.physics.step = step
    env.physics.external_forces = lambda data: jnp.zeros((model.nbody, 6))
    env.physics.body_inertias = lambda data: jnp.zeros((model.nbody, 10))


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("task", EDGES)
def test_episodes_end_where_the_originals_do(task: str, version: int) -> None:
    name = f"gym/{task}-v{version}"
    env, real = envs.make(name), original(name)
    stand_still(env)
    rows, healthy = [], []
    for index, values in EDGES[task]:
        for value in values:
            row = np.concatenate([real.init_qpos, np.zeros(real.model.nv)])
            row[index] = value
            real.data.qpos[:], real.data.qvel[:] = np.split(row, [real.model.nq])
            rows.append(row)
            healthy.append(real.is_healthy)
    qpos, qvel = np.split(np.stack(rows), [real.model.nq], axis=1)
    start = blank(env)

    @jax.vmap
    def step(qpos: jax.Array, qvel: jax.Array) -> envs.State:
        state = start.replace(physics=env.physics.init(qpos, qvel))
        return env.step(state, jnp.zeros(env.spec.action_size, jnp.float32))

    after = jax.jit(step)(qpos, qvel)
    np.testing.assert_array_equal(after.terminated, ~np.array(healthy))
    alive = ALIVE[task] * ((version == 4) | np.array(healthy))
    np.testing.assert_allclose(after.reward, alive, rtol=0, atol=1e-6)
    assert 2 < sum(healthy) < len(healthy) - 2


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize(("height", "ends"), [(0.999, True), (1.0, True), (1.001, False)])
def test_double_pendulum_ends_when_its_tip_is_low(version: int, height: float, ends: bool) -> None:
    env = envs.make(f"gym/InvertedDoublePendulum-v{version}")
    seen = types.SimpleNamespace(
        site_xpos=jnp.array([[0.5, 0.0, height]]), qfrc_constraint=jnp.zeros(3)
    )
    env.physics.step = lambda state, ctrl, read: (state, read(seen))
    state = blank(env).replace(physics=env.physics.init(np.zeros(3), [9.0, 2.0, 3.0]))
    after = env.step(state, jnp.zeros(1, jnp.float32))
    assert bool(after.terminated) == ends
    alive = 10 * (version == 4 or not ends)
    costs = 0.01 * 0.5**2 + (height - 2) ** 2 + 0.001 * 2**2 + 0.005 * 3**2
    np.testing.assert_allclose(after.reward, alive - costs, rtol=1e-5)
