"""FPMD+'s mirror-descent step against its closed form, and its policy at a known optimum.

One state; the old policy around a sample a is N(a, s^2 I). With a linear Q of gradient g the new
one, pi_old exp(Q / lambda) normalised, is N(a + s^2 g / lambda, s^2 I).
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fpmd_mjx.algorithms import make_algorithm
from fpmd_mjx.algorithms.base import ONE_STEP, Mode
from fpmd_mjx.algorithms.fpmd_plus import FpmdPlus, Learner
from fpmd_mjx.data.counter import Counter
from fpmd_mjx.data.replay import Batch

from ..toy import tiny_config

OBS, ACTION = 3, 2
STD = jnp.float32(0.2)

# LLVM's passes cost more than they save in a program that runs for a second.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@dataclasses.dataclass(frozen=True)
class Known:
    """A critic whose Q is known: `value` of (features, action)."""

    value_of: Any

    def init(self, key: jax.Array) -> Any:
        return {"none": jnp.zeros(1)}

    def values(self, params: Any, obs: jax.Array, action: jax.Array) -> jax.Array:
        return jnp.stack([self.value_of(obs, action)] * 2)

    def value(self, params: Any, obs: jax.Array, action: jax.Array) -> jax.Array:
        return self.value_of(obs, action)

    def loss(self, params: Any, obs: Any, action: Any, target: Any, mask: Any) -> Any:
        return jnp.sum(params["none"]), self.values(params, obs, action)


def make(value: Any, *overrides: str) -> FpmdPlus:
    config = tiny_config("algorithm=fpmd_m_plus", *overrides)
    algorithm = make_algorithm(config, (OBS,), ACTION)
    assert isinstance(algorithm, FpmdPlus)
    networks = dataclasses.replace(algorithm.networks, critic=Known(value))
    return dataclasses.replace(algorithm, networks=networks)


GRADIENT = np.array([3.0, -4.0])


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e6])
@pytest.mark.parametrize("radius", [0.02, 0.5])
def test_the_step_is_the_one_of_that_kl_divergence_in_any_unit_of_q(
    scale: float, radius: float
) -> None:
    algorithm = make(lambda obs, a: scale * (a @ GRADIENT), f"algorithm.radius={radius}")
    action = jnp.asarray(np.random.default_rng(0).uniform(-0.5, 0.5, (64, ACTION)), jnp.float32)
    goal, move = algorithm._improved({}, jnp.zeros((64, OBS)), action, STD)
    moves = np.asarray(goal - action, np.float64)
    direction = GRADIENT / np.linalg.norm(GRADIENT)
    np.testing.assert_allclose(moves @ direction, np.linalg.norm(moves, axis=1), rtol=1e-3)
    divergence = (moves**2).sum(1) / (2 * float(STD) ** 2)  # of two Gaussians of the same std
    np.testing.assert_allclose(divergence, radius, rtol=1e-3)
    np.testing.assert_allclose(move, np.linalg.norm(moves, axis=1).mean(), rtol=1e-4)


def test_one_lambda_for_the_batch_keeps_small_steps_where_q_is_flat() -> None:
    """The radius is that of the mean: twice the gradient, twice the move."""

    def value(obs: jax.Array, a: jax.Array) -> jax.Array:
        return obs[:, 0] * a[:, 0]

    obs = jnp.asarray([[1.0, 0, 0], [2.0, 0, 0], [0.0, 0, 0]])
    goal, _ = make(value, "algorithm.radius=0.1")._improved({}, obs, jnp.zeros((3, ACTION)), STD)
    moves = np.asarray(goal[:, 0], np.float64)
    np.testing.assert_allclose(moves[1], 2 * moves[0], rtol=1e-5)
    assert moves[2] == 0.0
    np.testing.assert_allclose((moves**2).mean() / (2 * float(STD) ** 2), 0.1, rtol=1e-5)


def test_goals_stay_within_the_bounds_and_a_flat_q_moves_nothing() -> None:
    algorithm = make(lambda obs, a: jnp.sum(a, -1), "algorithm.radius=5")
    outside = jnp.asarray([[0.99, -3.0], [2.0, 0.0]])
    goal, _ = algorithm._improved({}, jnp.zeros((2, OBS)), outside, STD)
    assert (np.abs(goal) <= 1.0).all()
    np.testing.assert_array_equal(goal[:, 0], [1.0, 1.0])
    flat = make(lambda obs, a: jnp.zeros(a.shape[:-1]))
    goal, move = flat._improved({}, jnp.zeros((2, OBS)), outside, STD)
    np.testing.assert_array_equal(goal, np.clip(outside, -1, 1))
    assert move == 0.0


TOP = np.array([[0.5, -0.3], [-0.2, 0.7], [0.0, 0.0]])


def best(obs: jax.Array, a: jax.Array) -> jax.Array:
    """The maximum in state i is at TOP[i]."""
    return -jnp.sum(jnp.square(a - obs @ TOP), -1)


@pytest.mark.parametrize("name", ["fpmd_m_plus", "fpmd_r_plus"])
def test_the_policy_finds_the_best_action_of_every_state(name: str) -> None:
    """In one step, from x = 0 and from noise alike."""
    algorithm = make(
        best,
        f"algorithm={name}",
        "actor.hidden=[64,64]",
        "actor.lr=3e-3",
        "actor.final_lr=1e-4",
        "actor.decay_begin=500",
        "actor.decay_end=1500",
        "algorithm.policy_delay=1",
        "algorithm.noise.interval=50",
        "algorithm.average_rate=0.01",
    )
    obs = jnp.tile(jnp.eye(OBS), (32, 1))
    zeros = jnp.zeros(len(obs))
    batch = Batch(obs, jnp.zeros((len(obs), ACTION)), zeros, zeros, obs, zeros + 1)

    @jit
    def learn(key: jax.Array) -> Learner:
        def step(carry: Any, key: jax.Array) -> Any:
            learner, count = carry
            learner, _ = algorithm.update(learner, batch, key, count)
            return (learner, count.add(1)), None

        first, *keys = jax.random.split(key, 1601)
        start = algorithm.init(first), Counter.zero()
        return jax.lax.scan(step, start, jnp.stack(keys))[0][0]

    learner = learn(jax.random.key(0))
    policy = algorithm.policy(learner)
    states = jnp.eye(OBS)
    found = algorithm.act(algorithm.deploy(policy, ONE_STEP), states, None, ONE_STEP)
    np.testing.assert_allclose(found, TOP, atol=0.06)
    sampled = algorithm.act(policy, jnp.tile(states, (50, 1)), jax.random.key(1), Mode("steps", 1))
    np.testing.assert_allclose(sampled, np.tile(TOP, (50, 1)), atol=0.2)


def test_the_policy_learns_from_its_share_of_the_batch() -> None:
    """From its first states alone."""
    algorithm = make(best, "algorithm.policy_share=0.5", "algorithm.policy_delay=1")
    learner, zeros = algorithm.init(jax.random.key(0)), jnp.zeros(6)
    states = jnp.tile(jnp.eye(OBS), (2, 1))

    @jit
    def actor_after(next_obs: jax.Array) -> Any:
        batch = Batch(states, jnp.zeros((6, ACTION)), zeros, zeros, next_obs, zeros + 1)
        return algorithm.update(learner, batch, jax.random.key(1), Counter.zero())[0].actor

    def change(changed: jax.Array) -> float:
        pairs = zip(*map(jax.tree.leaves, (actor_after(states), actor_after(changed))), strict=True)
        return max(float(jnp.max(jnp.abs(a - b))) for a, b in pairs)

    assert change(states.at[3:].add(1.0)) == 0.0
    assert change(states.at[2].add(1.0)) > 0.0


def test_the_average_is_that_of_all_actors() -> None:
    algorithm = make(best, "algorithm.average_rate=0.25", "algorithm.policy_delay=2")
    obs = jnp.eye(OBS)
    zeros = jnp.zeros(OBS)
    batch = Batch(obs, jnp.zeros((OBS, ACTION)), zeros, zeros, obs, zeros + 1)
    update = jit(algorithm.update)
    learner, count = algorithm.init(jax.random.key(0)), Counter.zero()
    wanted = jax.tree.map(np.asarray, learner.actor)
    for i in range(6):
        learner, _ = update(learner, batch, jax.random.key(i), count)
        count = count.add(1)
        if i % 2 == 1:  # the policy waits for every other update
            wanted = jax.tree.map(lambda w, a: 0.75 * w + 0.25 * a, wanted, learner.actor)
    found = algorithm.policy(learner).actor
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
