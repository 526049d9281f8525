"""Shapes, types and static facts of the tasks; nothing here is compiled."""

from __future__ import annotations

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dm_control import suite

import envs
from envs.models import without_deprecation_notices


@pytest.mark.parametrize("name", envs.tasks())
def test_reset_and_step_have_the_same_strong_types(name: str) -> None:
    """Otherwise a scan over steps is refused, or a jitted epoch traces twice."""
    env = envs.make(name)
    action = jax.ShapeDtypeStruct((env.spec.action_size,), jnp.float32)
    reset = jax.eval_shape(env.reset, jax.random.key(0))
    stepped = jax.eval_shape(env.step, reset, action)
    again = jax.eval_shape(env.step, stepped, action)

    def described(tree: object) -> object:
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), tree)

    assert described(reset) == described(stepped) == described(again)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((reset, stepped)))
    assert (reset.obs.shape, reset.obs.dtype) == ((env.spec.obs_size,), jnp.float32)
    assert (reset.reward.shape, reset.reward.dtype) == ((), jnp.float32)
    assert (reset.terminated.shape, reset.terminated.dtype) == ((), jnp.bool_)


@pytest.mark.parametrize("name", envs.tasks())
def test_state_is_minimal(name: str) -> None:
    env = envs.make(name)
    model = env.physics.model
    # What a task draws beyond the physics, such as the place of a target, is its own.
    state = jax.eval_shape(env.reset, jax.random.key(0)).replace(task=None)
    size = sum(leaf.size for leaf in jax.tree.leaves(state))
    assert size == model.nq + 2 * model.nv + env.spec.obs_size + 2


@pytest.mark.parametrize("name", envs.tasks())
def test_spec_is_the_originals(name: str) -> None:
    spec = envs.make(name).spec
    family, name = name.split("/")
    if family == "gym":
        with without_deprecation_notices():
            gym_env = gymnasium.make(name)
        low, high = gym_env.action_space.low, gym_env.action_space.high
        obs_size = gym_env.observation_space.shape[0]
        steps, dt = gym_env.spec.max_episode_steps, gym_env.unwrapped.dt
    else:
        domain, task_name = name.split("_", 1)
        with without_deprecation_notices():
            dmc_env = suite.load(domain, task_name)
        low, high = dmc_env.action_spec().minimum, dmc_env.action_spec().maximum
        obs_size = sum(int(np.prod(part.shape)) for part in dmc_env.observation_spec().values())
        steps, dt = dmc_env._step_limit, dmc_env.control_timestep()
    np.testing.assert_array_equal(spec.action_low, low)
    np.testing.assert_array_equal(spec.action_high, high)
    assert spec.action_low.dtype == spec.action_high.dtype == np.float32
    assert (spec.obs_size, spec.action_size) == (obs_size, len(low))
    assert spec.episode_steps == steps
    np.testing.assert_allclose(spec.control_dt, dt)
