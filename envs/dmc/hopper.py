"""hopper: a planar one-legged body that stands, or hops at 2 m/s."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp

from ..base import Env, PhysicsState, State, spec_from_model
from ..physics.backend import Physics, center, uncenter
from ..physics.models import dmc_model, sensor_indices
from ..physics.options import PhysicsOptions
from .rewards import tolerance
from .starts import random_joint_angles

_ROOT_X = 0
_STAND_HEIGHTS = (0.6, 2.0)  # m, of the torso over the foot
_HOP_SPEED = 2.0  # m/s


class Hopper(Env):
    """The tasks of dm_control's `suite/hopper.py`.

    Observation: qpos without the horizontal position, qvel, log(1 + force) of the toe's and the
    heel's touch sensors (N). Reward: 0 unless the torso is high enough over the foot, times a
    factor for the speed of the centre of mass (hop) or for small controls, before MuJoCo clamps
    them (stand). Never terminates. Start: joint angles uniform within their limits, turned
    anywhere, at rest.
    """

    def __init__(self, task: str, **options: Unpack[PhysicsOptions]) -> None:
        """Args are "stand" or "hop", and the options of `Physics`."""
        self._hopping = {"stand": False, "hop": True}[task]
        model = dmc_model("hopper.xml")
        self._torso = model.body("torso").id
        self._foot = model.body("foot").id
        self._touch = sensor_indices(model, "touch_toe", "touch_heel")
        self._velocity = sensor_indices(model, "torso_subtreelinvel")
        self.physics = Physics(model, substeps=4, **options)
        self.spec = spec_from_model(
            f"dmc/hopper_{task}", model, obs_size=15, episode_steps=1000, substeps=4
        )

    def reset(self, key: jax.Array) -> State:
        model = self.physics.model
        physics = self.physics.init(random_joint_angles(model, key), jnp.zeros(model.nv))
        data = self.physics.forward(physics, actuated=False)
        return State.begin(physics, _observe(physics, data.sensordata[self._touch]))

    def step(self, state: State, action: jax.Array) -> State:
        start, x = center(state.physics, _ROOT_X)
        end, touch = self.physics.step(start, action, lambda data: data.sensordata[self._touch])
        physics = uncenter(end, _ROOT_X, x)
        return State(
            physics=physics,
            obs=_observe(physics, touch),
            reward=self._reward(end, action),
            terminated=jnp.zeros((), bool),
        )

    def _reward(self, physics: PhysicsState, action: jax.Array) -> jax.Array:
        data = self.physics.kinematics(physics)
        height = data.xipos[self._torso, 2] - data.xipos[self._foot, 2]
        standing = tolerance(height, _STAND_HEIGHTS)
        if self._hopping:
            return standing * tolerance(
                data.sensordata[self._velocity[0]],
                bounds=(_HOP_SPEED, float("inf")),
                margin=_HOP_SPEED / 2,
                value_at_margin=0.5,
                sigmoid="linear",
            )
        effort = tolerance(action, margin=1, value_at_margin=0, sigmoid="quadratic").mean()
        return standing * (effort + 4) / 5


def _observe(physics: PhysicsState, touch: jax.Array) -> jax.Array:
    return jnp.concatenate([physics.qpos[1:], physics.qvel, jnp.log1p(touch)])
