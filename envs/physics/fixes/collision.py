"""Contacts of capsules and spheres in MJX as C MuJoCo makes them, for our simulations alone.

With planes: a contact's friction acts along two tangents. C MuJoCo always takes the first one from
the capsule's axis. MJX 3.17 takes a fixed axis if the capsule is within 30 degrees of the plane's
normal. Pyramidal friction depends on the direction of the tangents, so such a leg gets other
forces. docs/upstream/mjx-plane-capsule.md has the details.

With capsules: MJX adds 1e-6 to the squared sine of the angle between two capsules before it divides
by it. This turns the contact of nearly parallel capsules, by 5e-4 rad in dm_control's finger. It
adds the same to the squared length of a capsule, which turns contacts of spheres with short
capsules, by 2e-3 rad in dm_control's manipulator. C MuJoCo and MJX-Warp do neither.

With cylinders and ellipsoids: MJX takes ten steps of gradient descent, which leave distances off by
millimetres. The colliders here find the closest point exactly, as C MuJoCo does.
docs/upstream/mjx-capsule-colliders.md is about both.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from mujoco import mjx
from mujoco.mjx._src import collision_driver, collision_primitive, math

_GEOM = mjx.GeomType
# Sine of the angle to the normal below which the axis's direction in the plane is rounding error.
UPRIGHT = 1e-6
# Squared sine of the angle between two axes below which they are parallel in float32.
_PARALLEL = 1e-12
# Share of a half-axis by which a point is moved off a plane of symmetry, where the closest point is
# not unique.
OFF_PLANE = 1e-6
ROOT_STEPS = 10  # of Newton's method
HALVINGS = 24  # of a capsule's length, down to float32's resolution

# (point, size of the geom) -> (signed distance, outward normal), in the geom's frame.
Surface = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]

# A context variable changes only in the thread that sets it: other threads keep MJX's colliders.
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


def capsule_capsule(
    model: mjx.Model, data: mjx.Data, key: Any, geom: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A collider of MJX's driver: one contact where two capsules are closest to each other.

    Args and results are those of `plane_capsule`, for (pairs,) contacts. C MuJoCo makes two
    contacts of exactly parallel capsules, and this collider makes one.
    """

    def collide(pos: jax.Array, axis: jax.Array, size: jax.Array) -> Any:
        (radius, length), offset = size[:, :2].T, pos[0] - pos[1]
        along = axis @ offset
        cosine, sine2 = axis[0] @ axis[1], jnp.sum(jnp.square(jnp.cross(axis[0], axis[1])))
        # The closest points of the lines. Then each point in turn is clipped to its capsule.
        t = (cosine * along[1] - along[0]) / jnp.maximum(sine2, _PARALLEL)
        t = jnp.clip(t, -length[0], length[0])
        s = jnp.clip(along[1] + cosine * t, -length[1], length[1])
        t = jnp.clip(cosine * s - along[0], -length[0], length[0])
        start, end = pos[0] + t * axis[0], pos[1] + s * axis[1]
        normal, apart = math.normalize_with_norm(end - start)
        normal = jnp.where(apart == 0, jnp.asarray([1.0, 0.0, 0.0], normal.dtype), normal)
        distance = apart - radius.sum()
        position = start + normal * (radius[0] + distance / 2)
        return distance, position, math.make_frame(normal)

    return jax.vmap(collide)(
        data.geom_xpos[geom], data.geom_xmat[geom][..., 2], model.geom_size[geom]
    )


def _cylinder(point: jax.Array, size: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the signed distance () of a point (3,) to a cylinder along z, and its gradient."""
    radius = jnp.linalg.norm(point[:2])
    outward = jnp.where(radius > 0, point[:2] / radius, jnp.asarray([1.0, 0.0], point.dtype))
    normals = jnp.stack(
        [jnp.append(outward, 0.0), jnp.stack([0.0, 0.0, jnp.where(point[2] < 0, -1.0, 1.0)])]
    )
    beyond = jnp.stack([radius, jnp.abs(point[2])]) - size[:2]
    # Outside, the closest point may be on the edge; inside, it is on the side or on an end.
    edge, apart = math.normalize_with_norm(jnp.maximum(beyond, 0.0))
    inside = jnp.max(beyond) <= 0
    distance = jnp.where(inside, jnp.max(beyond), apart)
    return distance, jnp.where(inside, normals[jnp.argmax(beyond)], edge @ normals)


def _ellipsoid(point: jax.Array, size: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the signed distance () of a point (3,) to an ellipsoid, and its gradient.

    The closest point q of a point p solves p = q + l q / s^2, where s are the half-axes and l is
    the largest root of |s p / (s^2 + l)| = 1. The inverse of this norm is concave and nearly
    linear in l, so Newton's method finds the root from the left in a few steps.
    """
    point = jnp.where(jnp.abs(point) < OFF_PLANE * size, OFF_PLANE * size, point)
    # l is counted from its largest pole, -s^2 of the smallest half-axis, so that s^2 + l is exact.
    smallest = jnp.min(size)
    square, pull = (size - smallest) * (size + smallest), jnp.square(size * point)
    root = jnp.max(jnp.abs(size * point) - square)
    for _ in range(ROOT_STEPS):
        share = pull / jnp.square(square + root)
        value, slope = jnp.sum(share), -2 * jnp.sum(share / (square + root))
        root = root + jnp.maximum(2 * value * (1 - jnp.sqrt(value)) / slope, 0.0)
    normal = math.normalize(point / (square + root))
    return (root - smallest**2) * jnp.sum(normal * point / (square + root)), normal


def _round_against(surface: Surface) -> Any:
    """Returns a collider of spheres and capsules with a convex body.

    The distance of the body is a convex function along the capsule's axis. Bisection finds its
    minimum. If the axis itself is inside of the body, this is a locally shortest way out, which
    C MuJoCo also finds.
    """

    def closest_of(center: jax.Array, axis: jax.Array, size: jax.Array) -> jax.Array:
        """Returns the closest point of a capsule's axis, in the frame of the body."""
        length = size[0, 1]

        def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            low, high = ends
            middle = (low + high) / 2
            falls = axis @ surface(center + middle * axis, size[1])[1] < 0
            return jnp.where(falls, middle, low), jnp.where(falls, high, middle)

        low, high = jax.lax.fori_loop(0, HALVINGS, halve, (-length, length))
        return center + (low + high) / 2 * axis

    def collide(pos: jax.Array, mat: jax.Array, size: jax.Array, has_axis: bool) -> Any:
        point = mat[1].T @ (pos[0] - pos[1])
        if has_axis:
            point = closest_of(point, mat[1].T @ mat[0, :, 2], size)
        apart, normal = surface(point, size[1])
        distance = apart - size[0, 0]
        position = point - (apart - distance / 2) * normal
        return distance, mat[1] @ position + pos[1], math.make_frame(-(mat[1] @ normal))

    def collider(model: mjx.Model, data: mjx.Data, key: Any, geom: jax.Array) -> Any:
        collide_all = jax.vmap(functools.partial(collide, has_axis=key.types[0] == _GEOM.CAPSULE))
        return collide_all(data.geom_xpos[geom], data.geom_xmat[geom], model.geom_size[geom])

    return collider


_CORRECTED = {
    (_GEOM.PLANE, _GEOM.CAPSULE): (plane_capsule, 2),
    # A sphere is a capsule without length.
    (_GEOM.SPHERE, _GEOM.CAPSULE): (capsule_capsule, 1),
    (_GEOM.CAPSULE, _GEOM.CAPSULE): (capsule_capsule, 1),
    (_GEOM.SPHERE, _GEOM.ELLIPSOID): (_round_against(_ellipsoid), 1),
    (_GEOM.SPHERE, _GEOM.CYLINDER): (_round_against(_cylinder), 1),
    (_GEOM.CAPSULE, _GEOM.ELLIPSOID): (_round_against(_ellipsoid), 1),
    (_GEOM.CAPSULE, _GEOM.CYLINDER): (_round_against(_cylinder), 1),
}
"""Colliders by the types of their geoms, and the number of contacts of a pair."""


@contextlib.contextmanager
def corrected_colliders() -> Iterator[None]:
    """MJX (impl=jax) uses the colliders above in everything that this thread traces inside.

    The driver looks its colliders up in one table. While any thread is inside, the entries choose
    by context. Afterwards they are MJX's own again.
    """
    global _users
    table = collision_driver._COLLISION_FUNC
    with _lock:
        if _users == 0:
            for pair, (ours, contacts) in _CORRECTED.items():
                table[pair] = _ByContext(table[pair], ours, contacts)
        _users += 1
    token = _corrected.set(True)
    try:
        yield
    finally:
        _corrected.reset(token)
        with _lock:
            _users -= 1
            if _users == 0:
                for pair in _CORRECTED:
                    table[pair] = table[pair].original


class _ByContext:
    """An entry of the driver's table: ours inside `corrected_colliders`, otherwise MJX's."""

    def __init__(self, original: Any, ours: Any, contacts: int) -> None:
        self.original, self._ours, self._contacts = original, ours, contacts

    @property
    def ncon(self) -> int:
        """The number of contacts of a pair."""
        return self._contacts if _corrected.get() else self.original.ncon

    def __call__(self, model: mjx.Model, data: mjx.Data, key: Any, geom: jax.Array) -> Any:
        chosen = self._ours if _corrected.get() else self.original
        return chosen(model, data, key, geom)
