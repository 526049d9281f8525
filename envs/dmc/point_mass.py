"""point_mass: push a mass on a plane to the middle."""

from __future__ import annotations

import copy
from typing import Unpack

import jax
import jax.numpy as jnp
import mujoco

from ..base import Env, PhysicsState, State, spec_from_model
from ..physics.backend import Physics
from ..physics.models import dmc_model
from ..physics.options import PhysicsOptions
from .rewards import tolerance
from .starts import draw_until, random_joint_angles

_MOST_PARALLEL = 0.9  # cosine of the angle between two directions


class PointMass(Env):
    """The tasks of dm_control's `suite/point_mass.py`.

    Each control pushes in one direction: x or y in the easy task, a direction drawn for the episode
    in the hard one.

    Observation: position (m), velocity (m/s). Reward: 1 within the target's radius of the middle,
    falling off over another radius, and up to a fifth less for large actions, before MuJoCo clamps
    them. Never terminates. Start: at rest, anywhere within the walls.

    `State.task` of the hard task is the directions: (2, 2), a unit vector (x, y) for each control.
    The original sets the coefficients of its tendons to them. The port combines the controls before
    a step, which gives the same forces.
    """

    def __init__(self, *, hard: bool, **options: Unpack[PhysicsOptions]) -> None:
        """Args.

        hard: draw the directions.
        options: of `Physics`.
        """
        self._hard = hard
        model = dmc_model("point_mass.xml")
        self._target_radius = float(model.geom("target").size[0])
        self.spec = spec_from_model(
            f"dmc/point_mass_{'hard' if hard else 'easy'}",
            model,
            obs_size=4,
            episode_steps=1000,
            substeps=1,
        )
        if hard:
            model = copy.deepcopy(model)
            model.actuator_ctrllimited[:] = False  # a sum of two controls may exceed the limit
        self.physics = Physics(model, substeps=1, **options)

    def reset(self, key: jax.Array) -> State:
        qpos_key, task_key = jax.random.split(key) if self._hard else (key, key)
        qpos = random_joint_angles(self.physics.model, qpos_key)
        physics = self.physics.init(qpos, jnp.zeros(2, jnp.float32))
        return State.begin(
            physics, _observe(physics), _directions(task_key) if self._hard else None
        )

    def step(self, state: State, action: jax.Array) -> State:
        control = action
        if self._hard:
            control = jnp.clip(action, self.spec.action_low, self.spec.action_high)
            control = (control[:, None] * state.task).sum(0)
        physics, _ = self.physics.step(state.physics, control, lambda data: None)
        # The target is at the origin of the joints, at the height of the mass.
        distance = jnp.linalg.norm(physics.qpos)
        near = tolerance(distance, (0.0, self._target_radius), self._target_radius)
        effort = tolerance(action, margin=1, value_at_margin=0, sigmoid="quadratic").mean()
        return State(
            physics=physics,
            obs=_observe(physics),
            reward=near * (4 + effort) / 5,
            terminated=jnp.zeros((), bool),
            task=state.task,
        )

    def task_from_original(self, model: mujoco.MjModel, data: mujoco.MjData) -> jax.Array | None:
        return jnp.asarray(model.wrap_prm.reshape(2, 2), jnp.float32) if self._hard else None


def _directions(key: jax.Array) -> jax.Array:
    """Returns two random unit vectors that are not too parallel, (2, 2)."""

    def draw(key: jax.Array) -> jax.Array:
        vector = jax.random.normal(key, (2,), jnp.float32)
        return vector / jnp.linalg.norm(vector)

    first_key, second_key = jax.random.split(key)
    first = draw(first_key)
    second = draw_until(lambda v: jnp.abs((first * v).sum()) <= _MOST_PARALLEL, draw, second_key)
    return jnp.stack([first, second])


def _observe(physics: PhysicsState) -> jax.Array:
    return jnp.concatenate([physics.qpos, physics.qvel])
