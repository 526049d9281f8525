"""pendulum: swing a pole up with a motor too weak to lift it, and hold it there."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
import numpy as np

from ..base import Env, PhysicsState, State, spec_from_model
from ..physics.backend import Physics
from ..physics.models import dmc_model
from ..physics.options import PhysicsOptions
from .rewards import tolerance

_UPRIGHT_COSINE = float(np.cos(np.deg2rad(8)))  # of the pole's angle, where the reward is paid


class PendulumSwingup(Env):
    """The task of dm_control's `suite/pendulum.py`.

    Observation: cosine and sine of the pole's angle (0 is upright), its velocity (rad/s).
    Reward: 1 within 8 degrees of upright, else 0. Never terminates. Start: at rest, at any angle.
    """

    def __init__(self, **options: Unpack[PhysicsOptions]) -> None:
        """Args are the options of `Physics`; the model has no constraints."""
        model = dmc_model("pendulum.xml")
        self.physics = Physics(model, substeps=1, **options)
        self.spec = spec_from_model(
            "dmc/pendulum_swingup", model, obs_size=3, episode_steps=1000, substeps=1
        )

    def reset(self, key: jax.Array) -> State:
        qpos = jax.random.uniform(key, (1,), jnp.float32, -jnp.pi, jnp.pi)
        physics = self.physics.init(qpos, jnp.zeros(1, jnp.float32))
        return State.begin(physics, _observe(physics))

    def step(self, state: State, action: jax.Array) -> State:
        physics, _ = self.physics.step(state.physics, action, lambda data: None)
        return State(
            physics=physics,
            obs=_observe(physics),
            reward=tolerance(jnp.cos(physics.qpos[0]), (_UPRIGHT_COSINE, 1.0)),
            terminated=jnp.zeros((), bool),
        )


def _observe(physics: PhysicsState) -> jax.Array:
    return jnp.concatenate([jnp.cos(physics.qpos), jnp.sin(physics.qpos), physics.qvel])
