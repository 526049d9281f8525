"""cartpole: balance a pole on a cart, or swing it up first; shaped or sparse reward."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp

from ..base import Env, PhysicsState, State, spec_from_model
from ..physics.backend import Physics
from ..physics.models import dmc_model
from ..physics.options import PhysicsOptions
from .rewards import tolerance

_CART_BOUNDS = (-0.25, 0.25)  # m, where the sparse reward is paid
_UPRIGHT_BOUNDS = (0.995, 1.0)  # cosine of the pole's angle, likewise


class Cartpole(Env):
    """The single-pole tasks of dm_control's `suite/cartpole.py`.

    Observation: cart position (m), cosine and sine of the pole's angle (0 is upright), velocities
    (m/s, rad/s). Never terminates. The shaped reward sees the action as it was sent, before
    MuJoCo clamps it.
    """

    def __init__(
        self,
        *,
        swing_up: bool,
        sparse: bool,
        **options: Unpack[PhysicsOptions],
    ) -> None:
        """Args.

        swing_up: start hanging down instead of near upright.
        sparse: pay 1 near the goal and 0 elsewhere.
        options: of `Physics`.
        """
        self._swing_up = swing_up
        self._sparse = sparse
        model = dmc_model("cartpole.xml")
        self.physics = Physics(model, substeps=1, **options)
        task = ("swingup" if swing_up else "balance") + ("_sparse" if sparse else "")
        self.spec = spec_from_model(
            f"dmc/cartpole_{task}", model, obs_size=5, episode_steps=1000, substeps=1
        )

    def reset(self, key: jax.Array) -> State:
        qpos_key, qvel_key = jax.random.split(key)
        if self._swing_up:
            hanging = jnp.asarray([0.0, jnp.pi], jnp.float32)
            qpos = hanging + 0.01 * jax.random.normal(qpos_key, (2,), jnp.float32)
        else:
            reach = jnp.asarray([0.1, 0.034], jnp.float32)
            qpos = reach * jax.random.uniform(qpos_key, (2,), jnp.float32, -1.0, 1.0)
        qvel = 0.01 * jax.random.normal(qvel_key, (2,), jnp.float32)
        physics = self.physics.init(qpos, qvel)
        return State.begin(physics, _observe(physics))

    def step(self, state: State, action: jax.Array) -> State:
        physics, _ = self.physics.step(state.physics, action, lambda data: None)
        reward = _sparse_reward(physics) if self._sparse else _shaped_reward(physics, action)
        return State(
            physics=physics,
            obs=_observe(physics),
            reward=reward,
            terminated=jnp.zeros((), bool),
        )


def _observe(physics: PhysicsState) -> jax.Array:
    cart, angle = physics.qpos
    return jnp.concatenate([jnp.stack([cart, jnp.cos(angle), jnp.sin(angle)]), physics.qvel])


def _sparse_reward(physics: PhysicsState) -> jax.Array:
    cart, angle = physics.qpos
    return tolerance(cart, _CART_BOUNDS) * tolerance(jnp.cos(angle), _UPRIGHT_BOUNDS)


def _shaped_reward(physics: PhysicsState, action: jax.Array) -> jax.Array:
    cart, angle = physics.qpos
    upright = (1 + jnp.cos(angle)) / 2
    centered = (1 + tolerance(cart, margin=2)) / 2
    effort = tolerance(action[0], margin=1, value_at_margin=0, sigmoid="quadratic")
    small_control = (4 + effort) / 5
    small_velocity = (1 + tolerance(physics.qvel[1], margin=5)) / 2
    return upright * small_control * small_velocity * centered
