"""Pusher-v5: push an object to a goal with a seven-joint arm."""

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

_ARM_JOINTS = 7
_VELOCITY_NOISE = 0.005
_LOW, _HIGH = (-0.3, -0.2), (0.0, 0.2)  # m
_MIN_GOAL_DISTANCE = 0.17  # m
# A draw is accepted with probability 0.62: in 1 of 10^26 resets none of them is.
_DRAWS = 64
_NEAR_WEIGHT = 0.5
_CONTROL_COST = 0.1


class Pusher(Env):
    """The task of gymnasium's `pusher_v5.py`.

    Observation: angles (rad) and velocities (rad/s) of the arm's joints, then the positions (m)
    of fingertips, object and goal. Reward: minus the distance (m) from object to goal, minus half
    the distance from object to fingertips, minus 0.1 times the squared action. Never terminates.
    Start: the arm in its default pose with uniform noise of +-0.005 on its velocities, the object
    uniform in a rectangle outside of a disk around the goal, which does not move.

    The original reads body positions right after `mj_step`. They are those of the beginning of the
    last physics step, and differ from qpos.
    """

    def __init__(self, **options: Unpack[PhysicsOptions]) -> None:
        """Args are the options of `Physics`."""
        model = gym_model("pusher_v5.xml")
        self._fingertips, self._object, self._goal = (
            mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name)
            for name in ("tips_arm", "object", "goal")
        )
        self.physics = Physics(model, substeps=5, **options)
        self.spec = spec_from_model(
            "gym/Pusher-v5", model, obs_size=23, episode_steps=100, substeps=5
        )

    def reset(self, key: jax.Array) -> State:
        place_key, velocity_key = jax.random.split(key)
        # The original draws until the object is far enough from the goal.
        places = jax.random.uniform(
            place_key, (_DRAWS, 2), jnp.float32, jnp.array(_LOW), jnp.array(_HIGH)
        )
        accepted = jnp.linalg.norm(places, axis=1) > _MIN_GOAL_DISTANCE
        place = places[jnp.argmax(accepted)]
        velocities = jax.random.uniform(
            velocity_key, (_ARM_JOINTS,), jnp.float32, -_VELOCITY_NOISE, _VELOCITY_NOISE
        )
        pose = jnp.asarray(self.physics.model.qpos0[:_ARM_JOINTS], jnp.float32)
        still = jnp.zeros(4, jnp.float32)
        physics = self.physics.init(
            jnp.concatenate([pose, place, still[:2]]), jnp.concatenate([velocities, still])
        )
        return State.begin(
            physics, _observe(physics, self._places(self.physics.kinematics(physics)))
        )

    def step(self, state: State, action: jax.Array) -> State:
        physics, places = self.physics.step(state.physics, action, self._places)
        fingertips, pushed, goal = places
        reward = (
            -jnp.linalg.norm(pushed - goal)
            - _NEAR_WEIGHT * jnp.linalg.norm(pushed - fingertips)
            - _CONTROL_COST * jnp.square(action).sum()
        )
        return State(
            physics=physics,
            obs=_observe(physics, places),
            reward=reward.astype(jnp.float32),
            terminated=jnp.zeros((), bool),
        )

    def _places(self, data: mjx.Data) -> jax.Array:
        """Returns the positions of fingertips, object and goal: (3, 3), m."""
        return jnp.stack(
            [data.xpos[self._fingertips], data.xpos[self._object], data.xpos[self._goal]]
        )


def _observe(physics: PhysicsState, places: jax.Array) -> jax.Array:
    return jnp.concatenate([physics.qpos[:_ARM_JOINTS], physics.qvel[:_ARM_JOINTS], places.ravel()])
