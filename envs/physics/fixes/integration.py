"""MJX's step with all sensors, and with an integration that does not overlap with the factorization
of the inertia."""

from __future__ import annotations

from mujoco import mjx

_INTEGRATORS = {
    mjx.IntegratorType.EULER: mjx.euler,
    mjx.IntegratorType.IMPLICITFAST: mjx.implicit,
}
"""Integrators that factor another matrix."""


def forward(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    """`mjx.forward`, with sensors of forces and accelerations also in models without constraints,
    where MJX leaves them at 0."""
    data = mjx.forward(model, data)
    if model.impl != mjx.Impl.JAX or data._impl.efc_J.size:
        return data
    return mjx.sensor_acc(model, data)


def step(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    """`mjx.step`, but the integration depends on the accelerations.

    Integrators factor the inertia plus the damping. XLA may do this at the same time as it factors
    the inertia itself. Large batches then hang on a machine with two cores: each of jaxlib's
    batched factorizations blocks one of two threads while it waits for work in the same threads
    (docs/upstream/jaxlib-lapack-deadlock.md).
    """
    if model.impl != mjx.Impl.JAX:
        return mjx.step(model, data)
    data = forward(model, data)
    if model.opt.integrator == mjx.IntegratorType.RK4:
        return mjx.rungekutta4(model, data)
    inertia = data._impl.M + 0.0 * data.qacc[0]  # a dependency that XLA cannot remove
    return _INTEGRATORS[model.opt.integrator](model, data.tree_replace({"_impl.M": inertia}))
