"""One MuJoCo model on MJX: a minimal state, its step, and up-to-date kinematics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax.typing import ArrayLike
from mujoco import mjx

from ..base import PhysicsState
from .jax import JaxSimulation
from .options import GraphMode, Impl, UnsupportedModelError, check_graph_mode, resolve_impl
from .preparation import prepare_model, without_contacts
from .support import check_backend

T = TypeVar("T")


class Simulation(Protocol):
    """A model on one of MJX's backends."""

    def step(self, state: PhysicsState, ctrl: jax.Array) -> mjx.Data:
        """Returns data as `mj_step` leaves it."""
        ...

    def forward(self, state: PhysicsState, ctrl: jax.Array, actuated: bool) -> mjx.Data:
        """Returns data as `mj_forward` leaves it."""
        ...

    def in_contact(self, state: PhysicsState) -> jax.Array:
        """Returns () bool, whether MuJoCo would list a contact."""
        ...

    def external_forces(self, data: mjx.Data) -> jax.Array:
        """Returns MuJoCo's `cfrc_ext`, (nbody, 6), of a dynamics evaluation."""
        ...


class Physics:
    """A model on MJX with pure, unbatched functions over `PhysicsState`.

    Physics runs in float32 with full-precision matrix products, whatever the precision around it.
    (Accelerators round them to bfloat16 or TF32 by default.) It sets no global flag. `fixes` has
    the corrections of both backends.

    With impl=warp, a step whose contacts or constraints do not fit into the buffers leaves nan in
    qpos and qvel. `contacts` is a mean over the batch: a simulation may have more if others have
    less. The data of a step hold no contacts, because these belong to the whole batch.

    Attributes:
        model: the MuJoCo model that is simulated, after `prepare_model`.
        impl: the backend, "jax" or "warp".
        graph_mode: see `PhysicsOptions`.
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
        impl: Impl = "jax",
        contacts: int | None = None,
        constraints: int | None = None,
        graph_mode: GraphMode | None = None,
        reads_forces: bool = False,
    ) -> None:
        """Puts the model on the default device.

        Args:
            model: a compiled MuJoCo model.
            substeps: physics steps per control step, at least 1.
            iterations, ls_iterations, impl, contacts, constraints, graph_mode: see
                `PhysicsOptions`. For buffer sizes that are None, warp guesses. jax has no buffers.
            reads_forces: whether `external_forces` will be called. Warp computes them within its
                step.

        Raises:
            UnsupportedModelError: if the backend cannot simulate the model exactly, or has no
                graph modes.
            ValueError: if a count is below 1, or there is no such backend or graph mode.
            ModuleNotFoundError: if warp is asked for and not installed.
        """
        if substeps < 1:
            raise ValueError(f"substeps must be at least 1, got {substeps}.")
        check_graph_mode(graph_mode, impl)
        self.impl = resolve_impl(impl)
        self.graph_mode = graph_mode
        self.model = prepare_model(model, iterations=iterations, ls_iterations=ls_iterations)
        check_backend(self.model, self.impl)
        self.substeps = substeps
        self.control_dt = float(model.opt.timestep * substeps)
        self._dynamics: Simulation
        try:
            if self.impl == "warp":
                # Imported here because warp is optional, and its import takes seconds.
                from .warp import WarpSimulation

                self._dynamics = WarpSimulation(
                    self.model,
                    contacts=contacts,
                    constraints=constraints,
                    graph_mode=graph_mode,
                    reads_forces=reads_forces,
                )
                self._kinematics = JaxSimulation(without_contacts(self.model))
            else:
                self._dynamics = self._kinematics = JaxSimulation(self.model)
        except (NotImplementedError, ValueError) as error:
            raise UnsupportedModelError(f"MJX does not support the model: {error}") from error

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
            qpos is nan if the simulation blew up, so that C MuJoCo would reset it.
        """
        with jax.default_matmul_precision("highest"):
            data = self._dynamics.step(state, jnp.asarray(ctrl, jnp.float32))
        return _given_up(_pack(data)), data

    def step(
        self, state: PhysicsState, ctrl: jax.Array, read: Callable[[mjx.Data], T]
    ) -> tuple[PhysicsState, T]:
        """Advances by one control step with a constant control.

        Args:
            state: where to start.
            ctrl: (nu,) controls in native units.
            read: a function of the data that `substep` returns.

        Returns:
            The next state, and the result of `read` after the last substep.
        """
        if self.substeps == 1:
            state, data = self.substep(state, ctrl)
            return state, read(data)

        def body(state: PhysicsState, _: None) -> tuple[PhysicsState, T]:
            state, data = self.substep(state, ctrl)
            return state, read(data)

        # Stacking the results costs less than unrolling the last substep, which would compile the
        # physics twice.
        state, seen = jax.lax.scan(body, state, None, length=self.substeps)
        return state, jax.tree.map(lambda leaf: leaf[-1], seen)

    def kinematics(self, state: PhysicsState) -> mjx.Data:
        """Returns data with the positions, frames and velocities of `state` and the sensors that
        read them, as after MuJoCo's `mj_step1`.

        Forces, accelerations and contacts, and the sensors that read them, are not computed. A
        compiled program computes only the fields that it uses.
        """
        stages = (mjx.kinematics, mjx.com_pos, mjx.com_vel, mjx.sensor_pos, mjx.sensor_vel)
        with jax.default_matmul_precision("highest"):
            data = self._kinematics.load(state)
            for stage in stages:
                data = stage(self._kinematics.model, data)
        return data

    def forward(
        self, state: PhysicsState, ctrl: jax.Array | None = None, *, actuated: bool = True
    ) -> mjx.Data:
        """Returns data as `mj_forward` leaves it, with contacts, forces and all sensors.

        Args:
            state: where to evaluate.
            ctrl: (nu,) controls in native units, 0 unless given.
            actuated: False switches all actuators off, as dm_control does at a reset. Actuators
                with activations or a spring have forces even without a control.
        """
        ctrl = jnp.zeros(self.model.nu) if ctrl is None else ctrl
        with jax.default_matmul_precision("highest"):
            return self._dynamics.forward(state, jnp.asarray(ctrl, jnp.float32), actuated)

    def in_contact(self, state: PhysicsState) -> jax.Array:
        """Returns () bool, whether MuJoCo would list a contact, of any two geoms."""
        with jax.default_matmul_precision("highest"):
            return self._dynamics.in_contact(state)

    def subtree_linvel(self, state: PhysicsState, body: int) -> jax.Array:
        """Returns the (3,) velocity of the centre of mass of the tree at `body`, in m/s."""
        with jax.default_matmul_precision("highest"):
            data = mjx.subtree_vel(self._kinematics.model, self.kinematics(state))
        # MJX has no public name for it. Its own sensors read it here.
        return data._impl.subtree_linvel[body]

    def external_forces(self, data: mjx.Data) -> jax.Array:
        """Returns the external forces on each body, such as those of contacts: (nbody, 6), torque
        (N m) and force (N) about the centre of mass of its tree (MuJoCo's `cfrc_ext`).

        Args:
            data: of a dynamics evaluation, as `step` and `forward` give it.

        Raises:
            ValueError: if impl=warp was built without `reads_forces`.
        """
        with jax.default_matmul_precision("highest"):
            return self._dynamics.external_forces(data)

    def body_inertias(self, data: mjx.Data) -> jax.Array:
        """Returns the inertia of each body about the centre of mass of its tree, (nbody, 10):
        MuJoCo's `cinert`."""
        return data._impl.cinert


def center(state: PhysicsState, coordinate: int) -> tuple[PhysicsState, jax.Array]:
    """Moves one coordinate of qpos to 0, and returns the state and the coordinate, () float32.

    Far from the origin, float32 resolves positions only to 1e-5 m. Contacts would be inexact, and
    the difference of two positions would give a speed with an error of 1e-3 m/s. A task that does
    not depend on the coordinate is simulated at the origin, and `uncenter` moves it back.
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


def _given_up(state: PhysicsState) -> PhysicsState:
    """Returns the state, with nan in qpos if the next step of C MuJoCo would reset it."""
    checked = jnp.concatenate([state.qpos, state.qvel, state.qacc_warmstart])
    sound = jnp.all(jnp.abs(checked) <= mujoco.mjMAXVAL)  # no comparison with a nan is true
    return state.replace(qpos=jnp.where(sound, state.qpos, jnp.float32(jnp.nan)))
