"""Steps of MJX whose integration does not overlap with the factorization of the inertia, and whose
sensors are all computed."""

from __future__ import annotations

from mujoco import mjx

_INTEGRATORS = {
    mjx.IntegratorType.EULER: mjx.euler,
    mjx.IntegratorType.IMPLICITFAST: mjx.implicit,
}
"""Those that factor a matrix of their own."""


def forward(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    """`mjx.forward`, with sensors of forces and accelerations in models without constraints, too:
    MJX returns before them, and leaves 0."""
    data = mjx.forward(model, data)
    if model.impl != mjx.Impl.JAX or data._impl.efc_J.size:
        return data
    return mjx.sensor_acc(model, data)


def step(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    """`mjx.step`, whose integration waits, for XLA too, until the accelerations are known.

    Integrators factor the inertia with the damping added, for which the inertia is all that is
    needed: XLA does it while it factors the inertia itself. On a machine of two cores large batches
    then never end, since jaxlib's batched factorization waits on one of the two threads for the
    work that it leaves to them (docs/upstream/jaxlib-lapack-deadlock.md).
    """
    if model.impl != mjx.Impl.JAX:
        return mjx.step(model, data)
    data = forward(model, data)
    if model.opt.integrator == mjx.IntegratorType.RK4:
        return mjx.rungekutta4(model, data)
    inertia = data._impl.M + 0.0 * data.qacc[0]  # XLA does not know that this adds nothing
    return _INTEGRATORS[model.opt.integrator](model, data.tree_replace({"_impl.M": inertia}))
