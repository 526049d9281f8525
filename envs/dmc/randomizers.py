"""How the suite's resets draw: random joints, and drawing again until nothing touches."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

T = TypeVar("T")


def random_joints(key: jax.Array, model: mujoco.MjModel) -> jax.Array:
    """Draws (nq,) float32 positions as dm_control's `suite/utils/randomizers.py` does.

    Limited joints are uniform within their limits and other hinges over a whole turn. Free
    joints and unlimited slides stay where the model puts them, but a free joint's orientation is
    four uniform numbers in [0, 1), normalised: an uneven draw of one half of all orientations,
    which is the original's. No model that is drawn so has ball joints.
    """
    low, high = model.qpos0.copy(), model.qpos0.copy()
    orientations = []
    for joint, kind in enumerate(model.jnt_type):
        address = model.jnt_qposadr[joint]
        if kind == mujoco.mjtJoint.mjJNT_FREE:
            orientations.append(slice(address + 3, address + 7))
            low[orientations[-1]], high[orientations[-1]] = 0.0, 1.0
        elif model.jnt_limited[joint]:
            low[address], high[address] = model.jnt_range[joint]
        elif kind == mujoco.mjtJoint.mjJNT_HINGE:
            low[address], high[address] = -np.pi, np.pi
    qpos = jax.random.uniform(
        key, (model.nq,), jnp.float32, jnp.asarray(low, jnp.float32), jnp.asarray(high, jnp.float32)
    )
    for orientation in orientations:
        drawn = qpos[orientation]
        qpos = qpos.at[orientation].set(drawn / jnp.linalg.norm(drawn))
    return qpos


def redraw(
    key: jax.Array,
    start: T,
    draw: Callable[[jax.Array, T], T],
    rejected: Callable[[T], jax.Array],
) -> T:
    """Draws until a draw is not rejected.

    Args:
        key: for all draws.
        start: what the first draw gets as its predecessor.
        draw: makes a draw of a key and the rejected one before it, of which the original keeps
            what it does not draw anew.
        rejected: tells of a draw, as () bool, whether there must be another.
    """

    def attempt(carry: tuple[jax.Array, T, jax.Array]) -> tuple[jax.Array, T, jax.Array]:
        key, last, _ = carry
        key, draw_key = jax.random.split(key)
        drawn = draw(draw_key, last)
        return key, drawn, rejected(drawn)

    _, drawn, _ = jax.lax.while_loop(
        lambda carry: carry[2], attempt, (key, start, jnp.ones((), bool))
    )
    return drawn
