"""Reacher-v4 and -v5: bring a planar arm's fingertip to a target."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
import mujoco
from mujoco import mjx

from ..base import Env, PhysicsState, State, spec_from_model
from ..physics.backend import Physics
from ..physics.models import gym_model
from ..physics.options import PhysicsOptions

_ANGLE_NOISE = 0.1  # rad
_VELOCITY_NOISE = 0.005  # rad/s
_GOAL_RADIUS = 0.2  # m


class Reacher(Env):
    """The task of gymnasium's `reacher_v4.py` and `reacher_v5.py`.

    Observation: cosines and sines of the two joint angles, target position (m), joint velocities
    (rad/s), fingertip minus target (m; v4 has all three coordinates, v5 drops the constant z).
    Reward: minus the distance to the target, minus the squared action. Never terminates. Start:
    nearly stretched out, target uniform on a disk.

    The original reads body positions right after `mj_step`, so the fingertip is that of the last
    Runge-Kutta stage and differs from qpos. v4 pays for the distance before the step, v5 for that
    after it. So `step` of v4 reads the vector to the target in the observation of its state.
    """

    def __init__(self, version: int, **options: Unpack[PhysicsOptions]) -> None:
        """Args are the gymnasium version, 4 or 5, and the options of `Physics`."""
        self._version = version
        model = gym_model("reacher.xml")
        self._fingertip = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, "fingertip")
        self._target = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, "target")
        self.physics = Physics(model, substeps=2, **options)
        self.spec = spec_from_model(
            f"gym/Reacher-v{version}",
            model,
            obs_size=11 if version == 4 else 10,
            episode_steps=50,
            substeps=2,
        )

    def reset(self, key: jax.Array) -> State:
        angle_key, velocity_key, radius_key, direction_key = jax.random.split(key, 4)
        angles = jax.random.uniform(angle_key, (2,), jnp.float32, -_ANGLE_NOISE, _ANGLE_NOISE)
        velocities = jax.random.uniform(
            velocity_key, (2,), jnp.float32, -_VELOCITY_NOISE, _VELOCITY_NOISE
        )
        # The original draws from a square until it hits the disk. A square root gives the same
        # distribution without a loop, because the area grows with the square of the radius.
        radius = _GOAL_RADIUS * jnp.sqrt(jax.random.uniform(radius_key, (), jnp.float32))
        direction = jax.random.uniform(direction_key, (), jnp.float32, 0.0, 2 * jnp.pi)
        goal = radius * jnp.stack([jnp.cos(direction), jnp.sin(direction)])
        physics = self.physics.init(
            jnp.concatenate([angles, goal]),
            jnp.concatenate([velocities, jnp.zeros(2, jnp.float32)]),
        )
        to_target = self._to_target(self.physics.kinematics(physics))
        return State.begin(physics, self._observe(physics, to_target))

    def step(self, state: State, action: jax.Array) -> State:
        physics, after = self.physics.step(state.physics, action, self._to_target)
        paid_for = state.obs[8:] if self._version == 4 else after
        reward = -jnp.linalg.norm(paid_for) - jnp.square(action).sum()
        return State(
            physics=physics,
            obs=self._observe(physics, after),
            reward=reward.astype(jnp.float32),
            terminated=jnp.zeros((), bool),
        )

    def _to_target(self, data: mjx.Data) -> jax.Array:
        return data.xpos[self._fingertip] - data.xpos[self._target]

    def _observe(self, physics: PhysicsState, to_target: jax.Array) -> jax.Array:
        angles = physics.qpos[:2]
        shown = to_target if self._version == 4 else to_target[:2]
        return jnp.concatenate(
            [jnp.cos(angles), jnp.sin(angles), physics.qpos[2:], physics.qvel[:2], shown]
        )
