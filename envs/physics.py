"""One MuJoCo model on MJX: a minimal state, its step, and up-to-date kinematics."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from typing import Literal, Protocol, TypedDict, TypeVar, get_args

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax.typing import ArrayLike
from mujoco import mjx

from envs.base import PhysicsState
from envs.collision import corrected_colliders

T = TypeVar("T")

Impl = Literal["jax", "warp", "auto"]
GraphMode = Literal["warp", "warp_staged", "warp_staged_ex"]

CompilerOptions = dict[str, bool | int | str]


def _fusion_emitters(use: bool) -> CompilerOptions:
    # From JAX 0.11 on XLA has no such option, and refuses what it does not know.
    return {"xla_cpu_use_fusion_emitters": use} if jax.__version_info__ < (0, 11) else {}


COMPILER_OPTIONS = _fusion_emitters(False)
"""For whoever compiles a physics step, of any task. On CPUs, XLA's fusion emitters take nearly
twice the compile time, and make a long chain of bodies slow: a step of dmc/swimmer_swimmer6 takes
13 times as long, of dmc/hopper_hop 2.0. Elsewhere it changes nothing, and JAX 0.11 leaves no
choice."""

FUSED_CHAIN = 4
"""Bodies in a chain up to which fusion emitters make a whole training program faster."""


def compiler_options(longest_chain: int) -> CompilerOptions:
    """For whoever compiles a program of physics and large networks, which fusion emitters make
    faster; longest_chain: of the task's spec.

    A training epoch on two cores took 0.98 (dmc/fish_swim, a chain of 3) to 1.16 times as long
    without them (docs/performance.md), but with them the physics of dmc/hopper_hop (5) ran at 0.44
    of its rate.
    """
    return _fusion_emitters(longest_chain <= FUSED_CHAIN)


class PhysicsOptions(TypedDict, total=False):
    """The arguments of `Physics` that a task leaves open: its own keywords, passed on.

    Attributes:
        impl: "jax" for MJX, "warp" for MJX-Warp, "auto" for what suits the default device.
        iterations: constraint solver iterations; None keeps the model's own limit.
        ls_iterations: line search iterations; None keeps the model's own limit.
        contacts: warp's buffer, in pairs of geoms that come near each other, per simulation.
        constraints: warp's buffer, in rows of constraints, per simulation.
        graph_mode: how warp captures a step as a CUDA graph, named as in
            `warp.JaxCallableGraphMode`. "warp" captures a graph for each set of buffer addresses.
            "warp_staged" captures one graph over buffers of its own, into which the graph copies
            its arguments. "warp_staged_ex" makes these copies outside of the graph. None is MJX's
            default, "warp". CPUs have no CUDA graphs and ignore the mode; so does "auto" where it
            chooses jax.
    """

    impl: Impl
    iterations: int | None
    ls_iterations: int | None
    contacts: int | None
    constraints: int | None
    graph_mode: GraphMode | None


class UnsupportedModelError(ValueError):
    """The model, or an option, asks for something that the backend or `PhysicsState` lacks."""


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
    no_contact = mujoco.mjtDisableBit.mjDSBL_CONTACT | mujoco.mjtDisableBit.mjDSBL_CONSTRAINT
    if model.opt.disableflags & no_contact:
        # MJX refuses pairs of geoms that it has no collider for even if no contact has a force.
        model.geom_contype[:] = 0
        model.geom_conaffinity[:] = 0
    # A vmapped while loop runs until its slowest member is done, so a generous limit costs the
    # whole batch; tasks lower it where that moves nothing.
    if iterations is not None:
        model.opt.iterations = iterations
    if ls_iterations is not None:
        model.opt.ls_iterations = ls_iterations
    return model


def resolve_impl(impl: Impl) -> Literal["jax", "warp"]:
    """Returns the backend that `impl` names: for "auto", warp if it is installed and the default
    device is an NVIDIA GPU.

    Raises:
        ValueError: if there is no such backend.
        ModuleNotFoundError: if warp is asked for and not installed.
    """
    if impl not in ("jax", "warp", "auto"):
        raise ValueError(f"impl must be 'jax', 'warp' or 'auto', got {impl!r}.")
    installed = importlib.util.find_spec("warp") is not None
    if impl == "warp" and not installed:
        raise ModuleNotFoundError(
            "impl='warp' needs the package warp-lang: run `pip install 'fpmd-mjx[gpu]'`."
        )
    if impl == "auto":
        [device] = jnp.zeros(()).devices()
        on_nvidia = "cuda" in device.client.platform_version.lower()
        return "warp" if installed and on_nvidia else "jax"
    return impl


def check_graph_mode(graph_mode: GraphMode | None, impl: Impl) -> None:
    """Checks `PhysicsOptions.graph_mode` against the backend that was asked for.

    Raises:
        ValueError: if there is no such mode.
        UnsupportedModelError: if the backend is jax.
    """
    if graph_mode is None:
        return
    if graph_mode not in get_args(GraphMode):
        known = ", ".join(map(repr, get_args(GraphMode)))
        raise ValueError(f"graph_mode must be None or one of {known}, got {graph_mode!r}.")
    if impl == "jax":
        raise UnsupportedModelError(
            f"graph_mode={graph_mode!r} is not possible: it is a mode of MJX-Warp, which "
            "impl='jax' does not use; choose impl='warp', or leave graph_mode out."
        )


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


class JaxSimulation:
    """A model on MJX's own backend (impl=jax).

    Its dynamics are jitted: within one program and from one to the next, Python traces them once,
    however many batches of however many simulations they are part of.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        """Puts the model, after `prepare_model`, on the default device."""
        with corrected_colliders():  # they make fewer contacts than MJX's own
            self.model = mjx.put_model(model, impl="jax")
            data = mjx.make_data(model, impl="jax")
        # make_data leaves weakly typed leaves, which would make the second call of a jitted
        # function trace again.
        self._template = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.asarray(leaf).dtype), data)
        self.step = jax.jit(self._step)
        self.forward = jax.jit(self._forward, static_argnames="actuated")

    def load(self, state: PhysicsState) -> mjx.Data:
        """Returns data in which nothing is computed yet."""
        data = self._template.replace(
            qpos=state.qpos, qvel=state.qvel, qacc_warmstart=state.qacc_warmstart
        )
        return data if state.act is None else data.replace(act=state.act)

    def _step(self, state: PhysicsState, ctrl: jax.Array) -> mjx.Data:
        with corrected_colliders():
            return step(self.model, self.load(state).replace(ctrl=ctrl))

    def _forward(self, state: PhysicsState, ctrl: jax.Array, actuated: bool) -> mjx.Data:
        model = self.model if actuated else without_actuation(self.model)
        with corrected_colliders():
            return mjx.forward(model, self.load(state).replace(ctrl=ctrl))

    def in_contact(self, state: PhysicsState) -> jax.Array:
        data = self.load(state)
        with corrected_colliders():
            for stage in (mjx.kinematics, mjx.com_pos, mjx.collision):
                data = stage(self.model, data)
        # MJX gives contacts no public name. It holds a slot for each that may ever exist.
        contact = data._impl.contact
        return jnp.any(contact.dist < contact.includemargin)

    def external_forces(self, data: mjx.Data) -> jax.Array:
        return mjx.rne_postconstraint(self.model, data)._impl.cfrc_ext


_INTEGRATORS = {
    mjx.IntegratorType.EULER: mjx.euler,
    mjx.IntegratorType.IMPLICITFAST: mjx.implicit,
}
"""Those that factor a matrix of their own."""


def step(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    """`mjx.step`, whose integration waits, for XLA too, until the accelerations are known.

    Integrators factor the inertia with the damping added, for which the inertia is all that is
    needed: XLA does it while it factors the inertia itself. On a machine of two cores large batches
    then never end, since jaxlib's batched factorization waits on one of the two threads for the
    work that it leaves to them (docs/upstream/jaxlib-lapack-deadlock.md).
    """
    integrate = _INTEGRATORS.get(model.opt.integrator)
    if integrate is None or model.impl != mjx.Impl.JAX:
        return mjx.step(model, data)
    data = mjx.forward(model, data)
    inertia = data._impl.M + 0.0 * data.qacc[0]  # XLA does not know that this adds nothing
    return integrate(model, data.tree_replace({"_impl.M": inertia}))


def without_actuation(model: mjx.Model) -> mjx.Model:
    """Returns the model with all actuators switched off."""
    flags = model.opt.disableflags | mjx.DisableBit.ACTUATION
    return model.replace(opt=model.opt.replace(disableflags=flags))


def without_contacts(model: mujoco.MjModel) -> mujoco.MjModel:
    """Returns a copy for kinematics alone: MJX then neither needs a collider for each pair of
    geoms nor memory for their contacts."""
    model = copy.deepcopy(model)
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_CONTACT)
    model.geom_contype[:] = 0
    model.geom_conaffinity[:] = 0
    return model


class Physics:
    """A model on MJX with pure, unbatched functions over `PhysicsState`.

    Physics runs in float32 with full-precision matrix products whatever precision surrounds it
    (the default on accelerators would round them to bfloat16 or TF32); no global flag is set.
    Contacts of capsules with planes are C MuJoCo's on either backend, see `envs.collision`.

    With impl=warp, a step whose contacts or constraints did not fit into the buffers leaves nan in
    qpos and qvel. `contacts` is a mean over the batch: a simulation may have more while others
    have less. What the step reads has no contacts in it, as they belong to the whole batch.

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
                `PhysicsOptions`. Buffer sizes that are None are warp's guess, and jax has no
                buffers.
            reads_forces: whether `external_forces` will be asked for, which warp has to compute
                within its step.

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
        self.substeps = substeps
        self.control_dt = float(model.opt.timestep * substeps)
        self._dynamics: Simulation
        try:
            if self.impl == "warp":
                # Not at the top: warp is optional, and its import takes seconds.
                from envs.warp_physics import WarpSimulation

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
            Where C MuJoCo would find that the simulation has blown up and reset it, qpos is nan.
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
            actuated: False switches all actuators off, as dm_control does at a reset; without
                control, those with activations or a spring would still pull.
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
        # MJX gives this quantity no public name: its own sensors read it here.
        return data._impl.subtree_linvel[body]

    def external_forces(self, data: mjx.Data) -> jax.Array:
        """Returns what acts on each body from outside of its tree, such as contacts: (nbody, 6),
        torque (N m) and force (N) about the tree's centre of mass.

        Args:
            data: of a dynamics evaluation, such as `step` and `forward` give.

        Raises:
            ValueError: if impl=warp was not told to compute them, with `reads_forces`.
        """
        with jax.default_matmul_precision("highest"):
            return self._dynamics.external_forces(data)

    def body_inertias(self, data: mjx.Data) -> jax.Array:
        """Returns the inertia of each body about its tree's centre of mass, in `data`: (nbody,
        10), as MuJoCo's `cinert`."""
        return data._impl.cinert


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


def _given_up(state: PhysicsState) -> PhysicsState:
    """Returns the state, with nan for qpos if C MuJoCo's next step would reset it."""
    checked = jnp.concatenate([state.qpos, state.qvel, state.qacc_warmstart])
    sound = jnp.all(jnp.abs(checked) <= mujoco.mjMAXVAL)  # no comparison with a nan is true
    return state.replace(qpos=jnp.where(sound, state.qpos, jnp.float32(jnp.nan)))
