"""HalfCheetah-v4 and -v5: run forward in a plane."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp

from ..base import Env, PhysicsState, State, spec_from_model
from ..physics.backend import Physics, center, uncenter
from ..physics.models import gym_model
from ..physics.options import PhysicsOptions
from .starts import noisy_start

_ROOT_X = 0
_CONTROL_COST = 0.1
_RESET_NOISE = 0.1


class HalfCheetah(Env):
    """The task of gymnasium's `half_cheetah_v4.py` and `half_cheetah_v5.py`, which are the same.

    Observation: qpos without the horizontal position, then qvel. Reward: mean forward speed
    (m/s) over the step, minus 0.1 times the squared action. Never terminates. Start: uniform
    noise of +-0.1 on qpos, normal noise of scale 0.1 on qvel.
    """

    def __init__(self, version: int, **options: Unpack[PhysicsOptions]) -> None:
        """Args are the gymnasium version, 4 or 5, and the options of `Physics`."""
        model = gym_model("half_cheetah.xml")
        self.physics = Physics(model, substeps=5, **options)
        self.spec = spec_from_model(
            f"gym/HalfCheetah-v{version}", model, obs_size=17, episode_steps=1000, substeps=5
        )

    def reset(self, key: jax.Array) -> State:
        physics = noisy_start(self.physics, key, _RESET_NOISE, normal_velocity=True)
        return State.begin(physics, _observe(physics))

    def step(self, state: State, action: jax.Array) -> State:
        start, x = center(state.physics, _ROOT_X)
        end, _ = self.physics.step(start, action, lambda data: None)
        speed = end.qpos[_ROOT_X] / self.physics.control_dt
        reward = speed - _CONTROL_COST * jnp.square(action).sum()
        physics = uncenter(end, _ROOT_X, x)
        return State(
            physics=physics,
            obs=_observe(physics),
            reward=reward.astype(jnp.float32),
            terminated=jnp.zeros((), bool),
        )


def _observe(physics: PhysicsState) -> jax.Array:
    return jnp.concatenate([physics.qpos[1:], physics.qvel])
