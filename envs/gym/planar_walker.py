"""The common part of Hopper and Walker2d: bodies in a vertical plane that run and must not fall."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
import mujoco

from ..base import Env, PhysicsState, State, spec_from_model
from ..physics.backend import Physics, center, uncenter
from ..physics.options import PhysicsOptions
from .starts import noisy_start

_ROOT_X = 0
_SUBSTEPS = 4
_MAX_SHOWN_VELOCITY = 10.0  # m/s or rad/s
_CONTROL_COST = 1e-3
_RESET_NOISE = 5e-3


class PlanarWalker(Env):
    """A planar task that ends when the walker is no longer healthy.

    Observation: qpos without the horizontal position, then qvel, clipped to +-10. Reward: mean
    forward speed (m/s) over the step, plus 1, minus 0.001 times the squared action; v5 does not
    pay the 1 for the terminating step. Start: uniform noise of +-0.005 on qpos and qvel.

    Subclasses define `healthy`.
    """

    def __init__(
        self,
        name: str,
        version: int,
        model: mujoco.MjModel,
        **options: Unpack[PhysicsOptions],
    ) -> None:
        """Args are the task's name and version, its model, and the options of `Physics`."""
        self._pays_for_falling = version == 4
        self.physics = Physics(model, substeps=_SUBSTEPS, **options)
        self.spec = spec_from_model(
            f"gym/{name}-v{version}",
            model,
            obs_size=model.nq - 1 + model.nv,
            episode_steps=1000,
            substeps=_SUBSTEPS,
        )

    def healthy(self, physics: PhysicsState) -> jax.Array:
        """Returns () bool, False where the state is not finite."""
        raise NotImplementedError

    def reset(self, key: jax.Array) -> State:
        physics = noisy_start(self.physics, key, _RESET_NOISE, normal_velocity=False)
        return State.begin(physics, _observe(physics))

    def step(self, state: State, action: jax.Array) -> State:
        start, x = center(state.physics, _ROOT_X)
        end, _ = self.physics.step(start, action, lambda data: None)
        speed = end.qpos[_ROOT_X] / self.physics.control_dt
        physics = uncenter(end, _ROOT_X, x)
        healthy = self.healthy(physics)
        alive = 1.0 if self._pays_for_falling else healthy.astype(jnp.float32)
        reward = speed + alive - _CONTROL_COST * jnp.square(action).sum()
        return State(
            physics=physics,
            obs=_observe(physics),
            reward=reward.astype(jnp.float32),
            terminated=~healthy,
        )


def _observe(physics: PhysicsState) -> jax.Array:
    velocity = jnp.clip(physics.qvel, -_MAX_SHOWN_VELOCITY, _MAX_SHOWN_VELOCITY)
    return jnp.concatenate([physics.qpos[1:], velocity])
