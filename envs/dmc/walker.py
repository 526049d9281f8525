"""walker: a planar two-legged body that stands, walks at 1 m/s or runs at 8 m/s."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
from mujoco import mjx

from ..base import Env, State, spec_from_model
from ..physics.backend import Physics, center, uncenter
from ..physics.models import dmc_model, sensor_indices
from ..physics.options import PhysicsOptions
from .rewards import tolerance
from .starts import random_joint_angles

_ROOT_X = 1
_SPEEDS = {"stand": 0.0, "walk": 1.0, "run": 8.0}  # m/s, where the full reward begins
_STAND_HEIGHT = 1.2  # m, of the torso


class Walker(Env):
    """The tasks of dm_control's `suite/walker.py`.

    Observation: x and z of the x axis of every body, height of the torso (m), qvel. Reward: 3/4 for
    the torso's height and 1/4 for its being upright; walk and run scale it with the horizontal
    speed of the centre of mass. Never terminates. Start: joint angles uniform within their limits,
    turned anywhere, at rest.
    """

    def __init__(self, task: str, **options: Unpack[PhysicsOptions]) -> None:
        """Args are "stand", "walk" or "run", and the options of `Physics`."""
        self._speed = _SPEEDS[task]
        model = dmc_model("walker.xml")
        self._torso = model.body("torso").id
        self._velocity = sensor_indices(model, "torso_subtreelinvel")
        self.physics = Physics(model, substeps=10, **options)
        self.spec = spec_from_model(
            f"dmc/walker_{task}", model, obs_size=24, episode_steps=1000, substeps=10
        )

    def reset(self, key: jax.Array) -> State:
        model = self.physics.model
        physics = self.physics.init(random_joint_angles(model, key), jnp.zeros(model.nv))
        return State.begin(physics, self._observe(self.physics.kinematics(physics)))

    def step(self, state: State, action: jax.Array) -> State:
        start, x = center(state.physics, _ROOT_X)
        end, _ = self.physics.step(start, action, lambda data: None)
        data = self.physics.kinematics(end)
        return State(
            physics=uncenter(end, _ROOT_X, x),
            obs=self._observe(data),
            reward=self._reward(data),
            terminated=jnp.zeros((), bool),
        )

    def _observe(self, data: mjx.Data) -> jax.Array:
        orientations = data.xmat[1:, 0, ::2].ravel()
        return jnp.concatenate([orientations, data.xpos[self._torso, 2:], data.qvel])

    def _reward(self, data: mjx.Data) -> jax.Array:
        standing = tolerance(
            data.xpos[self._torso, 2],
            bounds=(_STAND_HEIGHT, float("inf")),
            margin=_STAND_HEIGHT / 2,
        )
        upright = (1 + data.xmat[self._torso, 2, 2]) / 2
        stand_reward = (3 * standing + upright) / 4
        if self._speed == 0:
            return stand_reward
        move = tolerance(
            data.sensordata[self._velocity[0]],
            bounds=(self._speed, float("inf")),
            margin=self._speed / 2,
            value_at_margin=0.5,
            sigmoid="linear",
        )
        return stand_reward * (5 * move + 1) / 6
