"""Refuses models that a backend would not simulate completely, and names the element.

MJX refuses some of the features that it lacks, and ignores the others silently: such a model would
not move as on C MuJoCo. Tests compare the lists here with all fields of `mjModel` and `mjOption`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import mujoco
import numpy as np
from mujoco import mjx

from .options import UnsupportedModelError

_STATE = mujoco.mjtState
CARRIED = int(
    _STATE.mjSTATE_QPOS | _STATE.mjSTATE_QVEL | _STATE.mjSTATE_ACT | _STATE.mjSTATE_WARMSTART
)
"""Components of MuJoCo's state that `PhysicsState` has."""

GIVEN = int(
    _STATE.mjSTATE_TIME  # only a sensor reads it, and models with that sensor are refused
    | _STATE.mjSTATE_CTRL
    | _STATE.mjSTATE_QFRC_APPLIED
    | _STATE.mjSTATE_XFRC_APPLIED
    | _STATE.mjSTATE_EQ_ACTIVE
    | _STATE.mjSTATE_USERDATA
)
"""Components that each step gets as an argument, or that never change."""

_HISTORY, _PLUGIN = int(_STATE.mjSTATE_HISTORY), int(_STATE.mjSTATE_PLUGIN)
_MOCAP = int(_STATE.mjSTATE_MOCAP_POS | _STATE.mjSTATE_MOCAP_QUAT)
REFUSED_STATE = _HISTORY | _PLUGIN | _MOCAP

_CHANGE = "change it in the model"

_OBJECTS = {
    "actuator": mujoco.mjtObj.mjOBJ_ACTUATOR,
    "body": mujoco.mjtObj.mjOBJ_BODY,
    "equality": mujoco.mjtObj.mjOBJ_EQUALITY,
    "flex": mujoco.mjtObj.mjOBJ_FLEX,
    "geom": mujoco.mjtObj.mjOBJ_GEOM,
    "joint": mujoco.mjtObj.mjOBJ_JOINT,
    "pair": mujoco.mjtObj.mjOBJ_PAIR,
    "plugin": mujoco.mjtObj.mjOBJ_PLUGIN,
    "sensor": mujoco.mjtObj.mjOBJ_SENSOR,
    "tendon": mujoco.mjtObj.mjOBJ_TENDON,
}

_KINDS = (
    ("actuator_trntype", mjx.TrnType, mujoco.mjtTrn),
    ("actuator_dyntype", mjx.DynType, mujoco.mjtDyn),
    ("actuator_gaintype", mjx.GainType, mujoco.mjtGain),
    ("actuator_biastype", mjx.BiasType, mujoco.mjtBias),
    ("eq_type", mjx.EqType, mujoco.mjtEq),
    ("sensor_type", mjx.SensorType, mujoco.mjtSensor),
)
"""Fields with the kind of an element, MJX's kinds, and MuJoCo's kinds. MJX computes the kinematics
of both backends, so its kinds count for warp, too."""

_IGNORED = {"actuator_armature": "an armature of its own"}
"""Fields that neither backend reads, and the words for an element where they are not 0."""

_IGNORED_BY_JAX = {
    "actuator_actearly": "actearly",
    "actuator_damping": "a damping of its own",
    "actuator_dampingpoly": "a damping of its own",
    "dof_dampingpoly": "a damping that is no constant",
    "jnt_stiffnesspoly": "a stiffness that is no constant",
    "tendon_dampingpoly": "a damping that is no constant",
    "tendon_stiffnesspoly": "a stiffness that is no constant",
    "geom_adhesion": "an adhesion",
    "pair_adhesion": "an adhesion",
    "geom_surfacevel": "a surfacevel",
}
"""The same for impl=jax alone."""

_CHECKED = {"nhistory", "npluginstate", "nmocap", "geom_fluid", "geom_plugin"} | {
    f"{kind}_{what}"
    for kind in ("actuator", "sensor")
    for what in ("delay", "history", "historyadr", "interval", "plugin")
}
_CHECKED |= {"body_plugin", "plugin", "plugin_attr", "plugin_attradr", "plugin_stateadr"}
_CHECKED |= {"plugin_statenum", "tree_sleep_policy", "disableactuator", "noslip_iterations"}
"""Fields of the model and its options that the functions here check in other ways."""

_FLAGS = int(mujoco.mjtEnableBit.mjENBL_ENERGY | mujoco.mjtEnableBit.mjENBL_INVDISCRETE)
"""Flags that a step does not read; `prepare_model` clears the first one."""

_JAX_INTEGRATORS = {
    mujoco.mjtIntegrator.mjINT_EULER,
    mujoco.mjtIntegrator.mjINT_RK4,
    mujoco.mjtIntegrator.mjINT_IMPLICITFAST,
}


def looked_at(impl: Literal["jax", "warp"]) -> set[str]:
    """Returns the fields of `mjModel` and `mjOption` that the backend does not read, and that are
    refused if they have an effect."""
    return _CHECKED | set(_IGNORED) | (set(_IGNORED_BY_JAX) if impl == "jax" else set())


def check_model(model: mujoco.MjModel) -> None:
    """Checks that a step of the model depends on `PhysicsState` alone, and has no feature that both
    backends lack.

    Raises:
        UnsupportedModelError: if not; the message names the element.
    """
    _check_state(model)
    if model.nplugin:
        _refuse(model, "plugin", range(model.nplugin), "which no backend calls")
    callbacks = [name for name in dir(mujoco) if name.startswith("get_mjcb_")]
    for name in set(callbacks) - {"get_mjcb_time"}:  # a clock for profiling
        if getattr(mujoco, name)() is not None:
            raise UnsupportedModelError(
                f"MuJoCo's callback {name.removeprefix('get_')} is set, which no backend calls: "
                "unset it before the task is built."
            )
    flags = model.opt.enableflags & ~_FLAGS
    for flag in mujoco.mjtEnableBit.__members__.values():
        if flags & int(flag) and flag != mujoco.mjtEnableBit.mjNENABLE:
            name = flag.name.removeprefix("mjENBL_").lower()
            raise UnsupportedModelError(
                f"The model enables the flag {name}, which no backend simulates: remove it from "
                "the option element."
            )
    solver = mujoco.mjtSolver(model.opt.solver)
    if solver == mujoco.mjtSolver.mjSOL_PGS:
        raise UnsupportedModelError(
            "The model asks for the solver PGS, which MJX lacks; set the option to Newton if the "
            "small difference between the two is acceptable for the task."
        )
    if model.opt.integrator == mujoco.mjtIntegrator.mjINT_IMPLICIT:
        raise UnsupportedModelError(
            "The model asks for the integrator mjINT_IMPLICIT, which MJX lacks: set the option to "
            "implicitfast, or another."
        )
    for field, known, kinds in _KINDS:
        found = getattr(model, field)
        for element in map(int, np.flatnonzero(~np.isin(found, [int(kind) for kind in known]))):
            kind = kinds(found[element]).name
            _refuse(
                model, _kind_of(field), [element], f"which is of the kind {kind} that MJX lacks"
            )
    clocks = np.flatnonzero(model.sensor_type == int(mujoco.mjtSensor.mjSENS_CLOCK))
    if clocks.size:
        _refuse(
            model, "sensor", clocks, "which is of the kind mjSENS_CLOCK; PhysicsState has no time"
        )
    ranging = model.sensor_type == int(mujoco.mjtSensor.mjSENS_RANGEFINDER)
    wide = np.flatnonzero(
        ranging
        & ((model.sensor_dim != 1) | (model.sensor_objtype != int(mujoco.mjtObj.mjOBJ_SITE)))
    )
    if wide.size:
        why = "a rangefinder of more than the distance from a site, which MJX lacks"
        _refuse(model, "sensor", wide, why)
    if model.nflex:
        _refuse(model, "flex", range(model.nflex), "which MJX does not simulate")
    _check_fields(model, _IGNORED, "which no backend simulates")
    group = np.clip(model.actuator_group, 0, 31).astype(np.int64)
    off = (model.opt.disableactuator >> group) & (model.actuator_group >= 0) & 1
    if np.any(off):
        why = "which actuatorgroupdisable switches off and no backend would"
        _refuse(model, "actuator", np.flatnonzero(off), why)


def check_backend(model: mujoco.MjModel, impl: Literal["jax", "warp"]) -> None:
    """Checks that a model that `check_model` accepts has no feature that the backend lacks.

    Raises:
        UnsupportedModelError: if it has one; the message names the element.
    """
    if impl != "jax":
        return
    why, remedy = "which impl=jax does not simulate", "choose impl=warp, or remove it"
    _check_fields(model, _IGNORED_BY_JAX, why, remedy)
    if model.opt.density or model.opt.viscosity:
        shaped = np.flatnonzero(model.geom_fluid[:, 0])
        if shaped.size:
            _refuse(model, "geom", shaped, f"with a fluidshape of its own, {why}", remedy)
    rays = np.flatnonzero(model.sensor_type == int(mujoco.mjtSensor.mjSENS_RANGEFINDER))
    if rays.size and not model.nmat:
        # MJX looks up in its material whether a geom is visible, and fails without materials.
        _refuse(
            model,
            "sensor",
            rays,
            "a rangefinder in a model without a material, where impl=jax fails",
            "choose impl=warp, or add one",
        )
    if model.opt.noslip_iterations:
        raise UnsupportedModelError(
            f"The model has noslip_iterations={model.opt.noslip_iterations}, {why}: {remedy}."
        )
    integrator = mujoco.mjtIntegrator(model.opt.integrator)
    if integrator not in _JAX_INTEGRATORS:
        raise UnsupportedModelError(
            f"The model asks for the integrator {integrator.name}, {why}: {remedy}."
        )


def named(model: mujoco.MjModel, kind: str, elements: Iterable[int]) -> str:
    """Returns the names of elements for a message, such as "actuator 'knee', actuator 3"."""
    return ", ".join(
        f"{kind} {name!r}" if name else f"{kind} {element}"
        for element in elements
        for name in [mujoco.mj_id2name(model, _OBJECTS[kind], int(element))]
    )


def _check_state(model: mujoco.MjModel) -> None:
    for power in range(int(mujoco.mjtState.mjNSTATE)):
        bit = 1 << power
        if bit & (CARRIED | GIVEN) or not mujoco.mj_stateSize(model, bit):
            continue
        if bit & _HISTORY:
            for kind in ("actuator", "sensor"):
                held = np.flatnonzero(getattr(model, f"{kind}_history")[:, 0])
                if held.size:
                    why = "with a delay or an interval, whose history PhysicsState does not carry"
                    _refuse(model, kind, held, why)
        if bit & _MOCAP:
            moved = np.flatnonzero(model.body_mocapid >= 0)
            _refuse(model, "body", moved, "a mocap body, whose pose PhysicsState does not carry")
        if bit & _PLUGIN:
            _refuse(model, "plugin", range(model.nplugin), "which no backend calls")
        raise UnsupportedModelError(
            f"The model has a state {_STATE(bit).name}, which PhysicsState does not carry: remove "
            "what has it."
        )


def _check_fields(
    model: mujoco.MjModel, fields: dict[str, str], why: str, remedy: str = _CHANGE
) -> None:
    for field, what in fields.items():
        values = np.asarray(getattr(model, field))
        found = np.flatnonzero(np.any(values, axis=tuple(range(1, values.ndim))))
        if found.size:
            if field.startswith("dof_"):
                found = np.unique(model.dof_jntid[found])
            _refuse(model, _kind_of(field), found, f"with {what}, {why}", remedy)


def _kind_of(field: str) -> str:
    kind = field.partition("_")[0]
    return {"jnt": "joint", "dof": "joint", "eq": "equality"}.get(kind, kind)


def _refuse(
    model: mujoco.MjModel, kind: str, elements: Iterable[int], why: str, remedy: str = _CHANGE
) -> None:
    raise UnsupportedModelError(f"The model has {named(model, kind, elements)}, {why}: {remedy}.")
