"""HumanoidStandup-v4 and -v5: stand up from lying on the back."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp

from ..base import State
from ..physics.options import PhysicsOptions
from .humanoid_body import ROOT_Z, HumanoidBody, control_cost, force_cost


class HumanoidStandup(HumanoidBody):
    """The task of gymnasium's `humanoidstandup_v4.py` and `humanoidstandup_v5.py`.

    Reward: height of the torso (m) over the physics time step (0.003 s), plus 1, minus 0.1 times
    the squared action, minus 5e-7 times the squared external forces, at most 10. Never
    terminates. See `HumanoidBody` for observation and start.
    """

    def __init__(self, version: int, **options: Unpack[PhysicsOptions]) -> None:
        """Args are the gymnasium version, 4 or 5, and the options of `Physics`."""
        super().__init__("HumanoidStandup", version, "humanoidstandup.xml", **options)

    def reset(self, key: jax.Array) -> State:
        return self.start(key)[0]

    def step(self, state: State, action: jax.Array) -> State:
        physics, seen, _ = self.advance(state.physics, action)
        height = physics.qpos[ROOT_Z] / self.physics.model.opt.timestep
        reward = height + 1.0 - control_cost(action) - force_cost(seen)
        return State(
            physics=physics,
            obs=self.observe(physics, seen),
            reward=reward.astype(jnp.float32),
            terminated=jnp.zeros((), bool),
        )
