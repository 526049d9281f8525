"""The starts of dm_control's tasks: random joint angles, and drawing until a start is accepted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

T = TypeVar("T")


def random_joint_angles(model: mujoco.MjModel, key: jax.Array) -> jax.Array:
    """Returns qpos, (nq,) float32, of a model without ball joints.

    Follows dm_control's `suite/utils/randomizers.py`: limited joints are uniform within their
    limits, other hinges are uniform on the circle, other slides keep the model's position. A free
    body keeps its position, but its quaternion is four uniform numbers in [0, 1) over their norm.
    These orientations are not uniform, and cover an eighth of all.

    Raises:
        ValueError: if the model has ball joints.
    """
    hinge = model.jnt_type == mujoco.mjtJoint.mjJNT_HINGE
    slide = model.jnt_type == mujoco.mjtJoint.mjJNT_SLIDE
    free = model.jnt_type == mujoco.mjtJoint.mjJNT_FREE
    if not np.all(hinge | slide | free):
        raise ValueError("random_joint_angles does not draw for ball joints.")
    low, high = model.qpos0.copy(), model.qpos0.copy()
    turning = model.jnt_qposadr[hinge]
    low[turning], high[turning] = -np.pi, np.pi
    limited = model.jnt_limited.astype(bool)
    low[model.jnt_qposadr[limited]], high[model.jnt_qposadr[limited]] = model.jnt_range[limited].T
    quaternions = model.jnt_qposadr[free, None] + np.arange(3, 7)
    low[quaternions], high[quaternions] = 0.0, 1.0
    unit = jax.random.uniform(key, (model.nq,), jnp.float32)
    qpos = jnp.asarray(low, jnp.float32) + jnp.asarray(high - low, jnp.float32) * unit
    drawn = qpos[quaternions]
    return qpos.at[quaternions].set(drawn / jnp.linalg.norm(drawn, axis=1, keepdims=True))


def draw_until(
    accept: Callable[[T], jax.Array], draw: Callable[[jax.Array], T], key: jax.Array
) -> T:
    """Draws with fresh keys until a result is accepted, and returns it.

    Args:
        accept: maps a result, a tree of arrays, to () bool.
        draw: maps a key to a result.
        key: the seed of the keys.
    """

    def next_draw(stream: jax.Array) -> tuple[jax.Array, T]:
        stream, draw_key = jax.random.split(stream)
        return stream, draw(draw_key)

    _, accepted = jax.lax.while_loop(
        lambda carry: ~accept(carry[1]), lambda carry: next_draw(carry[0]), next_draw(key)
    )
    return accepted
