"""Corrected contacts in MJX-Warp.

Planes and capsules: MJX-Warp has MJX's collider, see `collision`. Ellipsoids: see `warp_ellipsoid`.
Boxes with boxes: MJX-Warp uses its collider for any convex bodies, which finds other contacts than
C MuJoCo does, although it also has C MuJoCo's collider. docs/upstream/mjx-warp-contacts.md is about
these.

Warp looks its kernel of colliders up when a step is launched, not when it is traced. So the tables
of colliders are changed during each launch.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import warp as wp
from mujoco import mjx
from mujoco.mjx.third_party.mujoco_warp._src import collision_driver, collision_primitive
from mujoco.mjx.third_party.mujoco_warp._src.collision_primitive_core import (
    mat23f,
    mat83f,
    plane_box,
    plane_capsule,
    vec8f,
)
from mujoco.mjx.third_party.mujoco_warp._src.types import (
    MJ_MAXVAL,
    CollisionType,
    GeomType,
)
from mujoco.mjx.warp import ffi
from mujoco.mjx.warp import forward as warp_forward

from .collision import UPRIGHT
from .globals import with_globals
from .warp_ellipsoid import capsule_ellipsoid, ellipsoid_box, ellipsoid_ellipsoid
from .warp_noslip import corrected_noslip


@wp.func
def _plane_capsule(
    plane_normal: wp.vec3,
    plane_pos: wp.vec3,
    capsule_pos: wp.vec3,
    capsule_axis: wp.vec3,
    capsule_radius: float,
    capsule_half_length: float,
) -> tuple[wp.vec2, mat23f, wp.mat33]:
    distance, position, _ = plane_capsule(
        plane_normal, plane_pos, capsule_pos, capsule_axis, capsule_radius, capsule_half_length
    )
    n = plane_normal
    flat = capsule_axis - wp.dot(n, capsule_axis) * n
    length = wp.length(flat)
    t = wp.vec3(1.0, 0.0, 0.0)
    if length >= wp.static(UPRIGHT):
        t = flat / length
    s = wp.cross(n, t)
    frame = wp.mat33(n[0], n[1], n[2], t[0], t[1], t[2], s[0], s[1], s[2])
    return distance, position, frame


@wp.func
def _plane_box(
    plane_normal: wp.vec3,
    plane_pos: wp.vec3,
    box_pos: wp.vec3,
    box_rot: wp.mat33,
    box_size: wp.vec3,
) -> tuple[vec8f, mat83f, wp.vec3]:
    """Keeps the first four of the lower corners that touch, as C MuJoCo does; MJX-Warp keeps all.
    Without margin."""
    distance, position, normal = plane_box(plane_normal, plane_pos, box_pos, box_rot, box_size)
    height = wp.dot(box_pos - plane_pos, normal)
    found = int(0)
    for i in range(8):
        if distance[i] > height or found == 4:
            distance[i] = wp.static(MJ_MAXVAL)
        elif distance[i] < 0.0:
            found += 1
    return distance, position, normal


def _entry(original: wp.Function, name: str, **replaced: wp.Function) -> wp.Function:
    """Returns a driver's entry with another collider in it. The code around the collider, with its
    30 arguments, stays MJX-Warp's."""
    entry = with_globals(original.func, **replaced)
    # Warp registers functions by module and name. With the same name, this one would redefine the
    # original.
    entry.__module__, entry.__qualname__ = __name__, name
    return wp.func(entry)


_round_ellipsoid = _entry(
    collision_primitive.capsule_box_wrapper, "round_ellipsoid", capsule_box=capsule_ellipsoid
)
_ENTRIES = {
    (GeomType.PLANE, GeomType.CAPSULE): _entry(
        collision_primitive.plane_capsule_wrapper, "plane_capsule_", plane_capsule=_plane_capsule
    ),
    (GeomType.PLANE, GeomType.BOX): _entry(
        collision_primitive.plane_box_wrapper, "plane_box_", plane_box=_plane_box
    ),
    # A sphere is a capsule without length.
    (GeomType.SPHERE, GeomType.ELLIPSOID): _round_ellipsoid,
    (GeomType.CAPSULE, GeomType.ELLIPSOID): _round_ellipsoid,
    (GeomType.ELLIPSOID, GeomType.ELLIPSOID): _entry(
        collision_primitive.box_box_wrapper, "ellipsoid_ellipsoid_", box_box=ellipsoid_ellipsoid
    ),
    (GeomType.ELLIPSOID, GeomType.BOX): _entry(
        collision_primitive.box_box_wrapper, "ellipsoid_box_", box_box=ellipsoid_box
    ),
    (GeomType.BOX, GeomType.BOX): collision_primitive.box_box_wrapper,
}
"""The driver's entries by the types of their geoms."""


@contextlib.contextmanager
def corrected_tables() -> Iterator[None]:
    """MJX-Warp uses the colliders above in launches inside.

    Launches run one at a time, so nothing else in this process uses the changed tables.
    """
    entries, kinds = collision_primitive._PRIMITIVE_COLLISIONS, collision_driver.MJ_COLLISION_TABLE
    before = dict(entries), dict(kinds)
    entries |= _ENTRIES
    kinds |= dict.fromkeys(_ENTRIES, CollisionType.PRIMITIVE)
    try:
        yield
    finally:
        for table, original in zip((entries, kinds), before, strict=True):
            table.clear()
            table |= original


def _corrected(
    implementation: Callable[..., Any], shim_name: str
) -> Callable[[mjx.Model, mjx.Data], mjx.Data]:
    """Returns MJX's batched function of `implementation`, with our corrections at every launch."""
    shim = implementation.__globals__[shim_name]

    @functools.wraps(shim)
    def launch(*args: Any) -> None:
        with corrected_tables(), corrected_noslip():
            shim(*args)

    evaluate = jax.custom_batching.custom_vmap(
        ffi.marshal_jax_warp_callable(with_globals(implementation, **{shim_name: launch}))
    )
    evaluate.def_vmap(
        ffi.marshal_custom_vmap(
            lambda axis_size, is_batched, model, data: (evaluate(model, data), is_batched[1])
        )
    )
    return evaluate


step = _corrected(warp_forward._step_jax_impl, "_step_shim")
forward = _corrected(warp_forward._forward_jax_impl, "_forward_shim")
