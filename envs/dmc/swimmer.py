"""swimmer: a chain of 6 or 15 links swims to a target in a viscous plane."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from ..base import Env, Moved, PhysicsState, State, spec_from_model
from ..physics.backend import Physics
from ..physics.models import dmc_model, sensor_indices
from ..physics.options import PhysicsOptions
from .rewards import tolerance
from .starts import random_joint_angles

_ROOT_COORDINATES = 3
_SUBSTEPS = 15
_CLOSE_CHANCE = 0.2  # that the target is close
_CLOSE_BOX = 0.3  # m, half the side of the square that a close target is drawn from
_FAR_BOX = 2.0


class Swimmer(Env):
    """The tasks of dm_control's `suite/swimmer.py`.

    Observation: joint angles (rad), target relative to the nose in the head's frame (m), forward,
    sideward and turning velocity of every link in its own frame (m/s, rad/s). Reward: 1 while the
    nose is in the target, falling off slowly outside of it. Never terminates. Start: at rest in the
    middle, headed anywhere, joint angles uniform within their limits, target uniform in a square
    around the middle, which is small with probability 0.2.

    `State.task` is the target's position, (2,) float32, m.
    """

    def __init__(self, links: int, **options: Unpack[PhysicsOptions]) -> None:
        """Args are the number of links, head included, and the options of `Physics`."""
        model = dmc_model("swimmer.xml", lambda spec: _add_links(spec, links))
        self._head = model.body("head").id
        self._nose = model.geom("nose").id
        self._target_radius = float(model.geom("target").size[0])
        self._target_height = np.float32(model.geom("target").pos[2])
        self._light_height = np.float32(model.light("target_light").pos[2])
        self._velocities = _velocity_sensors(model, links)
        self.physics = Physics(model, substeps=_SUBSTEPS, **options)
        self.spec = spec_from_model(
            f"dmc/swimmer_swimmer{links}",
            model,
            obs_size=(links - 1) + 2 + 3 * links,
            episode_steps=1000,
            substeps=_SUBSTEPS,
        )

    def reset(self, key: jax.Array) -> State:
        joint_key, close_key, target_key = jax.random.split(key, 3)
        qpos = random_joint_angles(self.physics.model, joint_key)
        close = jax.random.bernoulli(close_key, _CLOSE_CHANCE)
        box = jnp.where(close, jnp.float32(_CLOSE_BOX), jnp.float32(_FAR_BOX))
        target = box * jax.random.uniform(target_key, (2,), jnp.float32, -1.0, 1.0)
        physics = self.physics.init(qpos, jnp.zeros(self.physics.model.nv, jnp.float32))
        obs, _ = self._observe(physics, target)
        return State.begin(physics, obs, task=target)

    def step(self, state: State, action: jax.Array) -> State:
        physics, _ = self.physics.step(state.physics, action, lambda data: None)
        obs, distance = self._observe(physics, state.task)
        reward = tolerance(
            distance,
            bounds=(0.0, self._target_radius),
            margin=5 * self._target_radius,
            sigmoid="long_tail",
        )
        return State(
            physics=physics,
            obs=obs,
            reward=reward,
            terminated=jnp.zeros((), bool),
            task=state.task,
        )

    def task_from_original(self, model: mujoco.MjModel, data: mujoco.MjData) -> jax.Array:
        return jnp.asarray(model.geom("target").pos[:2], jnp.float32)

    def moved(self, state: State) -> Moved:
        return {
            "geom_pos": {"target": jnp.append(state.task, self._target_height)},
            "light_pos": {"target_light": jnp.append(state.task, self._light_height)},
        }

    def _observe(self, physics: PhysicsState, target: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the observation, and the distance of the nose to the target (m)."""
        data = self.physics.kinematics(physics)
        # Everything is in one horizontal plane, and the head turns about the vertical.
        to_target = jnp.dot(
            target - data.geom_xpos[self._nose, :2],
            data.xmat[self._head, :2, :2],
            precision="highest",
        )
        velocities = data.sensordata[self._velocities]
        obs = jnp.concatenate([physics.qpos[_ROOT_COORDINATES:], to_target, velocities])
        return obs, jnp.linalg.norm(to_target)


def _add_links(spec: mujoco.MjSpec, links: int) -> None:
    """Adds the other links to the head, each with a motor and two sensors, as dm_control does.

    dm_control's own function cannot be imported without its rendering.
    """
    parent = spec.body("head")
    limit = 360 / links
    for i in range(links - 1):
        parent = parent.add_body(name=f"segment_{i}", pos=[0, 0.1, 0])
        for role in ("visual", "inertial"):
            parent.add_geom(spec.find_default(role), name=f"{role}_{i}")
        site = parent.add_site(name=f"site_{i}")
        joint = parent.add_joint(name=f"joint_{i}", range=[-limit, limit])
        spec.add_actuator(name=f"motor_{i}", target=joint.name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        for sensor in (mujoco.mjtSensor.mjSENS_VELOCIMETER, mujoco.mjtSensor.mjSENS_GYRO):
            spec.add_sensor(
                name=f"{sensor.name.removeprefix('mjSENS_').lower()}_{i}",
                type=sensor,
                objtype=mujoco.mjtObj.mjOBJ_SITE,
                objname=site.name,
            )
    for camera in spec.cameras:
        if camera.mode == mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM:
            camera.pos = camera.pos * (links / 6)


def _velocity_sensors(model: mujoco.MjModel, links: int) -> np.ndarray:
    """Returns the indices in `sensordata` of (vx, vy, wz) of each link, from the head on."""
    names = [("head_vel", "head_gyro")]
    names += [(f"velocimeter_{i}", f"gyro_{i}") for i in range(links - 1)]
    linear_x, linear_y, angular_z = 0, 1, 5
    return np.concatenate(
        [sensor_indices(model, *pair)[[linear_x, linear_y, angular_z]] for pair in names]
    )
