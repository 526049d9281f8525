"""Contacts of ellipsoids with spheres, capsules, boxes and each other, for MJX-Warp.

MJX-Warp uses its algorithm for any convex bodies. In float32 and with its default tolerance, it
finds contact normals only to 1e-2 rad and distances to 1e-5 m, which is too inexact for stiff
contacts. The colliders here use the geometry of ellipsoids. The gap of two bodies along a direction
n is

    gap(n) = n . (center 2 - center 1) - h1(n) - h2(n),

where h(n) is the extent of a body along n from its center. The signed distance is the largest gap
of all directions, and its direction is the contact's normal. Everything is in the frame of the
first ellipsoid.
"""

from __future__ import annotations

import warp as wp
from mujoco.mjx.third_party.mujoco_warp._src.collision_primitive_core import (
    mat23f,
    mat83f,
    vec8f,
)
from mujoco.mjx.third_party.mujoco_warp._src.types import MJ_MAXVAL

from .collision import HALVINGS, OFF_PLANE, ROOT_STEPS

_NEWTON_STEPS = 12
_BACKTRACKS = 6
_CLOSE = 1e-2  # rad, below which Newton's steps do not overshoot
_WAYS = 6  # directions out of an ellipsoid for a segment through it, see `_way_out`


@wp.func
def _distance(point: wp.vec3, size: wp.vec3) -> tuple[float, wp.vec3]:
    """Signed distance of a point to an ellipsoid, and its gradient; see `collision`."""
    for i in range(3):
        if wp.abs(point[i]) < wp.static(OFF_PLANE) * size[i]:
            point[i] = wp.static(OFF_PLANE) * size[i]
    smallest = wp.vec3(wp.min(size))
    square = wp.cw_mul(size - smallest, size + smallest)
    scaled = wp.cw_mul(size, point)
    pull = wp.cw_mul(scaled, scaled)
    root = wp.max(wp.abs(scaled) - square)
    for _ in range(wp.static(ROOT_STEPS)):
        reach = square + wp.vec3(root)
        share = wp.cw_div(pull, wp.cw_mul(reach, reach))
        value = share[0] + share[1] + share[2]
        slope = -2.0 * (share[0] / reach[0] + share[1] / reach[1] + share[2] / reach[2])
        root += wp.max(2.0 * value * (1.0 - wp.sqrt(value)) / slope, 0.0)
    along = wp.cw_div(point, square + wp.vec3(root))
    normal = wp.normalize(along)
    return (root - smallest[0] * smallest[0]) * wp.dot(normal, along), normal


@wp.func
def _other_side(point: wp.vec3, size: wp.vec3) -> wp.vec3:
    """Returns the direction of a locally shortest way out of an ellipsoid, from a point in it, on
    the far side of its thinnest axis. Without such a way, any direction.

    It is another root of the equation in `_distance`, beyond its largest pole.
    """
    smallest = wp.vec3(wp.min(size))
    square = wp.cw_mul(size - smallest, size + smallest)
    scaled = wp.cw_mul(size, point)
    root = float(0.0)
    for i in range(3):
        if square[i] == 0.0:
            root = wp.max(root, wp.max(wp.abs(scaled[i]), wp.static(OFF_PLANE) * size[i] * size[i]))
    pull = wp.cw_mul(scaled, scaled)
    for _ in range(wp.static(ROOT_STEPS)):
        reach = square - wp.vec3(root)
        share = wp.cw_div(pull, wp.cw_mul(reach, reach))
        value = share[0] + share[1] + share[2] - 1.0
        slope = 2.0 * (share[0] / reach[0] + share[1] / reach[1] + share[2] / reach[2])
        if value > 0.0 and slope < 0.0:
            root -= value / slope
    return wp.normalize(wp.cw_div(point, square - wp.vec3(root)))


@wp.func
def _out(point: wp.vec3, size: wp.vec3, far: bool) -> wp.vec3:
    """Returns the direction of the shortest way out of an ellipsoid, or of `_other_side`."""
    if far:
        return _other_side(point, size)
    _apart, n = _distance(point, size)
    return n


@wp.func
def _extent(n: wp.vec3, size: wp.vec3) -> float:
    """Returns the extent of an ellipsoid along n, in its own frame."""
    return wp.length(wp.cw_mul(size, n))


@wp.func
def _segment_gap(n: wp.vec3, center: wp.vec3, axis: wp.vec3, length: float, size: wp.vec3) -> float:
    return wp.dot(n, center) - _extent(n, size) - length * wp.abs(wp.dot(n, axis))


@wp.func
def _across(center: wp.vec3, axis: wp.vec3, size: wp.vec3, far: bool) -> wp.vec3:
    """Returns the direction across the axis in which the gap to a line is largest; see `_out`.

    In a projection along the axis, the ellipsoid is an ellipse and the line is a point.
    """
    t = wp.where(wp.abs(axis[1]) < 0.5, wp.vec3(0.0, 1.0, 0.0), wp.vec3(0.0, 0.0, 1.0))
    t = wp.normalize(wp.cross(axis, t))
    s = wp.cross(axis, t)
    # The ellipse's matrix, turned by its own angle.
    p, q = wp.cw_mul(size, t), wp.cw_mul(size, s)
    angle = 0.5 * wp.atan2(2.0 * wp.dot(p, q), wp.dot(p, p) - wp.dot(q, q))
    u = wp.cos(angle) * t + wp.sin(angle) * s
    v = wp.cross(axis, u)
    point = wp.vec3(wp.dot(center, u), wp.dot(center, v), 0.0)
    flat = wp.vec3(_extent(u, size), _extent(v, size), 1.0)
    n = _out(point, flat, far)
    return n[0] * u + n[1] * v


@wp.func
def _closest_of(center: wp.vec3, axis: wp.vec3, length: float, size: wp.vec3) -> wp.vec3:
    """Returns the point of a segment, `center` +- `length` times `axis`, closest to an
    ellipsoid."""
    # In Warp, a plain assignment would be another name for `length`, and would change it.
    low, high = -length, float(length)
    for _ in range(wp.static(HALVINGS)):
        middle = 0.5 * (low + high)
        _apart, slope = _distance(center + middle * axis, size)
        if wp.dot(axis, slope) < 0.0:
            low = middle
        else:
            high = middle
    return center + 0.5 * (low + high) * axis


@wp.func
def _way_out(way: int, center: wp.vec3, axis: wp.vec3, length: float, size: wp.vec3) -> wp.vec3:
    """Returns one of `_WAYS` directions in which a segment through an ellipsoid may leave it: from
    either end, or across the segment; each on the near and on the far side."""
    far = way >= 3
    if way % 3 == 2:
        return _across(center, axis, size, far)
    side = wp.where(way % 3 == 0, length, -length)
    return _out(center + side * axis, size, far)


@wp.func
def capsule_ellipsoid(
    capsule_pos: wp.vec3,
    capsule_axis: wp.vec3,
    capsule_radius: float,
    capsule_half_length: float,
    ellipsoid_pos: wp.vec3,
    ellipsoid_rot: wp.mat33,
    ellipsoid_size: wp.vec3,
) -> tuple[wp.vec2, mat23f, mat23f]:
    """Replaces MJX-Warp's `capsule_box`: one contact, and an empty second one."""
    center = wp.transpose(ellipsoid_rot) @ (capsule_pos - ellipsoid_pos)
    axis = wp.transpose(ellipsoid_rot) @ capsule_axis
    point = _closest_of(center, axis, capsule_half_length, ellipsoid_size)
    apart, n = _distance(point, ellipsoid_size)
    gap = _segment_gap(n, center, axis, capsule_half_length, ellipsoid_size)
    if apart < 0.0:
        for way in range(wp.static(_WAYS)):
            other = _way_out(way, center, axis, capsule_half_length, ellipsoid_size)
            larger = _segment_gap(other, center, axis, capsule_half_length, ellipsoid_size)
            if larger > gap:
                n = other
                gap = larger
    gap -= capsule_radius
    place = ellipsoid_rot @ _between(n, gap, ellipsoid_size) + ellipsoid_pos
    normal = -(ellipsoid_rot @ n)
    return (
        wp.vec2(gap, wp.static(MJ_MAXVAL)),
        mat23f(place[0], place[1], place[2], 0.0, 0.0, 0.0),
        mat23f(normal[0], normal[1], normal[2], 0.0, 0.0, 1.0),
    )


@wp.func
def _between(n: wp.vec3, gap: float, size: wp.vec3) -> wp.vec3:
    """Returns the position of the contact: half the gap from the ellipsoid."""
    return wp.cw_mul(wp.cw_mul(size, size), n) / _extent(n, size) + 0.5 * gap * n


@wp.func
def _touching(
    n: wp.vec3, gap: float, pos: wp.vec3, rot: wp.mat33, size: wp.vec3
) -> tuple[int, vec8f, mat83f, wp.vec3]:
    """Returns one contact in the form of `box_box`."""
    distance, place = vec8f(wp.static(MJ_MAXVAL)), mat83f()
    distance[0] = gap
    place[0] = rot @ _between(n, gap, size) + pos
    return 1, distance, place, rot @ n


@wp.func
def _box_gap(
    n: wp.vec3, size: wp.vec3, center: wp.vec3, axes: wp.mat33, box_size: wp.vec3
) -> float:
    reach = wp.dot(box_size, wp.abs(wp.transpose(axes) @ n))
    return wp.dot(n, center) - _extent(n, size) - reach


@wp.func
def ellipsoid_box(
    ellipsoid_pos: wp.vec3,
    ellipsoid_rot: wp.mat33,
    ellipsoid_size: wp.vec3,
    box_pos: wp.vec3,
    box_rot: wp.mat33,
    box_size: wp.vec3,
    margin: float,
) -> tuple[int, vec8f, mat83f, wp.vec3]:
    """Replaces MJX-Warp's `box_box`: one contact, with a face, an edge or a corner.

    The gap is largest along the normal of a face, or along the ellipsoid's normal at the point
    closest to an edge, ends included.
    """
    center = wp.transpose(ellipsoid_rot) @ (box_pos - ellipsoid_pos)
    axes = wp.transpose(ellipsoid_rot) @ box_rot
    best = float(wp.static(-MJ_MAXVAL))
    normal = wp.vec3(0.0, 0.0, 1.0)
    for i in range(3):
        n = wp.vec3(axes[0, i], axes[1, i], axes[2, i])
        n = wp.where(wp.dot(n, center) < 0.0, -n, n)
        gap = _box_gap(n, ellipsoid_size, center, axes, box_size)
        normal = wp.where(gap > best, n, normal)
        best = wp.max(gap, best)
    for edge in range(12):
        i, corner = edge // 4, edge % 4
        j, k = (i + 1) % 3, (i + 2) % 3
        offset = wp.vec3(0.0)
        offset[j] = wp.where(corner // 2 == 0, -box_size[j], box_size[j])
        offset[k] = wp.where(corner % 2 == 0, -box_size[k], box_size[k])
        middle = center + axes @ offset
        axis = wp.vec3(axes[0, i], axes[1, i], axes[2, i])
        point = _closest_of(middle, axis, box_size[i], ellipsoid_size)
        _apart, n = _distance(point, ellipsoid_size)
        gap = _box_gap(n, ellipsoid_size, center, axes, box_size)
        normal = wp.where(gap > best, n, normal)
        best = wp.max(gap, best)
        # A center inside of the box may leave it over an edge that is far from it.
        if best < 0.0:
            for way in range(wp.static(_WAYS)):
                other = _way_out(way, middle, axis, box_size[i], ellipsoid_size)
                larger = _box_gap(other, ellipsoid_size, center, axes, box_size)
                if larger > best:
                    normal = other
                    best = larger
    return _touching(normal, best, ellipsoid_pos, ellipsoid_rot, ellipsoid_size)


@wp.func
def _ellipsoid_gap(n: wp.vec3, center: wp.vec3, first: wp.mat33, second: wp.mat33) -> float:
    return wp.dot(n, center) - wp.sqrt(wp.dot(n, first @ n)) - wp.sqrt(wp.dot(n, second @ n))


@wp.func
def ellipsoid_ellipsoid(
    pos: wp.vec3,
    rot: wp.mat33,
    size: wp.vec3,
    other_pos: wp.vec3,
    other_rot: wp.mat33,
    other_size: wp.vec3,
    margin: float,
) -> tuple[int, vec8f, mat83f, wp.vec3]:
    """Replaces MJX-Warp's `box_box`: one contact, by Newton's method over directions."""
    center = wp.transpose(rot) @ (other_pos - pos)
    axes = wp.transpose(rot) @ other_rot
    first = wp.diag(wp.cw_mul(size, size))
    second = axes @ wp.diag(wp.cw_mul(other_size, other_size)) @ wp.transpose(axes)
    # Exact for similar ellipsoids.
    n = wp.normalize(wp.inverse(first + second) @ center)
    gap = _ellipsoid_gap(n, center, first, second)
    for _ in range(wp.static(_NEWTON_STEPS)):
        h1, h2 = wp.sqrt(wp.dot(n, first @ n)), wp.sqrt(wp.dot(n, second @ n))
        p1, p2 = first @ n / h1, second @ n / h2
        slope = center - p1 - p2
        curvature = (first - wp.outer(p1, p1)) / h1 + (second - wp.outer(p2, p2)) / h2
        t = wp.where(wp.abs(n[1]) < 0.5, wp.vec3(0.0, 1.0, 0.0), wp.vec3(0.0, 0.0, 1.0))
        t = wp.normalize(wp.cross(n, t))
        s = wp.cross(n, t)
        a, b, c = wp.dot(t, curvature @ t), wp.dot(t, curvature @ s), wp.dot(s, curvature @ s)
        # On the sphere of directions, the gap adds to the curvature, which must stay positive.
        if a + gap > 0.0 and (a + gap) * (c + gap) > b * b:
            a += gap
            c += gap
        u, v = wp.dot(t, slope), wp.dot(s, slope)
        move = ((c * u - b * v) * t + (a * v - b * u) * s) / (a * c - b * b)
        for _ in range(wp.static(_BACKTRACKS)):
            m = wp.normalize(n + move)
            larger = _ellipsoid_gap(m, center, first, second)
            # float32 cannot compare the gaps of directions this close.
            if larger > gap or wp.length(move) < wp.static(_CLOSE):
                n = m
                gap = larger
                break
            move *= 0.5
    return _touching(n, gap, pos, rot, size)
