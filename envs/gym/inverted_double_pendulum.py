"""InvertedDoublePendulum-v4 and -v5: keep two linked poles upright on a cart."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
import mujoco

from ..base import Env, PhysicsState, State, spec_from_model
from ..physics.backend import Physics
from ..physics.models import gym_model
from ..physics.options import PhysicsOptions
from .starts import noisy_start

_MIN_TIP_HEIGHT = 1.0  # m
_ALIVE = 10.0
_MAX_SHOWN = 10.0
_RESET_NOISE = 0.1


class InvertedDoublePendulum(Env):
    """The task of gymnasium's `inverted_double_pendulum_v4.py` and `..._v5.py`.

    Observation: cart position (m), sines and cosines of the two angles, velocities (m/s, rad/s),
    and the forces of the constraints on the joints (N, N m). Velocities and forces are clipped to
    +-10. v5 drops the forces on the hinges, which are always 0 because hinges have no limits.
    Reward: 10, minus 0.01 x^2 + (z - 2)^2 of the tip, minus penalties on the angular velocities; v5
    does not pay the 10 for the terminating step. Terminates when the tip is not higher than 1 m.
    Start: uniform noise of +-0.1 on qpos, normal noise of scale 0.1 on qvel.

    The original reads the tip and the forces right after `mj_step`. They are those of the last
    Runge-Kutta stage.
    """

    def __init__(self, version: int, **options: Unpack[PhysicsOptions]) -> None:
        """Args are the gymnasium version, 4 or 5, and the options of `Physics`."""
        self._version = version
        model = gym_model("inverted_double_pendulum.xml")
        self._tip = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, "tip")
        self.physics = Physics(model, substeps=5, **options)
        self.spec = spec_from_model(
            f"gym/InvertedDoublePendulum-v{version}",
            model,
            obs_size=11 if version == 4 else 9,
            episode_steps=1000,
            substeps=5,
        )

    def reset(self, key: jax.Array) -> State:
        physics = noisy_start(self.physics, key, _RESET_NOISE, normal_velocity=True)
        # The only constraints are the ends of the rail, far from where the cart starts.
        no_force = jnp.zeros(self.physics.model.nv, jnp.float32)
        return State.begin(physics, self._observe(physics, no_force))

    def step(self, state: State, action: jax.Array) -> State:
        physics, (tip, force) = self.physics.step(
            state.physics, action, lambda data: (data.site_xpos[self._tip], data.qfrc_constraint)
        )
        x, z = tip[0], tip[2]
        terminated = z <= _MIN_TIP_HEIGHT
        paid = jnp.ones((), bool) if self._version == 4 else ~terminated
        distance_cost = 0.01 * jnp.square(x) + jnp.square(z - 2.0)
        velocity_cost = 0.001 * jnp.square(physics.qvel[1]) + 0.005 * jnp.square(physics.qvel[2])
        reward = jnp.where(paid, _ALIVE, 0.0) - distance_cost - velocity_cost
        return State(
            physics=physics,
            obs=self._observe(physics, force),
            reward=reward.astype(jnp.float32),
            terminated=terminated,
        )

    def _observe(self, physics: PhysicsState, force: jax.Array) -> jax.Array:
        angles = physics.qpos[1:]
        shown = force if self._version == 4 else force[:1]
        return jnp.concatenate(
            [
                physics.qpos[:1],
                jnp.sin(angles),
                jnp.cos(angles),
                jnp.clip(physics.qvel, -_MAX_SHOWN, _MAX_SHOWN),
                jnp.clip(shown, -_MAX_SHOWN, _MAX_SHOWN),
            ]
        )
