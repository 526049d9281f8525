"""How dm_control's tasks begin: random joint angles, and drawing again until a start will do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

T = TypeVar("T")


def random_joint_angles(model: mujoco.MjModel, key: jax.Array) -> jax.Array:
    """Returns qpos, (nq,) float32, of a model whose joints are hinges and slides.

    As dm_control's `suite/utils/randomizers.py`: limited joints are uniform within their limits,
    other hinges are uniform on the circle, other slides stay where the model has them.

    Raises:
        ValueError: if the model has joints of another type.
    """
    hinge = model.jnt_type == mujoco.mjtJoint.mjJNT_HINGE
    slide = model.jnt_type == mujoco.mjtJoint.mjJNT_SLIDE
    if not np.all(hinge | slide):
        raise ValueError("random_joint_angles draws for hinges and slides only.")
    limited = model.jnt_limited.astype(bool)
    low, high = model.jnt_range.T
    low = np.where(limited, low, np.where(hinge, -np.pi, model.qpos0))
    high = np.where(limited, high, np.where(hinge, np.pi, model.qpos0))
    unit = jax.random.uniform(key, (model.nq,), jnp.float32)
    return jnp.asarray(low, jnp.float32) + jnp.asarray(high - low, jnp.float32) * unit


def draw_until(
    accept: Callable[[T], jax.Array], draw: Callable[[jax.Array], T], key: jax.Array
) -> T:
    """Returns `draw(key)` for the first of a stream of fresh keys whose result is accepted.

    Args:
        accept: maps a result, a tree of arrays, to () bool.
        draw: makes a result of a key.
        key: where the stream begins.
    """

    def next_draw(stream: jax.Array) -> tuple[jax.Array, T]:
        stream, draw_key = jax.random.split(stream)
        return stream, draw(draw_key)

    _, accepted = jax.lax.while_loop(
        lambda carry: ~accept(carry[1]), lambda carry: next_draw(carry[0]), next_draw(key)
    )
    return accepted
