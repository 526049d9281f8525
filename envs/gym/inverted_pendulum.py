"""InvertedPendulum-v4 and -v5: keep a pole upright on a cart."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp

from ..base import Env, State, spec_from_model
from ..physics.backend import Physics
from ..physics.models import gym_model
from ..physics.options import PhysicsOptions

_MAX_ANGLE = 0.2  # rad
_RESET_NOISE = 0.01


class InvertedPendulum(Env):
    """The task of gymnasium's `inverted_pendulum_v4.py` and `inverted_pendulum_v5.py`.

    Observation: cart position (m), pole angle (rad), and their velocities. Terminates when the
    pole leans by more than 0.2 rad or the state is not finite. Reward: 1 a step; v5 gives 0 for
    the terminating one. Start: uniform in +-0.01 around rest.
    """

    def __init__(self, version: int, **options: Unpack[PhysicsOptions]) -> None:
        """Args are the gymnasium version, 4 or 5, and the options of `Physics`."""
        self._pays_for_falling = version == 4
        model = gym_model("inverted_pendulum.xml")
        self.physics = Physics(model, substeps=2, **options)
        self.spec = spec_from_model(
            f"gym/InvertedPendulum-v{version}", model, obs_size=4, episode_steps=1000, substeps=2
        )

    def reset(self, key: jax.Array) -> State:
        noise = jax.random.uniform(key, (4,), jnp.float32, -_RESET_NOISE, _RESET_NOISE)
        physics = self.physics.init(noise[:2], noise[2:])
        return State.begin(physics, noise)

    def step(self, state: State, action: jax.Array) -> State:
        physics, _ = self.physics.step(state.physics, action, lambda data: None)
        obs = jnp.concatenate([physics.qpos, physics.qvel])
        terminated = ~jnp.isfinite(obs).all() | (jnp.abs(obs[1]) > _MAX_ANGLE)
        paid = jnp.ones((), bool) if self._pays_for_falling else ~terminated
        return State(
            physics=physics, obs=obs, reward=paid.astype(jnp.float32), terminated=terminated
        )
