"""The corrections of `envs.collision` in MJX-Warp, which inherited MJX's collider.

Warp's colliders are compiled into a kernel that is looked up whenever a step is launched, not
when it is traced. So it is the launch that must find another entry in the table of colliders.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import jax
import warp as wp
from mujoco import mjx
from mujoco.mjx.third_party.mujoco_warp._src import collision_primitive
from mujoco.mjx.third_party.mujoco_warp._src.collision_primitive_core import (
    mat23f,
    plane_capsule,
)
from mujoco.mjx.third_party.mujoco_warp._src.types import GeomType
from mujoco.mjx.warp import ffi
from mujoco.mjx.warp import forward as warp_forward

from envs.collision import UPRIGHT

_PAIR = (GeomType.PLANE, GeomType.CAPSULE)


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


def _with_globals(function: Callable[..., Any], **replaced: Any) -> Callable[..., Any]:
    """Returns a copy of `function` that finds `replaced` instead of its module's own."""
    return functools.wraps(function)(
        types.FunctionType(
            function.__code__, {**function.__globals__, **replaced}, function.__name__
        )
    )


def _collider() -> wp.Function:
    """Returns the driver's entry around `_plane_capsule`: what it does with the 30 arguments of a
    collider is MJX's own code."""
    entry = _with_globals(
        collision_primitive.plane_capsule_wrapper.func, plane_capsule=_plane_capsule
    )
    # Warp files functions under module and name, and would take this for a new definition of
    # the original.
    entry.__module__, entry.__qualname__ = __name__, "plane_capsule_entry"
    return wp.func(entry)


_entry = _collider()


def _corrected(
    implementation: Callable[..., Any], shim_name: str
) -> Callable[[mjx.Model, mjx.Data], mjx.Data]:
    """Returns MJX's batched function around `implementation`, with `_entry` at every launch.

    Warp runs one launch at a time, so that nothing else of this process sees the exchange.
    """
    shim = implementation.__globals__[shim_name]

    @functools.wraps(shim)
    def launch(*args: Any) -> None:
        table = collision_primitive._PRIMITIVE_COLLISIONS
        original, table[_PAIR] = table[_PAIR], _entry
        try:
            shim(*args)
        finally:
            table[_PAIR] = original

    evaluate = jax.custom_batching.custom_vmap(
        ffi.marshal_jax_warp_callable(_with_globals(implementation, **{shim_name: launch}))
    )
    evaluate.def_vmap(
        ffi.marshal_custom_vmap(
            lambda axis_size, is_batched, model, data: (evaluate(model, data), is_batched[1])
        )
    )
    return evaluate


step = _corrected(warp_forward._step_jax_impl, "_step_shim")
forward = _corrected(warp_forward._forward_jax_impl, "_forward_shim")
