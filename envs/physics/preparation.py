"""Models for the backends: accepted by MJX, and versions with a part switched off."""

from __future__ import annotations

import copy

import mujoco
from mujoco import mjx

from .support import check_model


def prepare_model(
    model: mujoco.MjModel, *, iterations: int | None = None, ls_iterations: int | None = None
) -> mujoco.MjModel:
    """Returns a copy of `model` that MJX accepts and that moves exactly as the original.

    Args:
        model: the original model; it is not modified.
        iterations: upper limit of constraint solver iterations; None keeps the model's own.
        ls_iterations: upper limit of line search iterations; None keeps the model's own.

    Raises:
        UnsupportedModelError: if no backend simulates the model as it is, see `support`.
        ValueError: if a limit is below 1.
    """
    check_model(model)
    for value, what in ((iterations, "iterations"), (ls_iterations, "ls_iterations")):
        if value is not None and value < 1:
            raise ValueError(f"{what} must be at least 1, got {value}.")

    model = copy.deepcopy(model)
    # The dynamics do not read the energy, and MJX refuses its flag.
    model.opt.enableflags &= ~int(mujoco.mjtEnableBit.mjENBL_ENERGY)
    no_contact = mujoco.mjtDisableBit.mjDSBL_CONTACT | mujoco.mjtDisableBit.mjDSBL_CONSTRAINT
    if model.opt.disableflags & no_contact:
        # MJX refuses pairs of geoms without a collider even if contacts are switched off.
        model.geom_contype[:] = 0
        model.geom_conaffinity[:] = 0
    # A vmapped while loop runs until its slowest member is done, so a high limit costs time for the
    # whole batch.
    if iterations is not None:
        model.opt.iterations = iterations
    if ls_iterations is not None:
        model.opt.ls_iterations = ls_iterations
    return model


def without_actuation(model: mjx.Model) -> mjx.Model:
    """Returns the model with all actuators switched off."""
    flags = model.opt.disableflags | mjx.DisableBit.ACTUATION
    return model.replace(opt=model.opt.replace(disableflags=flags))


def without_contacts(model: mujoco.MjModel) -> mujoco.MjModel:
    """Returns a copy for kinematics alone. MJX needs no colliders and no memory for contacts in
    it."""
    model = copy.deepcopy(model)
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_CONTACT)
    model.geom_contype[:] = 0
    model.geom_conaffinity[:] = 0
    return model
