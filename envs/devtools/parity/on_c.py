"""A port with C MuJoCo in place of MJX. It differs from the original only by faults of the task,
and shows the effect of rounding."""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from ...base import PhysicsState
from ...physics.backend import Physics

T = TypeVar("T")

Compute = Callable[[mujoco.MjModel, mujoco.MjData], None]


def on_c(env: Any, *, converged: bool = False) -> Any:
    """Returns a copy of a port that C MuJoCo simulates; see `converge` for `converged`."""
    env = copy.copy(env)
    env.physics = CPhysics(env.physics)
    if converged:
        converge(env.physics.c_model)
    return env


def converge(model: mujoco.MjModel) -> None:
    """Has C MuJoCo find contacts of ellipsoids, cylinders and meshes to the precision of float64.

    By default it ends the search once the distance is known to 1e-6 m. The error of the direction
    is then up to the root of this distance over the radius: 1e-2 rad at 1 cm.
    """
    model.opt.ccd_tolerance, model.opt.ccd_iterations = 1e-12, 1000


@contextlib.contextmanager
def searching_otherwise(model: mujoco.MjModel) -> Iterator[None]:
    """Has C MuJoCo end its iterative searches elsewhere.

    By default its solver ends once the cost falls by less than a tolerance, which is sometimes too
    early. Here it goes on. Its search for contacts of convex bodies sometimes loses precision after
    it has converged (in dmc/dog 4 of 1,620 distances of capsules and ellipsoids, by 7e-6 m). Here
    it ends earlier.
    """
    names = ("tolerance", "ls_tolerance", "ccd_iterations")
    before = [getattr(model.opt, name) for name in names]
    model.opt.tolerance, model.opt.ls_tolerance, model.opt.ccd_iterations = 1e-14, 1e-4, 22
    try:
        yield
    finally:
        for name, value in zip(names, before, strict=True):
            setattr(model.opt, name, value)


class CPhysics(Physics):
    """`Physics` computed by C MuJoCo in float64, through callbacks from compiled functions.

    Attributes:
        c_model: the model that it simulates.
    """

    def __init__(self, physics: Physics) -> None:
        """physics: the one to replace."""
        self.__dict__.update(physics.__dict__)
        self.c_model = copy.copy(physics.model)
        # The originals' limits. Lower ones are only for MJX.
        self.c_model.opt.iterations, self.c_model.opt.ls_iterations = 100, 50
        self._c_data = mujoco.MjData(self.c_model)
        self._alone = threading.Lock()  # XLA calls back from several threads at once

    def substep(self, state: PhysicsState, ctrl: jax.Array) -> tuple[PhysicsState, Any]:
        return self._advance(state, ctrl, 1)

    def step(
        self, state: PhysicsState, ctrl: jax.Array, read: Callable[[Any], T]
    ) -> tuple[PhysicsState, T]:
        state, data = self._advance(state, ctrl, self.substeps)
        return state, read(data)

    def kinematics(self, state: PhysicsState) -> Any:
        return CData(self, _kinematics, state)

    def forward(
        self, state: PhysicsState, ctrl: jax.Array | None = None, *, actuated: bool = True
    ) -> Any:
        def compute(model: mujoco.MjModel, data: mujoco.MjData) -> None:
            flags = model.opt.disableflags
            if not actuated:
                model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_ACTUATION)
            mujoco.mj_forward(model, data)
            model.opt.disableflags = flags

        return CData(self, compute, state, ctrl)

    def in_contact(self, state: PhysicsState) -> jax.Array:
        return CData(self, mujoco.mj_fwdPosition, state).ncon > 0

    def subtree_linvel(self, state: PhysicsState, body: int) -> jax.Array:
        data = self.kinematics(state).then(mujoco.mj_subtreeVel)
        return data.subtree_linvel[body]

    def external_forces(self, data: Any) -> jax.Array:
        return data.then(mujoco.mj_rnePostConstraint).cfrc_ext

    def _advance(
        self, state: PhysicsState, ctrl: jax.Array, steps: int
    ) -> tuple[PhysicsState, Any]:
        data = CData(
            self, lambda model, data: mujoco.mj_step(model, data, nstep=steps), state, ctrl
        )
        fields = [field for field, value in vars(state).items() if value is not None]
        return PhysicsState(**dict(zip(fields, data.fetch(fields), strict=True))), data

    def call(
        self, compute: Compute, inputs: dict[str, jax.Array], wanted: list[str]
    ) -> list[jax.Array]:
        """Returns the fields `wanted` of C's data after `compute` from `inputs`."""
        examples = [self._value(name) for name in wanted]

        def one(row: dict[str, np.ndarray]) -> list[np.ndarray]:
            mujoco.mj_resetData(self.c_model, self._c_data)
            for name, value in row.items():
                getattr(self._c_data, name)[:] = value
            compute(self.c_model, self._c_data)
            return [self._value(name).copy() for name in wanted]

        def batch(given: dict[str, jax.Array]) -> list[np.ndarray]:
            arrays = {name: np.asarray(x) for name, x in given.items()}
            lead = arrays["qpos"].shape[:-1]
            with self._alone:
                rows = [one({name: x[i] for name, x in arrays.items()}) for i in np.ndindex(lead)]
            columns = zip(zip(*rows, strict=True), examples, strict=True)
            return [np.reshape(column, lead + x.shape).astype(x.dtype) for column, x in columns]

        shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in examples]
        return jax.pure_callback(batch, shapes, inputs, vmap_method="broadcast_all")

    def _value(self, name: str) -> np.ndarray:
        """Returns a field of C's data in MJX's shape and precision."""
        value = np.asarray(getattr(self._c_data, name))
        if name.endswith("mat"):
            value = value.reshape(*value.shape[:-1], 3, 3)
        return value.astype({"f": np.float32, "i": np.int32}.get(value.dtype.kind, value.dtype))


class CData:
    """MuJoCo's data after a computation. Each read of a field computes it again."""

    def __init__(
        self,
        physics: CPhysics,
        compute: Compute,
        state: PhysicsState,
        ctrl: jax.Array | None = None,
    ) -> None:
        self._physics, self._compute = physics, compute
        self._given = {name: x for name, x in vars(state).items() if x is not None}
        if ctrl is not None:
            self._given["ctrl"] = jnp.asarray(ctrl, jnp.float32)
        # MJX has its private fields there.
        self._impl = self

    def __getattr__(self, name: str) -> jax.Array:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.fetch([name])[0]

    def fetch(self, names: list[str]) -> list[jax.Array]:
        """Returns several fields of one computation."""
        return self._physics.call(self._compute, self._given, names)

    def then(self, more: Compute) -> CData:
        """Returns the data after a further computation."""
        both = copy.copy(self)
        first = self._compute

        def compute(model: mujoco.MjModel, data: mujoco.MjData) -> None:
            first(model, data)
            more(model, data)

        both._compute, both._impl = compute, both
        return both


def _kinematics(model: mujoco.MjModel, data: mujoco.MjData) -> None:
    """Computes the fields of `Physics.kinematics`: no accelerations, no forces."""
    mujoco.mj_fwdPosition(model, data)
    mujoco.mj_sensorPos(model, data)
    mujoco.mj_fwdVelocity(model, data)
    mujoco.mj_sensorVel(model, data)
