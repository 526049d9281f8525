"""One MuJoCo model on MJX (impl=jax): a minimal state, its step, and up-to-date kinematics."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax.typing import ArrayLike
from mujoco import mjx

from envs.base import PhysicsState

T = TypeVar("T")


class UnsupportedModelError(ValueError):
    """The model asks for something that MJX, or the minimal `PhysicsState`, cannot represent."""


def prepare_model(
    model: mujoco.MjModel, *, iterations: int | None = None, ls_iterations: int | None = None
) -> mujoco.MjModel:
    """Returns a copy of `model` that MJX accepts and that moves exactly as the original.

    Args:
        model: the original model; it is not modified.
        iterations: upper limit of constraint solver iterations; None keeps the model's own.
        ls_iterations: upper limit of line search iterations; None keeps the model's own.

    Raises:
        UnsupportedModelError: if the model has state beyond qpos, qvel and act, or options for
            which no exact replacement exists.
    """
    for count, what in (
        (model.nmocap, "mocap bodies"),
        (model.nplugin, "plugins"),
    ):
        if count:
            raise UnsupportedModelError(
                f"The model has {count} {what}, which PhysicsState does not carry; "
                "remove them from the model or extend PhysicsState."
            )
    if model.opt.solver == mujoco.mjtSolver.mjSOL_PGS:
        raise UnsupportedModelError(
            "The model asks for the PGS solver, which MJX lacks; set the option to Newton if the "
            "small difference between the two is acceptable for the task."
        )
    for value, what in ((iterations, "iterations"), (ls_iterations, "ls_iterations")):
        if value is not None and value < 1:
            raise ValueError(f"{what} must be at least 1, got {value}.")

    model = copy.deepcopy(model)
    # Energy is a diagnostic that nothing in the dynamics reads, and MJX refuses the flag.
    model.opt.enableflags &= ~int(mujoco.mjtEnableBit.mjENBL_ENERGY)
    if model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_CONTACT:
        # MJX refuses pairs of geoms that it has no collider for even if nothing may collide.
        model.geom_contype[:] = 0
        model.geom_conaffinity[:] = 0
    # A vmapped while loop runs until its slowest member is done, so a generous limit costs the
    # whole batch; tasks lower it where that moves nothing.
    if iterations is not None:
        model.opt.iterations = iterations
    if ls_iterations is not None:
        model.opt.ls_iterations = ls_iterations
    return model


class Physics:
    """A model on MJX with pure, unbatched functions over `PhysicsState`.

    Physics runs in float32 with full-precision matrix products whatever precision surrounds it
    (the default on accelerators would round them to bfloat16 or TF32); no global flag is set.

    Attributes:
        model: the MuJoCo model that is simulated, after `prepare_model`.
        substeps: physics steps per control step.
        control_dt: seconds per control step.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        *,
        substeps: int,
        iterations: int | None = None,
        ls_iterations: int | None = None,
    ) -> None:
        """Puts the model on the default device.

        Args:
            model: a compiled MuJoCo model.
            substeps: physics steps per control step, at least 1.
            iterations: constraint solver iterations; None keeps the model's own limit.
            ls_iterations: line search iterations; None keeps the model's own limit.

        Raises:
            UnsupportedModelError: if MJX cannot simulate the model exactly.
            ValueError: if a count is below 1.
        """
        if substeps < 1:
            raise ValueError(f"substeps must be at least 1, got {substeps}.")
        self.model = prepare_model(model, iterations=iterations, ls_iterations=ls_iterations)
        self.substeps = substeps
        self.control_dt = float(model.opt.timestep * substeps)
        try:
            self._mjx_model = mjx.put_model(self.model, impl="jax")
        except (NotImplementedError, ValueError) as error:
            raise UnsupportedModelError(f"MJX does not support the model: {error}") from error
        # make_data leaves weakly typed leaves, which would make the second call of a jitted
        # function trace again.
        self._template = jax.tree.map(
            lambda leaf: jnp.asarray(leaf, jnp.asarray(leaf).dtype),
            mjx.make_data(self.model, impl="jax"),
        )

    def init(self, qpos: ArrayLike, qvel: ArrayLike, act: ArrayLike | None = None) -> PhysicsState:
        """Returns the state at `qpos` (nq,), `qvel` (nv,) and `act` (na,), 0 unless given, as
        after MuJoCo's data reset."""
        if act is None and self.model.na:
            act = np.zeros(self.model.na)
        return PhysicsState(
            qpos=jnp.asarray(qpos, jnp.float32),
            qvel=jnp.asarray(qvel, jnp.float32),
            qacc_warmstart=jnp.zeros(self.model.nv, jnp.float32),
            act=None if act is None else jnp.asarray(act, jnp.float32),
        )

    def substep(self, state: PhysicsState, ctrl: jax.Array) -> tuple[PhysicsState, mjx.Data]:
        """Advances by one physics time step.

        Args:
            state: where to start.
            ctrl: (nu,) controls in native units; MuJoCo clamps those of limited actuators.

        Returns:
            The next state, and the data as `mj_step` leaves it: qpos and qvel are new, while
            derived quantities (xpos, contacts, ...) are those of the last dynamics evaluation.
        """
        with jax.default_matmul_precision("highest"):
            data = self._load(state).replace(ctrl=jnp.asarray(ctrl, jnp.float32))
            data = mjx.step(self._mjx_model, data)
        return _pack(data), data

    def step(
        self, state: PhysicsState, ctrl: jax.Array, read: Callable[[mjx.Data], T]
    ) -> tuple[PhysicsState, T]:
        """Advances by one control step with a constant control.

        Args:
            state: where to start.
            ctrl: (nu,) controls in native units.
            read: picks what is needed from the data that `substep` returns.

        Returns:
            The next state and what `read` saw after the last substep.
        """
        if self.substeps == 1:
            state, data = self.substep(state, ctrl)
            return state, read(data)

        def body(state: PhysicsState, _: None) -> tuple[PhysicsState, T]:
            state, data = self.substep(state, ctrl)
            return state, read(data)

        # Stacking what is read costs less than unrolling the last substep, which would compile
        # the physics twice.
        state, seen = jax.lax.scan(body, state, None, length=self.substeps)
        return state, jax.tree.map(lambda leaf: leaf[-1], seen)

    def kinematics(self, state: PhysicsState) -> mjx.Data:
        """Returns data whose positions, frames and velocities, and the sensors that read them,
        belong to `state`: what the original reads after its `mj_step1`.

        Forces, accelerations and contacts in it, and the sensors that read them, are not
        computed. What is not used costs nothing in a compiled program.
        """
        stages = (mjx.kinematics, mjx.com_pos, mjx.com_vel, mjx.sensor_pos, mjx.sensor_vel)
        with jax.default_matmul_precision("highest"):
            data = self._load(state)
            for stage in stages:
                data = stage(self._mjx_model, data)
        return data

    def forward(self, state: PhysicsState, ctrl: jax.Array | None = None) -> mjx.Data:
        """Returns data as `mj_forward` leaves it, with contacts, forces and all sensors.

        Args:
            state: where to evaluate.
            ctrl: (nu,) controls in native units, 0 unless given.
        """
        with jax.default_matmul_precision("highest"):
            data = self._load(state)
            if ctrl is not None:
                data = data.replace(ctrl=jnp.asarray(ctrl, jnp.float32))
            return mjx.forward(self._mjx_model, data)

    def subtree_linvel(self, state: PhysicsState, body: int) -> jax.Array:
        """Returns the (3,) velocity of the centre of mass of the tree at `body`, in m/s."""
        with jax.default_matmul_precision("highest"):
            data = mjx.subtree_vel(self._mjx_model, self.kinematics(state))
        # MJX gives this quantity no public name: its own sensors read it here.
        return data._impl.subtree_linvel[body]

    def external_forces(self, data: mjx.Data) -> jax.Array:
        """Returns what acts on each body from outside of its tree, such as contacts: (nbody, 6),
        torque (N m) and force (N) about the tree's centre of mass.

        Args:
            data: of a dynamics evaluation, such as `step` and `forward` give.
        """
        with jax.default_matmul_precision("highest"):
            return mjx.rne_postconstraint(self._mjx_model, data)._impl.cfrc_ext

    def body_inertias(self, data: mjx.Data) -> jax.Array:
        """Returns the inertia of each body about its tree's centre of mass, in `data`: (nbody,
        10), as MuJoCo's `cinert`."""
        return data._impl.cinert

    def _load(self, state: PhysicsState) -> mjx.Data:
        data = self._template.replace(
            qpos=state.qpos, qvel=state.qvel, qacc_warmstart=state.qacc_warmstart
        )
        return data if state.act is None else data.replace(act=state.act)


def center(state: PhysicsState, coordinate: int) -> tuple[PhysicsState, jax.Array]:
    """Moves one coordinate of qpos to 0, and returns it: (state, () float32).

    A runner is far from the origin after a while, where float32 resolves positions only to
    1e-5 m: contacts would blur, and a speed taken from two positions would be off by 1e-3 m/s.
    Nothing in such a task depends on where along the track it happens, so it is simulated at
    the origin and `uncenter` moves it back.
    """
    offset = state.qpos[coordinate]
    here = jnp.arange(state.qpos.shape[0]) == coordinate
    return state.replace(qpos=jnp.where(here, jnp.float32(0), state.qpos)), offset


def uncenter(state: PhysicsState, coordinate: int, offset: jax.Array) -> PhysicsState:
    """Undoes `center`."""
    here = jnp.arange(state.qpos.shape[0]) == coordinate
    return state.replace(qpos=state.qpos + jnp.where(here, offset, jnp.float32(0)))


def _pack(data: mjx.Data) -> PhysicsState:
    return PhysicsState(
        qpos=jnp.asarray(data.qpos, jnp.float32),
        qvel=jnp.asarray(data.qvel, jnp.float32),
        qacc_warmstart=jnp.asarray(data.qacc_warmstart, jnp.float32),
        act=jnp.asarray(data.act, jnp.float32) if data.act.shape[-1] else None,
    )
