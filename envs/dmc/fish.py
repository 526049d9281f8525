"""fish: keep upright in the water, or swim to a target."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
import mujoco
from mujoco import mjx

from ..base import Env, Moved, PhysicsState, State, spec_from_model
from ..physics.backend import Physics
from ..physics.models import dmc_model
from ..physics.options import PhysicsOptions
from .rewards import tolerance

_ROOT = slice(3, 7)  # the free joint's quaternion in qpos
_JOINTS = slice(7, 14)  # in qpos, after the free joint
_JOINT_NOISE = 0.2  # rad
_TARGET_LOW = (-0.4, -0.4, 0.1)  # m
_TARGET_HIGH = (0.4, 0.4, 0.3)
_SUBSTEPS = 10


class _Fish(Env):
    """The common part of both tasks: model, start, and part of the observation."""

    def __init__(self, task: str, *, obs_size: int, **options: Unpack[PhysicsOptions]) -> None:
        """Args are the task's name, and those of `Physics` and `TaskSpec`."""
        model = dmc_model("fish.xml")
        self._torso = model.body("torso").id
        self._mouth = model.geom("mouth").id
        self._radii = float(model.geom("mouth").size[0] + model.geom("target").size[0])
        self.physics = Physics(model, substeps=_SUBSTEPS, **options)
        self.spec = spec_from_model(
            f"dmc/fish_{task}", model, obs_size=obs_size, episode_steps=1000, substeps=_SUBSTEPS
        )

    def _start(self, key: jax.Array) -> PhysicsState:
        """Draws any orientation, and joint angles near 0."""
        root_key, joint_key = jax.random.split(key)
        quaternion = jax.random.normal(root_key, (4,), jnp.float32)
        joints = jax.random.uniform(joint_key, (7,), jnp.float32, -_JOINT_NOISE, _JOINT_NOISE)
        qpos = jnp.asarray(self.physics.model.qpos0, jnp.float32)
        qpos = qpos.at[_ROOT].set(quaternion / jnp.linalg.norm(quaternion)).at[_JOINTS].set(joints)
        return self.physics.init(qpos, jnp.zeros(self.physics.model.nv, jnp.float32))

    def _upright(self, data: mjx.Data) -> jax.Array:
        """Returns the cosine between the torso's upward axis and the vertical, (1,)."""
        return data.xmat[self._torso, 2, 2:]


class FishUpright(_Fish):
    """The upright task of dm_control's `suite/fish.py`.

    Observation: joint angles (rad), cosine of the torso's tilt, qvel (m/s, rad/s). Reward: 1
    upright, falling off with the cosine. Never terminates. Start: at rest, in any orientation.
    """

    def __init__(self, **options: Unpack[PhysicsOptions]) -> None:
        """Args are the options of `Physics`; the model has no constraints."""
        super().__init__("upright", obs_size=21, **options)

    def reset(self, key: jax.Array) -> State:
        physics = self._start(key)
        return State.begin(
            physics, _observe(physics, self._upright(self.physics.kinematics(physics)))
        )

    def step(self, state: State, action: jax.Array) -> State:
        physics, _ = self.physics.step(state.physics, action, lambda data: None)
        upright = self._upright(self.physics.kinematics(physics))
        return State(
            physics=physics,
            obs=_observe(physics, upright),
            reward=tolerance(upright[0], bounds=(1.0, 1.0), margin=1.0),
            terminated=jnp.zeros((), bool),
        )


class FishSwim(_Fish):
    """The swimming task of dm_control's `suite/fish.py`.

    Observation: joint angles (rad), cosine of the torso's tilt, target relative to the mouth in
    the mouth's frame (m), qvel (m/s, rad/s). Reward: 7/8 for the mouth being at the target, 1/8 for
    being upright. Never terminates. Start: as in `FishUpright`, target uniform in a box.

    `State.task` is the target's position, (3,) float32, m.
    """

    def __init__(self, **options: Unpack[PhysicsOptions]) -> None:
        """Args are the options of `Physics`; the model has no constraints."""
        super().__init__("swim", obs_size=24, **options)

    def reset(self, key: jax.Array) -> State:
        start_key, target_key = jax.random.split(key)
        physics = self._start(start_key)
        low, high = jnp.asarray(_TARGET_LOW, jnp.float32), jnp.asarray(_TARGET_HIGH, jnp.float32)
        target = jax.random.uniform(target_key, (3,), jnp.float32, low, high)
        data = self.physics.kinematics(physics)
        return State.begin(
            physics,
            _observe(physics, self._upright(data), self._to_target(data, target)),
            task=target,
        )

    def step(self, state: State, action: jax.Array) -> State:
        physics, _ = self.physics.step(state.physics, action, lambda data: None)
        data = self.physics.kinematics(physics)
        upright, to_target = self._upright(data), self._to_target(data, state.task)
        in_target = tolerance(
            jnp.linalg.norm(to_target), bounds=(0.0, self._radii), margin=2 * self._radii
        )
        return State(
            physics=physics,
            obs=_observe(physics, upright, to_target),
            reward=(7 * in_target + (upright[0] + 1) / 2) / 8,
            terminated=jnp.zeros((), bool),
            task=state.task,
        )

    def task_from_original(self, model: mujoco.MjModel, data: mujoco.MjData) -> jax.Array:
        return jnp.asarray(model.geom("target").pos, jnp.float32)

    def moved(self, state: State) -> Moved:
        return {"geom_pos": {"target": state.task}}

    def _to_target(self, data: mjx.Data, target: jax.Array) -> jax.Array:
        """Returns the target relative to the mouth, in the mouth's frame, (3,), m."""
        return jnp.dot(
            target - data.geom_xpos[self._mouth], data.geom_xmat[self._mouth], precision="highest"
        )


def _observe(physics: PhysicsState, *shown: jax.Array) -> jax.Array:
    """Returns joint angles, `shown` (each (n,)), and velocities."""
    return jnp.concatenate([physics.qpos[_JOINTS], *shown, physics.qvel])
