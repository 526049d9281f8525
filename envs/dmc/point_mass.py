"""point_mass: push a mass on a plane to the middle."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp

from ..base import Env, PhysicsState, State, spec_from_model
from ..physics.backend import Physics
from ..physics.models import dmc_model
from ..physics.options import PhysicsOptions
from .rewards import tolerance
from .starts import random_joint_angles


class PointMassEasy(Env):
    """The easy task of dm_control's `suite/point_mass.py`, where each control is one direction.

    Observation: position (m), velocity (m/s). Reward: 1 within the target's radius of the middle
    and falling off over another radius, times up to a fifth less for large actions. Never
    terminates. Start: at rest, anywhere within the walls. The reward sees the action as it was
    sent, before MuJoCo clamps it.
    """

    def __init__(self, **options: Unpack[PhysicsOptions]) -> None:
        """Args are the options of `Physics`."""
        model = dmc_model("point_mass.xml")
        self._target_radius = float(model.geom("target").size[0])
        self.physics = Physics(model, substeps=1, **options)
        self.spec = spec_from_model(
            "dmc/point_mass_easy", model, obs_size=4, episode_steps=1000, substeps=1
        )

    def reset(self, key: jax.Array) -> State:
        qpos = random_joint_angles(self.physics.model, key)
        physics = self.physics.init(qpos, jnp.zeros(2, jnp.float32))
        return State.begin(physics, _observe(physics))

    def step(self, state: State, action: jax.Array) -> State:
        physics, _ = self.physics.step(state.physics, action, lambda data: None)
        # The target is at the joints' origin, at the height of the mass.
        distance = jnp.linalg.norm(physics.qpos)
        near = tolerance(distance, (0.0, self._target_radius), self._target_radius)
        effort = tolerance(action, margin=1, value_at_margin=0, sigmoid="quadratic").mean()
        return State(
            physics=physics,
            obs=_observe(physics),
            reward=near * (4 + effort) / 5,
            terminated=jnp.zeros((), bool),
        )


def _observe(physics: PhysicsState) -> jax.Array:
    return jnp.concatenate([physics.qpos, physics.qvel])
