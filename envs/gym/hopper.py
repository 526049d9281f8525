"""Hopper-v4 and -v5: hop forward in a plane on one leg."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp

from ..base import PhysicsState
from ..physics.models import gym_model
from ..physics.options import PhysicsOptions
from .planar_walker import PlanarWalker

_MIN_HEIGHT = 0.7  # m
_MAX_PITCH = 0.2  # rad
_MAX_STATE = 100.0


class Hopper(PlanarWalker):
    """The task of gymnasium's `hopper_v4.py` and `hopper_v5.py`.

    Healthy: the torso is higher than 0.7 m and leans by less than 0.2 rad, and all angles (rad)
    and velocities (m/s, rad/s) are below 100. See `PlanarWalker` for the rest.
    """

    def __init__(self, version: int, **options: Unpack[PhysicsOptions]) -> None:
        """Args are the gymnasium version, 4 or 5, and the options of `Physics`."""
        super().__init__("Hopper", version, gym_model("hopper.xml"), **options)

    def healthy(self, physics: PhysicsState) -> jax.Array:
        height, pitch = physics.qpos[1], physics.qpos[2]
        bounded = jnp.concatenate([physics.qpos[2:], physics.qvel])
        return (
            (jnp.abs(bounded) < _MAX_STATE).all()
            & (height > _MIN_HEIGHT)
            & (height < jnp.inf)
            & (jnp.abs(pitch) < _MAX_PITCH)
        )
