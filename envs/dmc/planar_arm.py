"""The planar arm with a gripper that manipulator and stacker share."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco import mjx

from ..physics.models import sensor_indices

_JOINTS = (
    "arm_root",
    "arm_shoulder",
    "arm_elbow",
    "arm_wrist",
    "finger",
    "fingertip",
    "thumb",
    "thumbtip",
)
_TOUCH = ("palm", "finger", "thumb", "fingertip", "thumbtip")


class PlanarArm:
    """The arm of a model: its random start and its part of the observation."""

    def __init__(self, model: mujoco.MjModel) -> None:
        joints = [model.joint(name) for name in _JOINTS]
        self._qpos = np.concatenate([joint.qposadr for joint in joints])
        self._qvel = np.concatenate([joint.dofadr for joint in joints])
        ranges = np.stack([joint.range for joint in joints])
        limited = np.stack([joint.limited for joint in joints]).astype(bool)
        self._low, self._high = np.where(limited, ranges, [-np.pi, np.pi]).T.astype(np.float32)
        self._finger = model.joint("finger").qposadr[0]
        self._thumb = model.joint("thumb").qposadr[0]
        self._hand = model.body("hand").id
        self._touch = sensor_indices(model, *(f"{part}_touch" for part in _TOUCH))

    def draw(self, key: jax.Array, qpos: jax.Array) -> jax.Array:
        """Returns `qpos` (nq,) with random arm joints. The finger gets the thumb's angle."""
        angles = jax.random.uniform(key, self._low.shape, jnp.float32, self._low, self._high)
        qpos = qpos.at[self._qpos].set(angles)
        return qpos.at[self._finger].set(qpos[self._thumb])

    def touch(self, data: mjx.Data) -> jax.Array:
        """Returns the touch sensors (N), (5,)."""
        return data.sensordata[self._touch]

    def observe(self, data: mjx.Data, touch: jax.Array) -> list[jax.Array]:
        """Returns sine and cosine of each joint, joint velocities, log(1 + touch), and the pose
        of the hand."""
        angles = data.qpos[self._qpos]
        return [
            jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=1).ravel(),
            data.qvel[self._qvel],
            jnp.log1p(touch),
            planar_pose(data, self._hand),
        ]


def planar_pose(data: mjx.Data, body: int | np.ndarray) -> jax.Array:
    """Returns x, z (m) and the w, y components of the quaternion of bodies, (..., 4)."""
    return jnp.concatenate([data.xpos[body, ::2], data.xquat[body, ::2]], axis=-1)
