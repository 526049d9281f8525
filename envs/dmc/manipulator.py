"""manipulator: a planar arm with a gripper brings a ball or a peg to a target."""

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
_IN_HAND, _IN_TARGET = 0.1, 0.1  # chances that the prop starts there
_TARGET_LOW = (-0.4, 0.1, -np.pi)  # x and z in m, angle in rad
_TARGET_HIGH = (0.4, 0.4, np.pi)
_PROP_LOW = (-0.5, 0.0, 0.0)
_PROP_HIGH = (0.5, 0.7, 2 * np.pi)
_PROP_SPEED = 5.0  # m/s, at most


class ManipulatorBring(Env):
    """The tasks bring_ball and bring_peg of dm_control's `suite/manipulator.py`.

    Observation: `PlanarArm.observe`, pose and velocity of the prop, pose of the target. Touch
    is that of the last dynamics evaluation. Reward of the ball: closeness to the target. Reward of
    the peg: mean closeness of its middle and its tip to those of the target, or if that is larger,
    a third of the closeness to a grasp. Never terminates. Start: everything random, drawn until
    nothing touches; the prop anywhere with a random speed, or in the hand, or in the target.

    `State.task` is the target's pose: x, z (m), and w and y of its quaternion.
    """

    def __init__(self, prop: str, **options: Unpack[PhysicsOptions]) -> None:
        """Args are "ball" or "peg", and the options of `Physics`."""
        model = dmc_model("manipulator.xml", lambda spec: _keep_only(spec, prop))
        self._arm = PlanarArm(model)
        self._name = prop
        self._prop = model.body(prop).id
        self._grasp = model.site("grasp").id
        self._target = model.body(f"target_{prop}").id
        self._target_y = float(model.body(f"target_{prop}").pos[1])
        joints = [model.joint(f"{prop}_{axis}") for axis in "xzy"]
        self._prop_qpos = np.concatenate([joint.qposadr for joint in joints])
        self._prop_qvel = np.concatenate([joint.dofadr for joint in joints])
        self.physics = Physics(model, substeps=10, **options)
        self.spec = spec_from_model(
            f"dmc/manipulator_bring_{prop}", model, obs_size=44, episode_steps=1000, substeps=10
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
            "body_pos": {f"target_{self._name}": self._place(state.task)},
            "body_quat": {f"target_{self._name}": quaternion},
        }

    def _place(self, target: jax.Array) -> jax.Array:
        """Returns the target's position, (3,), m."""
        return jnp.stack([target[0], jnp.float32(self._target_y), target[1]])

    def _draw(self, key: jax.Array, rejected: PhysicsState) -> tuple[PhysicsState, jax.Array]:
        """Returns a start and its target. Like the original, keeps some of the rejected start."""
        arm_key, target_key, kind_key, prop_key, speed_key = jax.random.split(key, 5)
        qpos = self._arm.draw(arm_key, rejected.qpos)
        target = jax.random.uniform(
            target_key, (3,), jnp.float32, jnp.asarray(_TARGET_LOW), jnp.asarray(_TARGET_HIGH)
        )
        anywhere = jax.random.uniform(
            prop_key, (3,), jnp.float32, jnp.asarray(_PROP_LOW), jnp.asarray(_PROP_HIGH)
        )
        speed = jax.random.uniform(speed_key, (), jnp.float32, -_PROP_SPEED, _PROP_SPEED)
        kind = jax.random.uniform(kind_key, (), jnp.float32)
        in_hand, in_target = kind < _IN_HAND, kind > 1 - _IN_TARGET
        prop = jnp.where(in_target, target, anywhere)
        prop = jnp.where(in_hand, self._grasped(rejected.replace(qpos=qpos)), prop)
        # The original keeps the speed of a rejected draw. A prop in the hand or in the target may
        # start with it.
        x_rate = self._prop_qvel[0]
        speed = jnp.where(in_hand | in_target, rejected.qvel[x_rate], speed)
        half = target[2] / 2
        return (
            rejected.replace(
                qpos=qpos.at[self._prop_qpos].set(prop), qvel=rejected.qvel.at[x_rate].set(speed)
            ),
            jnp.concatenate([target[:2], jnp.stack([jnp.cos(half), jnp.sin(half)])]),
        )

    def _grasped(self, physics: PhysicsState) -> jax.Array:
        """Returns x, z (m) and angle (rad) of a prop in the hand."""
        data = self.physics.kinematics(physics)
        frame = data.site_xmat[self._grasp]
        angle = jnp.pi - jnp.arctan2(frame[2, 0], frame[0, 0])
        return jnp.append(data.site_xpos[self._grasp, ::2], angle)

    def _observe(self, data: mjx.Data, touch: jax.Array, target: jax.Array) -> jax.Array:
        return jnp.concatenate(
            [
                *self._arm.observe(data, touch),
                planar_pose(data, self._prop),
                data.qvel[self._prop_qvel],
                target,
            ]
        )

    def _reward(self, data: mjx.Data, target: jax.Array) -> jax.Array:
        if self._name == "peg":
            return self._peg_reward(data, target)
        return _is_close(data.xpos[self._prop], self._place(target))

    def _peg_reward(self, data: mjx.Data, target: jax.Array) -> jax.Array:
        model = self.physics.model

        def site(name: str) -> jax.Array:
            return data.site_xpos[model.site(name).id]

        def wanted(name: str) -> jax.Array:
            """The target's sites lie on its z axis, which w and y of its quaternion turn."""
            w, y = target[2:]
            axis = jnp.stack([2 * w * y, jnp.zeros((), jnp.float32), w * w - y * y])
            return self._place(target) + model.site(f"target_{name}").pos[2] * axis

        grasp = _is_close(site("peg_grasp"), site("grasp"))
        pinch = _is_close(site("peg_pinch"), site("pinch"))
        middle, tip = (_is_close(site(name), wanted(name)) for name in ("peg", "peg_tip"))
        return jnp.maximum((middle + tip) / 2, (grasp + pinch) / 2 / 3)


def _is_close(place: jax.Array, other: jax.Array) -> jax.Array:
    return tolerance(jnp.linalg.norm(place - other), (0.0, _CLOSE), 2 * _CLOSE)


def _keep_only(spec: mujoco.MjSpec, prop: str) -> None:
    for other in ("ball", "target_ball", "cup", "peg", "target_peg", "slot"):
        if other not in (prop, f"target_{prop}"):
            spec.delete(spec.body(other))
