"""quadruped: a body on four legs that walks at 0.5 m/s, runs at 5 m/s or fetches a ball.

The suite's escape is missing. It draws a terrain for every episode. MJX (impl=jax) could hold a
height field per environment, but it does not collide height fields with the ellipsoid and the
cylinders of this body, and its rangefinders do not see them.
"""

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

_ROOT_X, _ROOT_Y, _ROOT_Z = 0, 1, 2
_SPEEDS = {"walk": 0.5, "run": 5.0}  # m/s, where the full reward begins
_EPISODE_SECONDS = 20.0
_LEGS = ("front_left", "front_right", "back_right", "back_left")
# m. Upright, the toes are at the floor's height after a whole number of lifts. The original's sum
# of lifts is just above it. In float32 the toes would touch.
_CLEARANCE = 2e-7
_LIFT = 0.01  # m, by which a start is raised at a time until nothing touches
_SPAWN_SHARE = 0.9  # of the arena's half-width, where fetch places body and ball
_BALL_HEIGHT = 2.0  # m
_BALL_SPEED = 5.0  # m/s, standard deviation along x and along y


class _Quadruped(Env):
    """The common part of the tasks of dm_control's `suite/quadruped.py`.

    Observation: angles, velocities and activations of the legs, velocity of the torso in its own
    frame (m/s), cosine of its tilt, accelerometer, gyro, arcsinh of the forces (N) and torques
    (N m) at the toes. Never terminates. Accelerations, forces and torques are those of the last
    dynamics evaluation, at a reset with the actuators switched off. All other quantities belong to
    the new state.
    """

    def __init__(
        self,
        task: str,
        model: mujoco.MjModel,
        obs_size: int,
        **options: Unpack[PhysicsOptions],
    ) -> None:
        self._torso = model.body("torso").id
        hinges = model.jnt_type == mujoco.mjtJoint.mjJNT_HINGE
        self._angles = model.jnt_qposadr[hinges]
        self._rates = model.jnt_dofadr[hinges]
        self._velocity = sensor_indices(model, "velocimeter")
        self._gyro = sensor_indices(model, "imu_gyro")
        self._accelerometer = sensor_indices(model, "imu_accel")
        self._toes = sensor_indices(
            model, *(f"{kind}_toe_{leg}" for kind in ("force", "torque") for leg in _LEGS)
        )
        self.physics = Physics(model, substeps=4, **options)
        self.spec = spec_from_model(
            f"dmc/quadruped_{task}", model, obs_size=obs_size, episode_steps=1000, substeps=4
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
            reward=self._reward(data),
            terminated=jnp.zeros((), bool),
        )

    def _lifted(self, orientation: jax.Array, x: jax.Array, y: jax.Array) -> PhysicsState:
        """Returns the model's default pose at (x, y), turned, and raised until nothing touches."""
        model = self.physics.model
        default = self.physics.init(model.qpos0, np.zeros(model.nv))
        qpos = default.qpos.at[:2].set(jnp.stack([x, y])).at[3:7].set(orientation)

        def at(lifts: jax.Array) -> PhysicsState:
            z = _LIFT * lifts.astype(jnp.float32) + _CLEARANCE
            return default.replace(qpos=qpos.at[_ROOT_Z].set(z))

        lifts = jax.lax.while_loop(
            lambda lifts: self.physics.in_contact(at(lifts)),
            lambda lifts: lifts + 1,
            jnp.zeros((), jnp.int32),
        )
        return at(lifts)

    def _observe(self, data: mjx.Data, sensors: jax.Array) -> jax.Array:
        """sensors: all sensors as of the last dynamics evaluation."""
        return jnp.concatenate(
            [
                data.qpos[self._angles],
                data.qvel[self._rates],
                data.act,
                data.sensordata[self._velocity],
                data.xmat[self._torso, 2, 2:],
                sensors[self._accelerometer],
                data.sensordata[self._gyro],
                jnp.arcsinh(sensors[self._toes]),
            ]
        )

    def _reward(self, data: mjx.Data) -> jax.Array:
        """Returns the factor for being upright, () in [0, 1]."""
        return tolerance(
            data.xmat[self._torso, 2, 2],
            bounds=(1.0, float("inf")),
            margin=2,
            value_at_margin=0,
            sigmoid="linear",
        )


class QuadrupedMove(_Quadruped):
    """walk and run. Reward: factors for the torso's forward velocity in its own frame and for being
    upright. Start: any orientation, raised by centimetres until nothing touches.
    """

    def __init__(self, task: str, **options: Unpack[PhysicsOptions]) -> None:
        """Args are "walk" or "run", and the options of `Physics`."""
        self._speed = _SPEEDS[task]
        half_width = self._speed * _EPISODE_SECONDS

        def edit(spec: mujoco.MjSpec) -> None:
            _remove_terrain(spec)
            spec.geom("floor").size = [half_width, half_width, 0.5]
            for side in ("px", "py", "nx", "ny"):
                spec.delete(spec.geom(f"wall_{side}"))
            spec.delete(spec.body("ball"))
            spec.delete(spec.site("target"))

        model = dmc_model("quadruped.xml", edit)
        super().__init__(task, model, 78, **options)

    def reset(self, key: jax.Array) -> State:
        drawn = jax.random.normal(key, (4,), jnp.float32)
        origin = jnp.zeros((), jnp.float32)
        return self._begin(self._lifted(drawn / jnp.linalg.norm(drawn), origin, origin))

    def step(self, state: State, action: jax.Array) -> State:
        start, x = center(state.physics, _ROOT_X)
        start, y = center(start, _ROOT_Y)
        state = self._advance(start, action)
        return state.replace(physics=uncenter(uncenter(state.physics, _ROOT_X, x), _ROOT_Y, y))

    def _reward(self, data: mjx.Data) -> jax.Array:
        move = tolerance(
            data.sensordata[self._velocity[0]],
            bounds=(self._speed, float("inf")),
            margin=self._speed,
            value_at_margin=0.5,
            sigmoid="linear",
        )
        return super()._reward(data) * move


class QuadrupedFetch(_Quadruped):
    """fetch: bring a ball to the middle of a walled arena.

    Adds to `_Quadruped`. Observation: position, velocity and angular velocity of the ball and
    position of the target, in the torso's frame. Reward: the factor for being upright, times the
    horizontal closeness of ball and workspace, half of it times that of ball and target. Start:
    upright anywhere, facing anywhere, the ball anywhere in the air with a random velocity.
    """

    def __init__(self, **options: Unpack[PhysicsOptions]) -> None:
        """Args are the options of `Physics`."""
        model = dmc_model("quadruped.xml", _remove_terrain)
        super().__init__("fetch", model, 90, **options)
        self._ball = model.body("ball").id
        self._workspace = model.site("workspace").id
        self._target = model.site("target").id
        ball_joint = model.joint("ball_root")
        self._ball_qpos = int(ball_joint.qposadr[0])
        self._ball_qvel = int(ball_joint.dofadr[0])
        arena = model.geom("floor").size[0]
        self._spawn = float(_SPAWN_SHARE * arena)
        self._far = float(np.sqrt(2) * arena)
        self._reach = float(model.site("workspace").size[0] + model.geom("ball").size[0])
        self._target_radius = float(model.site("target").size[0])

    def reset(self, key: jax.Array) -> State:
        azimuth_key, place_key, velocity_key = jax.random.split(key, 3)
        half = jax.random.uniform(azimuth_key, (), jnp.float32, 0.0, jnp.pi)
        zero = jnp.zeros((), jnp.float32)
        orientation = jnp.stack([jnp.cos(half), zero, zero, jnp.sin(half)])
        places = jax.random.uniform(place_key, (2, 2), jnp.float32, -self._spawn, self._spawn)
        physics = self._lifted(orientation, *places[0])
        ball = jnp.append(places[1], jnp.float32(_BALL_HEIGHT))
        velocity = _BALL_SPEED * jax.random.normal(velocity_key, (2,), jnp.float32)
        return self._begin(
            physics.replace(
                qpos=jax.lax.dynamic_update_slice(physics.qpos, ball, (self._ball_qpos,)),
                qvel=jax.lax.dynamic_update_slice(physics.qvel, velocity, (self._ball_qvel,)),
            )
        )

    def step(self, state: State, action: jax.Array) -> State:
        return self._advance(state.physics, action)

    def _observe(self, data: mjx.Data, sensors: jax.Array) -> jax.Array:
        ball_qvel = data.qvel[self._ball_qvel : self._ball_qvel + 6]
        torso = data.xpos[self._torso]
        seen = jnp.stack(
            [
                data.xpos[self._ball] - torso,
                ball_qvel[:3] - data.qvel[:3],
                ball_qvel[3:],
                data.site_xpos[self._target] - torso,
            ]
        )
        seen = to_frame(seen, data.xmat[self._torso])
        return jnp.concatenate([super()._observe(data, sensors), seen.ravel()])

    def _reward(self, data: mjx.Data) -> jax.Array:
        ball = data.xpos[self._ball, :2]
        to_ball = jnp.linalg.norm(data.site_xpos[self._workspace, :2] - ball)
        to_target = jnp.linalg.norm(data.site_xpos[self._target, :2] - ball)
        reached, fetched = (
            tolerance(
                distance,
                bounds=(0.0, radius),
                margin=self._far,
                value_at_margin=0,
                sigmoid="linear",
            )
            for distance, radius in (
                (to_ball, self._reach),
                (to_target, self._target_radius),
            )
        )
        return super()._reward(data) * reached * (0.5 + 0.5 * fetched)


def _remove_terrain(spec: mujoco.MjSpec) -> None:
    spec.delete(spec.geom("terrain"))
    for sensor in list(spec.sensors):
        if sensor.type == mujoco.mjtSensor.mjSENS_RANGEFINDER:
            spec.delete(sensor)
