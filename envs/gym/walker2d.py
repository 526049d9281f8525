"""Walker2d-v4 and -v5: walk forward in a plane on two legs."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp

from ..base import PhysicsState
from ..physics.models import gym_model
from ..physics.options import PhysicsOptions
from .planar_walker import PlanarWalker

_MIN_HEIGHT, _MAX_HEIGHT = 0.8, 2.0  # m
_MAX_PITCH = 1.0  # rad


class Walker2d(PlanarWalker):
    """The task of gymnasium's `walker2d_v4.py` and `walker2d_v5.py`.

    Healthy: the torso is between 0.8 and 2 m high and leans by less than 1 rad. See `PlanarWalker`
    for the rest. v4 has its own model, whose right foot has less friction than the left one.
    """

    def __init__(self, version: int, **options: Unpack[PhysicsOptions]) -> None:
        """Args are the gymnasium version, 4 or 5, and the options of `Physics`."""
        model = gym_model("walker2d.xml" if version == 4 else "walker2d_v5.xml")
        super().__init__("Walker2d", version, model, **options)

    def healthy(self, physics: PhysicsState) -> jax.Array:
        height, pitch = physics.qpos[1], physics.qpos[2]
        return (height > _MIN_HEIGHT) & (height < _MAX_HEIGHT) & (jnp.abs(pitch) < _MAX_PITCH)
