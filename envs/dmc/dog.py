"""dog: a body of 73 joints that stands, walks, trots, runs or fetches a thrown ball."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco import mjx

from ..base import Env, PhysicsState, State, spec_from_model
from ..physics.backend import Physics, center, uncenter
from ..physics.models import dmc_model, sensor_indices
from ..physics.options import PhysicsOptions
from .frames import to_frame
from .rewards import tolerance

_ROOT_X, _ROOT_Y = 0, 1
_PLANAR = np.array([0, 1, 5])  # of the root's velocity: along x, along y, about z
_START_SPEED = 2.0  # m/s and rad/s, standard deviations
_SPEEDS = {"stand": 0.0, "walk": 1.0, "trot": 3.0, "run": 9.0}  # m/s, forward
_EPISODE_SECONDS = 15.0
_STANDING_SHARE = 0.9  # of the default pose's heights, where the full reward begins
_UPRIGHT = float(np.cos(np.deg2rad(30)))
_THROW_SHARE = 0.75  # of the arena's half-width, where the ball comes from
_THROW_START = 0.05  # m, height
_THROW_HEIGHT = 3.0  # m, that a throw without drag gains at most
_THROW_SPEED = 5.0  # m/s, horizontal, at most
_THROW_NOISE = 0.05
_BITE_MARGIN = 2.0  # m


class _Dog(Env):
    """The common part of the tasks of dm_control's `suite/dog.py`.

    Observation: angles and velocities of the hinges, heights of torso and pelvis (m), the vertical
    in the frames of skull, torso and pelvis, velocity of the centre of mass in the torso's frame
    (m/s), accelerometer, velocimeter and gyro of the head, forces at feet and hands (N), touch of
    palms and soles (N), activations. Reward: a product of factors for the heights of torso and
    pelvis, for these two and the skull being upright, and for touch. Never terminates. Start: the
    default pose, facing anywhere, with a random velocity along the ground and about the vertical,
    activations uniform in the control range.

    Acceleration, forces and touch are those of the last dynamics evaluation, at a reset with the
    actuators switched off. All other quantities belong to the new state.
    """

    def __init__(
        self,
        task: str,
        model: mujoco.MjModel,
        obs_size: int,
        **options: Unpack[PhysicsOptions],
    ) -> None:
        self._skull, self._torso, self._pelvis = (
            model.body(name).id for name in ("skull", "torso", "pelvis")
        )
        hinges = model.jnt_type == mujoco.mjtJoint.mjJNT_HINGE
        self._angles = model.jnt_qposadr[hinges]
        self._rates = model.jnt_dofadr[hinges]
        self._velocity = sensor_indices(model, "torso_linvel")
        self._accelerometer = sensor_indices(model, "accelerometer")
        self._inertial = sensor_indices(model, "velocimeter", "gyro")
        self._forces = sensor_indices(model, "foot_L", "foot_R", "hand_L", "hand_R")
        self._touch = sensor_indices(model, "palm_L", "palm_R", "sole_L", "sole_R")
        default = mujoco.MjData(model)
        mujoco.mj_forward(model, default)
        self._stand_heights = [
            float(_STANDING_SHARE * default.xpos[body, 2]) for body in (self._torso, self._pelvis)
        ]
        self._weight = float(-model.opt.gravity[2] * model.body_subtreemass[self._torso])
        self.physics = Physics(model, substeps=3, **options)
        self.spec = spec_from_model(
            f"dmc/dog_{task}", model, obs_size=obs_size, episode_steps=1000, substeps=3
        )

    def _draw(self, key: jax.Array) -> PhysicsState:
        model = self.physics.model
        azimuth_key, velocity_key, act_key = jax.random.split(key, 3)
        half = jax.random.uniform(azimuth_key, (), jnp.float32, 0.0, jnp.pi)
        zero = jnp.zeros((), jnp.float32)
        orientation = jnp.stack([jnp.cos(half), zero, zero, jnp.sin(half)])
        velocity = _START_SPEED * jax.random.normal(velocity_key, _PLANAR.shape, jnp.float32)
        low, high = model.actuator_ctrlrange.T.astype(np.float32)
        return self.physics.init(
            jnp.asarray(model.qpos0, jnp.float32).at[3:7].set(orientation),
            jnp.zeros(model.nv, jnp.float32).at[_PLANAR].set(velocity),
            jax.random.uniform(act_key, (model.na,), jnp.float32, low, high),
        )

    def _begin(self, physics: PhysicsState) -> State:
        data = self.physics.forward(physics, actuated=False)
        return State.begin(physics, self._observe(data, data.sensordata))

    def _advance(self, physics: PhysicsState, action: jax.Array) -> State:
        physics, sensors = self.physics.step(physics, action, lambda data: data.sensordata)
        data = self.physics.kinematics(physics)
        return State(
            physics=physics,
            obs=self._observe(data, sensors),
            reward=self._reward(data, sensors),
            terminated=jnp.zeros((), bool),
        )

    def _com_velocity(self, data: mjx.Data) -> jax.Array:
        return to_frame(data.sensordata[self._velocity], data.xmat[self._torso])

    def _observe(self, data: mjx.Data, sensors: jax.Array) -> jax.Array:
        """sensors: all sensors as of the last dynamics evaluation."""
        verticals = [data.xmat[body, 2] for body in (self._skull, self._torso, self._pelvis)]
        return jnp.concatenate(
            [
                data.qpos[self._angles],
                data.qvel[self._rates],
                data.xpos[self._torso, 2:],
                data.xpos[self._pelvis, 2:],
                *verticals,
                self._com_velocity(data),
                sensors[self._accelerometer],
                data.sensordata[self._inertial],
                sensors[self._forces],
                sensors[self._touch],
                data.act,
            ]
        )

    def _reward(self, data: mjx.Data, sensors: jax.Array) -> jax.Array:
        reward = tolerance(
            sensors[self._touch].sum(),
            bounds=(self._weight, float("inf")),
            margin=self._weight,
            value_at_margin=0.9,
            sigmoid="linear",
        )
        for body, height in zip((self._torso, self._pelvis), self._stand_heights, strict=True):
            reward *= tolerance(data.xpos[body, 2], bounds=(height, float("inf")), margin=height)
        for body in (self._skull, self._torso, self._pelvis):
            reward *= tolerance(
                data.xmat[body, 2, 2],
                bounds=(_UPRIGHT, float("inf")),
                margin=_UPRIGHT + 1,
                value_at_margin=0,
                sigmoid="linear",
            )
        return reward


class DogMove(_Dog):
    """stand, walk, trot and run. All but stand scale the reward with the forward velocity."""

    def __init__(self, task: str, **options: Unpack[PhysicsOptions]) -> None:
        """Args are "stand", "walk", "trot" or "run", and the options of `Physics`."""
        self._speed = _SPEEDS[task]
        half_width = max(self._speed, _SPEEDS["walk"]) * _EPISODE_SECONDS

        def edit(spec: mujoco.MjSpec) -> None:
            spec.geom("floor").size = [half_width, half_width, 0.1]
            spec.delete(spec.body("ball"))
            spec.delete(spec.geom("target"))
            for camera in ("ball", "head"):
                spec.delete(spec.camera(camera))
            for side in ("px", "nx", "py", "ny"):
                spec.delete(spec.geom(f"wall_{side}"))

        super().__init__(task, dmc_model("dog.xml", edit), 223, **options)

    def reset(self, key: jax.Array) -> State:
        return self._begin(self._draw(key))

    def step(self, state: State, action: jax.Array) -> State:
        start, x = center(state.physics, _ROOT_X)
        start, y = center(start, _ROOT_Y)
        state = self._advance(start, action)
        return state.replace(physics=uncenter(uncenter(state.physics, _ROOT_X, x), _ROOT_Y, y))

    def _reward(self, data: mjx.Data, sensors: jax.Array) -> jax.Array:
        reward = super()._reward(data, sensors)
        if self._speed == 0:
            return reward
        forward = tolerance(
            self._com_velocity(data)[0],
            bounds=(self._speed, 2 * self._speed),
            margin=max(1.0, self._speed),
            value_at_margin=0,
            sigmoid="linear",
        )
        return reward * (4 * forward + 1) / 5


class DogFetch(_Dog):
    """fetch: bring a thrown ball to the middle of a walled arena.

    Adds to `_Dog`. Observation: position and velocity of the ball and position of the target, in
    the head's frame. Reward: factors for the distance of mouth and ball, until the ball is at the
    target, and for that of ball and target. Start: a ball thrown towards the middle, from any side.
    """

    def __init__(self, **options: Unpack[PhysicsOptions]) -> None:
        """Args are the options of `Physics`."""

        def edit(spec: mujoco.MjSpec) -> None:
            # The same stiffness and damping in MuJoCo's other notation, which the ball uses. If one
            # of two geoms uses it, MJX-Warp takes the lower numbers and ignores their priorities.
            time_constant, damping_ratio = spec.geom("target").solref[:2]
            spec.geom("target").solref[:2] = [
                -1 / (time_constant * damping_ratio) ** 2,
                -2 / time_constant,
            ]

        model = dmc_model("dog.xml", edit)
        super().__init__("fetch", model, 232, **options)
        self._ball_body = model.body("ball").id
        self._ball = model.geom("ball").id
        self._target = model.geom("target").id
        self._head = model.site("head").id
        self._head_body = int(model.site("head").bodyid[0])
        self._bites = np.array([model.site(f"{jaw}_bite").id for jaw in ("upper", "lower")])
        self._bite_radius = float(model.site("upper_bite").size[0])
        self._target_radius = float(model.geom("target").size[0])
        self._arena = float(model.geom("floor").size[0])
        joint = model.joint("ball_root")
        self._ball_qpos = joint.qposadr[0] + np.arange(3)
        self._ball_qvel = joint.dofadr[0] + np.arange(3)

    def reset(self, key: jax.Array) -> State:
        dog_key, azimuth_key, height_key, speed_key, noise_key = jax.random.split(key, 5)
        physics = self._draw(dog_key)
        azimuth = jax.random.uniform(azimuth_key, (), jnp.float32, 0.0, 2 * jnp.pi)
        outward = jnp.stack([jnp.sin(azimuth), jnp.cos(azimuth)])
        position = jnp.append(_THROW_SHARE * self._arena * outward, jnp.float32(_THROW_START))
        height = jax.random.uniform(height_key, (), jnp.float32, 0.0, _THROW_HEIGHT)
        rise = jnp.sqrt(-2 * float(self.physics.model.opt.gravity[2]) * height)
        speed = jax.random.uniform(speed_key, (), jnp.float32, 0.0, _THROW_SPEED)
        noise = _THROW_NOISE * jax.random.normal(noise_key, (2,), jnp.float32)
        velocity = jnp.append(speed * (noise - outward), rise)
        return self._begin(
            physics.replace(
                qpos=physics.qpos.at[self._ball_qpos].set(position),
                qvel=physics.qvel.at[self._ball_qvel].set(velocity),
            )
        )

    def step(self, state: State, action: jax.Array) -> State:
        return self._advance(state.physics, action)

    def _point_velocity(self, data: mjx.Data, body: int, point: jax.Array) -> jax.Array:
        """Returns the velocity (3,) of a point that moves with a body, in m/s."""
        root = self.physics.model.body_rootid[body]
        angular, linear = data.cvel[body, :3], data.cvel[body, 3:]
        return linear + jnp.cross(angular, point - data.subtree_com[root])

    def _observe(self, data: mjx.Data, sensors: jax.Array) -> jax.Array:
        head, ball = data.site_xpos[self._head], data.geom_xpos[self._ball]
        seen = jnp.stack(
            [
                ball - head,
                self._point_velocity(data, self._ball_body, ball)
                - self._point_velocity(data, self._head_body, head),
                data.geom_xpos[self._target] - head,
            ]
        )
        seen = to_frame(seen, data.site_xmat[self._head])
        return jnp.concatenate([super()._observe(data, sensors), seen.ravel()])

    def _reward(self, data: mjx.Data, sensors: jax.Array) -> jax.Array:
        ball = data.geom_xpos[self._ball]
        to_mouth = jnp.linalg.norm(data.site_xpos[self._bites] - ball, axis=1).mean()
        to_target = jnp.linalg.norm(data.geom_xpos[self._target] - ball)
        reached = tolerance(
            to_mouth, (0.0, self._bite_radius), margin=_BITE_MARGIN, sigmoid="reciprocal"
        )
        reached = jnp.where(to_target < 2 * self._target_radius, 1.0, (6 * reached + 1) / 7)
        fetched = tolerance(
            to_target, (0.0, self._target_radius), margin=self._arena, sigmoid="reciprocal"
        )
        return super()._reward(data, sensors) * reached * (fetched + 1) / 2
