"""manipulator: a planar arm with a gripper brings a ball to a target."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco import mjx

from ..base import Env, Moved, PhysicsState, State, spec_from_model
from ..physics.backend import Physics
from ..physics.models import dmc_model
from ..physics.options import PhysicsOptions
from .planar_arm import PlanarArm, planar_pose
from .rewards import tolerance

_CLOSE = 0.01  # m
_IN_HAND, _IN_TARGET = 0.1, 0.1  # chances that the ball starts there
_TARGET_LOW = (-0.4, 0.1, -np.pi)  # x and z in m, angle in rad
_TARGET_HIGH = (0.4, 0.4, np.pi)
_BALL_LOW = (-0.5, 0.0, 0.0)
_BALL_HIGH = (0.5, 0.7, 2 * np.pi)
_BALL_SPEED = 5.0  # m/s, at most


class ManipulatorBringBall(Env):
    """The task bring_ball of dm_control's `suite/manipulator.py`.

    Observation: `PlanarArm.observe`, pose and velocity of the ball, pose of the target. Touch
    is that of the last dynamics evaluation. Reward: closeness of ball and target. Never
    terminates. Start: everything random, drawn until nothing touches; the ball anywhere with
    some speed, or in the hand, or in the target.

    `State.task` is the target's pose: x, z (m), and w and y of its quaternion.
    """

    def __init__(self, **options: Unpack[PhysicsOptions]) -> None:
        """Args are the options of `Physics`."""
        model = dmc_model("manipulator.xml", _with_ball_only)
        self._arm = PlanarArm(model)
        self._ball = model.body("ball").id
        self._grasp = model.site("grasp").id
        self._target = model.body("target_ball").id
        self._target_y = float(model.body("target_ball").pos[1])
        joints = [model.joint(f"ball_{axis}") for axis in "xzy"]
        self._ball_qpos = np.concatenate([joint.qposadr for joint in joints])
        self._ball_qvel = np.concatenate([joint.dofadr for joint in joints])
        self.physics = Physics(model, substeps=10, **options)
        self.spec = spec_from_model(
            "dmc/manipulator_bring_ball", model, obs_size=44, episode_steps=1000, substeps=10
        )

    def reset(self, key: jax.Array) -> State:
        def attempt(
            carry: tuple[jax.Array, PhysicsState, jax.Array],
        ) -> tuple[jax.Array, PhysicsState, jax.Array]:
            stream, rejected, _ = carry
            stream, draw_key = jax.random.split(stream)
            return stream, *self._draw(draw_key, rejected)

        model = self.physics.model
        default = self.physics.init(model.qpos0, np.zeros(model.nv))
        _, physics, target = jax.lax.while_loop(
            lambda carry: self.physics.in_contact(carry[1]),
            attempt,
            attempt((key, default, jnp.zeros(4, jnp.float32))),
        )
        data = self.physics.forward(physics, actuated=False)
        return State.begin(physics, self._observe(data, self._arm.touch(data), target), task=target)

    def step(self, state: State, action: jax.Array) -> State:
        physics, touch = self.physics.step(state.physics, action, self._arm.touch)
        data = self.physics.kinematics(physics)
        return State(
            physics=physics,
            obs=self._observe(data, touch, state.task),
            reward=self._reward(data, state.task),
            terminated=jnp.zeros((), bool),
            task=state.task,
        )

    def task_from_original(self, model: mujoco.MjModel, data: mujoco.MjData) -> jax.Array:
        pose = [model.body_pos[self._target, ::2], model.body_quat[self._target, ::2]]
        return jnp.asarray(np.concatenate(pose), jnp.float32)

    def moved(self, state: State) -> Moved:
        zero = jnp.zeros((), jnp.float32)
        quaternion = jnp.stack([state.task[2], zero, state.task[3], zero])
        return {
            "body_pos": {"target_ball": self._place(state.task)},
            "body_quat": {"target_ball": quaternion},
        }

    def _place(self, target: jax.Array) -> jax.Array:
        """Returns where the target is, (3,), m."""
        return jnp.stack([target[0], jnp.float32(self._target_y), target[1]])

    def _draw(self, key: jax.Array, rejected: PhysicsState) -> tuple[PhysicsState, jax.Array]:
        """Returns a start and its target, with what the original keeps of a rejected one."""
        arm_key, target_key, kind_key, ball_key, speed_key = jax.random.split(key, 5)
        qpos = self._arm.draw(arm_key, rejected.qpos)
        target = jax.random.uniform(
            target_key, (3,), jnp.float32, jnp.asarray(_TARGET_LOW), jnp.asarray(_TARGET_HIGH)
        )
        anywhere = jax.random.uniform(
            ball_key, (3,), jnp.float32, jnp.asarray(_BALL_LOW), jnp.asarray(_BALL_HIGH)
        )
        speed = jax.random.uniform(speed_key, (), jnp.float32, -_BALL_SPEED, _BALL_SPEED)
        kind = jax.random.uniform(kind_key, (), jnp.float32)
        in_hand, in_target = kind < _IN_HAND, kind > 1 - _IN_TARGET
        ball = jnp.where(in_target, target, anywhere)
        ball = jnp.where(in_hand, self._grasped(rejected.replace(qpos=qpos)), ball)
        # The original does not take back the speed of a rejected draw: a ball in the hand or in
        # the target may start with it.
        x_rate = self._ball_qvel[0]
        speed = jnp.where(in_hand | in_target, rejected.qvel[x_rate], speed)
        half = target[2] / 2
        return (
            rejected.replace(
                qpos=qpos.at[self._ball_qpos].set(ball), qvel=rejected.qvel.at[x_rate].set(speed)
            ),
            jnp.concatenate([target[:2], jnp.stack([jnp.cos(half), jnp.sin(half)])]),
        )

    def _grasped(self, physics: PhysicsState) -> jax.Array:
        """Returns x, z (m) and angle (rad) of a ball in the hand."""
        data = self.physics.kinematics(physics)
        frame = data.site_xmat[self._grasp]
        angle = jnp.pi - jnp.arctan2(frame[2, 0], frame[0, 0])
        return jnp.append(data.site_xpos[self._grasp, ::2], angle)

    def _observe(self, data: mjx.Data, touch: jax.Array, target: jax.Array) -> jax.Array:
        return jnp.concatenate(
            [
                *self._arm.observe(data, touch),
                planar_pose(data, self._ball),
                data.qvel[self._ball_qvel],
                target,
            ]
        )

    def _reward(self, data: mjx.Data, target: jax.Array) -> jax.Array:
        place = self._place(target)
        distance = jnp.linalg.norm(data.xpos[self._ball] - place)
        return tolerance(distance, (0.0, _CLOSE), 2 * _CLOSE)


def _with_ball_only(spec: mujoco.MjSpec) -> None:
    for prop in ("cup", "peg", "target_peg", "slot"):
        spec.delete(spec.body(prop))
