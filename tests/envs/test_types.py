"""Shapes, types and static facts of the tasks; nothing here is compiled."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.base import State
from envs.devtools import parity
from envs.physics.options import compiler_options

from .harness import SAMPLE, Task, make, make_real


def described(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def test_every_task_has_the_same_strong_types(task_on_c: Task) -> None:
    """On C MuJoCo, as tracing MJX takes a dozen seconds a task."""
    env, real = task_on_c.env, task_on_c.real
    reset = check_types(env)
    real.reset(seed=0)
    joined = jax.tree.map(jnp.asarray, env.task_from_original(real.model, real.data))
    assert described(joined) == described(reset.task)


@pytest.mark.parametrize("name", SAMPLE)
def test_mjx_has_the_same_strong_types(name: str) -> None:
    check_types(make(name))


def check_types(env: Any) -> State:
    """Otherwise a scan over steps is refused, or a jitted epoch traces twice."""
    action = jax.ShapeDtypeStruct((env.spec.action_size,), jnp.float32)
    reset = jax.eval_shape(env.reset, jax.random.key(0))
    stepped = jax.eval_shape(env.step, reset, action)
    assert described(reset) == described(stepped)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((reset, stepped)))
    assert (reset.obs.shape, reset.obs.dtype) == ((env.spec.obs_size,), jnp.float32)
    assert (reset.reward.shape, reset.reward.dtype) == ((), jnp.float32)
    assert (reset.terminated.shape, reset.terminated.dtype) == ((), jnp.bool_)
    # The state holds nothing else; what a task remembers is its own.
    model = env.physics.model
    size = sum(leaf.size for leaf in jax.tree.leaves(reset.replace(task=None)))
    assert size == model.nq + 2 * model.nv + model.na + env.spec.obs_size + 2
    return reset


@pytest.mark.parametrize("name", parity.comparable())
def test_spec_is_the_originals(name: str) -> None:
    spec = make(name).spec
    # The original's own interface, of which the one that we share has no more than is needed.
    original = make_real(name)._env
    if name.startswith("gym/"):
        low, high = original.action_space.low, original.action_space.high
        obs_size = original.observation_space.shape[0]
        steps, dt = original.spec.max_episode_steps, original.unwrapped.dt
    else:
        low, high = original.action_spec().minimum, original.action_spec().maximum
        obs_size = sum(int(np.prod(part.shape)) for part in original.observation_spec().values())
        steps, dt = original._step_limit, original.control_timestep()
    np.testing.assert_array_equal(spec.action_low, np.float32(low))
    np.testing.assert_array_equal(spec.action_high, np.float32(high))
    assert spec.action_low.dtype == spec.action_high.dtype == np.float32
    assert (spec.obs_size, spec.action_size) == (obs_size, len(low))
    assert spec.episode_steps == steps
    np.testing.assert_allclose(spec.control_dt, dt)


@pytest.mark.parametrize(
    ("name", "chain", "fused"),
    [
        ("dmc/ball_in_cup_catch", 1, True),
        ("dmc/cartpole_swingup", 2, True),
        ("dmc/cheetah_run", 4, True),
        ("playground/CheetahRun", 4, True),
        ("dmc/hopper_hop", 5, False),
        ("gym/Humanoid-v5", 6, False),
        ("dmc/swimmer_swimmer6", 6, False),
    ],
)
def test_long_chains_are_compiled_without_fusion_emitters(
    name: str, chain: int, fused: bool
) -> None:
    found = make(name).spec.longest_chain
    assert found == chain
    options = compiler_options(found)
    choice = {"xla_cpu_use_fusion_emitters": fused}
    assert options == (choice if jax.__version_info__ < (0, 11) else {})
    assert jax.jit(jnp.sin, compiler_options=options)(0.0) == 0.0  # XLA refuses what it lacks
