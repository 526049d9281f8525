"""The common part of Humanoid and HumanoidStandup: body, simulation and observation."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
import mujoco
from flax import struct
from mujoco import mjx

from ..base import Env, PhysicsState, State, spec_from_model
from ..physics.backend import Physics, center, uncenter
from ..physics.models import gym_model
from ..physics.options import PhysicsOptions
from .starts import noisy_start

ROOT_X, ROOT_Y, ROOT_Z = 0, 1, 2
_FREE_JOINT = 6
_SUBSTEPS = 5
_CONTROL_COST = 0.1
_FORCE_COST = 5e-7
_MAX_FORCE_COST = 10.0
_RESET_NOISE = 0.01


class Seen(struct.PyTreeNode):
    """The quantities that the original reads right after `mj_step`. They are those of the last
    dynamics evaluation, the last Runge-Kutta stage, and not of the new qpos and qvel.

    Attributes:
        inertia: (nbody, 10), each body's inertia about the humanoid's centre of mass.
        velocity: (nbody, 6), angular (rad/s) and linear (m/s), at the centre of mass.
        actuation: (nv,), forces of the actuators on the joints (N, N m).
        external: (nbody, 6), see `Physics.external_forces`.
        center_x: (), centre of mass along x (m).
    """

    inertia: jax.Array
    velocity: jax.Array
    actuation: jax.Array
    external: jax.Array
    center_x: jax.Array


class HumanoidBody(Env):
    """A task of gymnasium's humanoid.

    Observation: qpos without the position on the ground, qvel, and the first four fields of `Seen`.
    v5 drops the rows of the world and the six joint forces on the free joint, which are always 0.
    Start: uniform noise of +-0.01 on qpos and qvel. The first observation has no external forces,
    because the original computes them only in its steps.

    Subclasses define the reward and the termination.
    """

    def __init__(
        self, name: str, version: int, model_file: str, **options: Unpack[PhysicsOptions]
    ) -> None:
        """Args are the task's name and version, its model, and the options of `Physics`."""
        self.version = version
        model = gym_model(model_file)
        # The model asks for PGS, which MJX lacks. Newton solves the same problem.
        model.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
        self.physics = Physics(model, substeps=_SUBSTEPS, reads_forces=True, **options)
        self.spec = spec_from_model(
            f"gym/{name}-v{version}",
            model,
            obs_size=376 if version == 4 else 348,
            episode_steps=1000,
            substeps=_SUBSTEPS,
        )

    def start(self, key: jax.Array) -> tuple[State, Seen]:
        """Returns the start of an episode, without `State.task`, and the quantities read there."""
        physics = noisy_start(self.physics, key, _RESET_NOISE, normal_velocity=False)
        data = self.physics.kinematics(physics)
        model = self.physics.model
        seen = self._seen(
            data,
            actuation=jnp.zeros(model.nv, jnp.float32),
            external=jnp.zeros((model.nbody, 6), jnp.float32),
        )
        return State.begin(physics, self.observe(physics, seen)), seen

    def advance(
        self, physics: PhysicsState, action: jax.Array
    ) -> tuple[PhysicsState, Seen, jax.Array]:
        """Returns the next state, the quantities read there, with x as if the step had begun at 0,
        and the change of qpos along x (m)."""
        start, x = center(physics, ROOT_X)
        start, y = center(start, ROOT_Y)
        end, seen = self.physics.step(start, action, self._read)
        return uncenter(uncenter(end, ROOT_X, x), ROOT_Y, y), seen, end.qpos[ROOT_X]

    def observe(self, physics: PhysicsState, seen: Seen) -> jax.Array:
        first_body = 0 if self.version == 4 else 1
        first_joint = 0 if self.version == 4 else _FREE_JOINT
        return jnp.concatenate(
            [
                physics.qpos[2:],
                physics.qvel,
                seen.inertia[first_body:].ravel(),
                seen.velocity[first_body:].ravel(),
                seen.actuation[first_joint:],
                seen.external[first_body:].ravel(),
            ]
        )

    def _read(self, data: mjx.Data) -> Seen:
        return self._seen(
            data, actuation=data.qfrc_actuator, external=self.physics.external_forces(data)
        )

    def _seen(self, data: mjx.Data, actuation: jax.Array, external: jax.Array) -> Seen:
        mass = jnp.asarray(self.physics.model.body_mass, jnp.float32)
        return Seen(
            inertia=self.physics.body_inertias(data),
            velocity=data.cvel,
            actuation=actuation,
            external=external,
            center_x=(mass * data.xipos[:, 0]).sum() / mass.sum(),
        )


def control_cost(action: jax.Array) -> jax.Array:
    """Returns the cost of the action, which is not clipped to its range."""
    return _CONTROL_COST * jnp.square(action).sum()


def force_cost(seen: Seen) -> jax.Array:
    """Returns the cost of external forces, at most 10."""
    return jnp.minimum(_FORCE_COST * jnp.square(seen.external).sum(), _MAX_FORCE_COST)
