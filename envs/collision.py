"""Contacts between a plane and a capsule as C MuJoCo makes them, for our simulations alone.

A contact's friction acts along two tangents. C MuJoCo takes the first from the capsule's axis,
however steeply the capsule stands; MJX 3.17 takes a fixed axis once the capsule is within 30
degrees of the plane's normal. Pyramidal friction depends on where the tangents point, so that
such a leg feels other forces. docs/upstream/mjx-plane-capsule.md has the details.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from mujoco import mjx
from mujoco.mjx._src import collision_driver, collision_primitive

_PAIR = (mjx.GeomType.PLANE, mjx.GeomType.CAPSULE)
# Sine of the angle to the normal below which float32 rounding decides where the axis points.
UPRIGHT = 1e-6

# Context variables are seen by the thread that sets them only: MJX that other threads trace
# meanwhile keeps its own collider.
_corrected = contextvars.ContextVar("corrected", default=False)
_lock = threading.Lock()
_users = 0


def plane_capsule(
    model: mjx.Model, data: mjx.Data, key: Any, geom: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A collider of MJX's driver: both ends of each capsule against its plane.

    Args:
        model: the model.
        data: geom positions and orientations.
        key: unused; part of the driver's signature.
        geom: (pairs, 2) ids of plane and capsule.

    Returns:
        Distances (2 * pairs,), positions (2 * pairs, 3) and frames (2 * pairs, 3, 3) with the
        normal in the first row.
    """
    distance, position, frame = collision_primitive.plane_capsule(model, data, key, geom)
    normal = frame[:, 0]
    axis = jnp.repeat(data.geom_xmat[geom[:, 1], :, 2], 2, axis=0)
    flat = axis - jnp.sum(normal * axis, axis=1, keepdims=True) * normal
    length = jnp.linalg.norm(flat, axis=1, keepdims=True)
    x_axis = jnp.asarray([1.0, 0.0, 0.0], flat.dtype)
    tangent = jnp.where(length < UPRIGHT, x_axis, flat / jnp.maximum(length, UPRIGHT))
    frame = jnp.stack([normal, tangent, jnp.cross(normal, tangent)], axis=1)
    return distance, position, frame


@contextlib.contextmanager
def corrected_colliders() -> Iterator[None]:
    """MJX (impl=jax) that this thread traces inside uses `plane_capsule` above.

    The driver looks its colliders up in one table. While any thread is inside, the entry is one
    that picks by context; afterwards it is MJX's own again.
    """
    global _users
    table = collision_driver._COLLISION_FUNC
    with _lock:
        if _users == 0:
            table[_PAIR] = _by_context(table[_PAIR])
        _users += 1
    token = _corrected.set(True)
    try:
        yield
    finally:
        _corrected.reset(token)
        with _lock:
            _users -= 1
            if _users == 0:
                table[_PAIR] = table[_PAIR].original


def _by_context(original: Any) -> Any:
    def collide(model: mjx.Model, data: mjx.Data, key: Any, geom: jax.Array) -> Any:
        chosen = plane_capsule if _corrected.get() else original
        return chosen(model, data, key, geom)

    collide.ncon = original.ncon  # type: ignore[attr-defined]
    collide.original = original  # type: ignore[attr-defined]
    return collide
