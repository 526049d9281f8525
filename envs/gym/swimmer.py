"""Swimmer-v4 and -v5: swim forward in a plane with three links."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp

from ..base import Env, PhysicsState, State, spec_from_model
from ..physics.backend import Physics, center, uncenter
from ..physics.models import gym_model
from ..physics.options import PhysicsOptions
from .starts import noisy_start

_ROOT_X, _ROOT_Y = 0, 1
_CONTROL_COST = 1e-4
_RESET_NOISE = 0.1


class Swimmer(Env):
    """The task of gymnasium's `swimmer_v4.py` and `swimmer_v5.py`, which are the same.

    Observation: qpos without the position in the plane, then qvel. Reward: mean speed (m/s) of
    the first link's tip along x over the step, minus 0.0001 times the squared action. Never
    terminates. Start: uniform noise of +-0.1 on qpos and qvel.
    """

    def __init__(self, version: int, **options: Unpack[PhysicsOptions]) -> None:
        """Args are the gymnasium version, 4 or 5, and the options of `Physics`."""
        model = gym_model("swimmer.xml")
        self.physics = Physics(model, substeps=4, **options)
        self.spec = spec_from_model(
            f"gym/Swimmer-v{version}", model, obs_size=8, episode_steps=1000, substeps=4
        )

    def reset(self, key: jax.Array) -> State:
        physics = noisy_start(self.physics, key, _RESET_NOISE, normal_velocity=False)
        return State.begin(physics, _observe(physics))

    def step(self, state: State, action: jax.Array) -> State:
        start, x = center(state.physics, _ROOT_X)
        start, y = center(start, _ROOT_Y)
        end, _ = self.physics.step(start, action, lambda data: None)
        speed = end.qpos[_ROOT_X] / self.physics.control_dt
        reward = speed - _CONTROL_COST * jnp.square(action).sum()
        physics = uncenter(uncenter(end, _ROOT_X, x), _ROOT_Y, y)
        return State(
            physics=physics,
            obs=_observe(physics),
            reward=reward.astype(jnp.float32),
            terminated=jnp.zeros((), bool),
        )


def _observe(physics: PhysicsState) -> jax.Array:
    return jnp.concatenate([physics.qpos[2:], physics.qvel])
