"""MJX-Warp's noslip solver with C MuJoCo's order of contacts and less rounding.

The noslip solver makes a few Gauss-Seidel sweeps over the frictional constraints. They do not
converge, so the result depends on the order. C MuJoCo sorts contacts by bodies, then by geoms.
MJX-Warp takes them as its threads wrote them, which on a GPU is another order each time.

MJX-Warp also computes the accelerations again, before and after, from those without constraints.
These may be a hundred times larger, and their rounding error in float32 is larger than the change
by a sweep. The solver here adds the changes by the sweeps to the main solver's accelerations.

docs/upstream/mjx-warp-noslip.md has the size of both errors.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator
from typing import Any

import warp as wp
from mujoco.mjx.third_party.mujoco_warp._src import solver
from mujoco.mjx.third_party.mujoco_warp._src.types import ConstraintType, EnableBit, vec5

from .globals import with_globals

_original = solver.noslip


@wp.func
def _precedes(
    first: int, second: int, geoms: wp.array[wp.vec2i], body_of_geom: wp.array[int]
) -> bool:
    """Whether C MuJoCo has one contact before another. It sorts them by the lower body, the higher
    body, the first geom, the second geom, and the order of its collider."""
    a, b = geoms[first], geoms[second]
    a0, a1 = body_of_geom[a[0]], body_of_geom[a[1]]
    b0, b1 = body_of_geom[b[0]], body_of_geom[b[1]]
    if wp.min(a0, a1) != wp.min(b0, b1):
        return wp.min(a0, a1) < wp.min(b0, b1)
    if wp.max(a0, a1) != wp.max(b0, b1):
        return wp.max(a0, a1) < wp.max(b0, b1)
    if a[0] != b[0]:
        return a[0] < b[0]
    if a[1] != b[1]:
        return a[1] < b[1]
    return first < second


@wp.kernel(enable_backward=False)
def _sort(
    body_of_geom: wp.array[int],
    geoms: wp.array[wp.vec2i],
    contact_rows: wp.array2d[int],
    row_count: wp.array[int],
    row_type: wp.array2d[int],
    row_contact: wp.array2d[int],
    most_rows: int,
    order: wp.array2d[int],
    count: wp.array[int],
):
    """Lists the frictional contacts of each world in C MuJoCo's order, by insertion."""
    world = wp.tid()
    found = int(0)
    for row in range(wp.min(row_count[world], most_rows)):
        kind = row_type[world, row]
        if kind == wp.static(int(ConstraintType.CONTACT_PYRAMIDAL)) or kind == wp.static(
            int(ConstraintType.CONTACT_ELLIPTIC)
        ):
            contact = row_contact[world, row]
            if contact_rows[contact, 0] == row:
                place = int(found)
                while place > 0:
                    before = order[world, place - 1]
                    if _precedes(before, contact, geoms, body_of_geom):
                        break
                    order[world, place] = before
                    place -= 1
                order[world, place] = contact
                found += 1
    count[world] = found


@wp.kernel(enable_backward=False)
def _sweep(
    nv: int,
    tolerances: wp.array[float],
    iterations: int,
    row_count: wp.array[int],
    friction: wp.array[vec5],
    dims: wp.array[int],
    row_type: wp.array2d[int],
    row_contact: wp.array2d[int],
    nonzeros: wp.array2d[int],
    addresses: wp.array2d[int],
    columns: wp.array3d[int],
    jacobian: wp.array3d[float],
    stiffness: wp.array2d[float],
    reference: wp.array2d[float],
    frictionloss: wp.array2d[float],
    most_rows: int,
    effects: wp.array3d[float],
    blocks: wp.array2d[vec5],
    scales: wp.array[float],
    # in addition to the arguments of the original kernel
    is_sparse: bool,
    sleep: bool,
    contact_rows: wp.array2d[int],
    order: wp.array2d[int],
    count: wp.array[int],
    used: wp.array[int],
    acceleration: wp.array2d[float],
    force: wp.array2d[float],
):
    """Sweeps over dry friction in the order of its rows, and over contacts in `order`, until the
    cost falls by less than the tolerance. effects: M^-1 J' (rows, nv); blocks: of J M^-1 J'."""
    world = wp.tid()
    rows = wp.min(row_count[world], most_rows)
    if rows == 0:
        return
    gain = float(0.0)
    for row in range(rows):
        if stiffness[world, row] > 0.0:
            gain += 0.5 * force[world, row] * force[world, row] / stiffness[world, row]

    done = bool(False)
    sweep = int(0)
    while sweep < iterations and not done:
        for row in range(rows):
            kind = row_type[world, row]
            if kind == wp.static(int(ConstraintType.FRICTION_DOF)) or kind == wp.static(
                int(ConstraintType.FRICTION_TENDON)
            ):
                own = blocks[world, row][0]
                if own > 0.0 or not sleep:
                    own = wp.max(own, wp.static(float(solver.types.MJ_MINVAL)))
                    residual = (
                        solver._noslip_dot(
                            nv,
                            is_sparse,
                            nonzeros,
                            addresses,
                            columns,
                            jacobian,
                            world,
                            row,
                            acceleration[world],
                        )
                        - reference[world, row]
                    )
                    most = frictionloss[world, row]
                    new = wp.clamp(force[world, row] - residual / own, -most, most)
                    change = new - force[world, row]
                    gain -= change * (0.5 * own * change + residual)
                    force[world, row] = new
                    solver._noslip_add(nv, effects[world, row], change, acceleration[world])

        for i in range(count[world]):
            contact = order[world, i]
            first = contact_rows[contact, 0]
            dim = dims[contact]
            if row_type[world, first] == wp.static(int(ConstraintType.CONTACT_ELLIPTIC)):
                if first + dim <= rows:
                    gain -= solver._noslip_elliptic(
                        nv,
                        is_sparse,
                        nonzeros,
                        addresses,
                        columns,
                        jacobian,
                        reference,
                        sleep,
                        world,
                        first,
                        dim,
                        friction[contact],
                        effects[world],
                        blocks,
                        acceleration,
                        force,
                    )
            elif first + 2 * (dim - 1) <= rows:
                for axis in range(dim - 1):
                    gain -= solver._noslip_pyramidal(
                        nv,
                        is_sparse,
                        nonzeros,
                        addresses,
                        columns,
                        jacobian,
                        reference,
                        sleep,
                        world,
                        first + 2 * axis,
                        effects[world],
                        blocks,
                        acceleration,
                        force,
                    )
        done = gain * scales[world] < tolerances[world % tolerances.shape[0]]
        gain = float(0.0)
        sweep += 1
    used[world] += sweep


def noslip(model: Any, data: Any) -> None:
    """Replaces MJX-Warp's `solver.noslip`; see there for the arguments."""
    order = wp.empty((data.nworld, data.njmax), dtype=int)
    count = wp.empty((data.nworld,), dtype=int)
    contact_rows = data.contact.efc_address
    wp.launch(
        _sort,
        dim=data.nworld,
        inputs=[
            model.geom_bodyid,
            data.contact.geom,
            contact_rows,
            data.nefc,
            data.efc.type,
            data.efc.id,
            data.njmax,
        ],
        outputs=[order, count],
    )
    more = [model.is_sparse, bool(model.opt.enableflags & EnableBit.SLEEP)]
    more += [contact_rows, order, count]

    def launch(kernel: Any, dim: Any, inputs: list[Any], outputs: list[Any]) -> None:
        if outputs[0] is data.qacc:  # computed again, and discarded
            outputs = [wp.empty_like(data.qacc), *outputs[1:]]
        wp.launch(kernel, dim, [*inputs, *more] if kernel is _sweep else inputs, outputs)

    with_globals(
        _original.__wrapped__,
        wp=types.SimpleNamespace(empty=wp.empty, launch=launch),
        _noslip_solve=lambda *_: _sweep,
    )(model, data)


@contextlib.contextmanager
def corrected_noslip() -> Iterator[None]:
    """MJX-Warp uses `noslip` in launches inside."""
    solver.noslip = noslip
    try:
        yield
    finally:
        solver.noslip = _original
