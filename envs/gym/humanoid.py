"""Humanoid-v4 and -v5: run forward on two legs."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from ..base import State
from ..physics.options import PhysicsOptions
from .humanoid_body import ROOT_X, ROOT_Z, HumanoidBody, control_cost, force_cost

_MIN_HEIGHT, _MAX_HEIGHT = 1.0, 2.0  # m
_SPEED_WEIGHT = 1.25
_ALIVE = 5.0


class Humanoid(HumanoidBody):
    """The task of gymnasium's `humanoid_v4.py` and `humanoid_v5.py`.

    Reward: 1.25 times the mean speed (m/s) of the centre of mass along x over the step, plus 5,
    minus 0.1 times the squared action; v5 subtracts 5e-7 times the squared external forces, at
    most 10, and does not pay the 5 for the terminating step. Terminates when the torso leaves the
    heights from 1 to 2 m. See `HumanoidBody` for observation and start.

    The original takes the speed from two readings of the centre of mass, both as of the last
    Runge-Kutta stage. So `State.task`, () float32, is the last reading minus the root's qpos along
    x (m).
    """

    def __init__(self, version: int, **options: Unpack[PhysicsOptions]) -> None:
        """Args are the gymnasium version, 4 or 5, and the options of `Physics`."""
        super().__init__("Humanoid", version, "humanoid.xml", **options)

    def reset(self, key: jax.Array) -> State:
        state, seen = self.start(key)
        return state.replace(task=seen.center_x - state.physics.qpos[ROOT_X])

    def step(self, state: State, action: jax.Array) -> State:
        physics, seen, moved = self.advance(state.physics, action)
        speed = (seen.center_x - state.task) / self.physics.control_dt
        height = physics.qpos[ROOT_Z]
        healthy = (height > _MIN_HEIGHT) & (height < _MAX_HEIGHT)
        reward = _SPEED_WEIGHT * speed - control_cost(action)
        if self.version == 4:
            reward += _ALIVE
        else:
            reward += jnp.where(healthy, _ALIVE, 0.0) - force_cost(seen)
        return State(
            physics=physics,
            obs=self.observe(physics, seen),
            reward=reward.astype(jnp.float32),
            terminated=~healthy,
            task=seen.center_x - moved,
        )

    def task_from_original(self, model: mujoco.MjModel, data: mujoco.MjData) -> jax.Array:
        center_x = np.average(data.xipos[:, 0], weights=model.body_mass)
        return jnp.float32(center_x - data.qpos[ROOT_X])
