"""reacher: bring a planar arm's fingertip to a target, large (easy) or small (hard)."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from ..base import Env, Moved, PhysicsState, State, spec_from_model
from ..physics.backend import Physics
from ..physics.models import dmc_model
from ..physics.options import PhysicsOptions
from .rewards import tolerance
from .starts import random_joint_angles

_EASY_RADIUS = 0.05  # m, of the target
_HARD_RADIUS = 0.015
_TARGET_DISTANCES = (0.05, 0.2)  # m from the arm's root, nearest and farthest


class Reacher(Env):
    """The tasks of dm_control's `suite/reacher.py`.

    Observation: joint angles (rad, not wrapped), target minus finger (m), joint velocities
    (rad/s). Reward: 1 while finger and target overlap, else 0. Never terminates. Start: at rest,
    angles uniform within their limits, the target's direction and distance uniform.

    `State.task` is the target's position, (2,) float32, m.
    """

    def __init__(self, *, hard: bool, **options: Unpack[PhysicsOptions]) -> None:
        """Args.

        hard: a small target instead of a large one.
        options: of `Physics`.
        """
        model = dmc_model("reacher.xml")
        self._finger = model.geom("finger").id
        target_radius = _HARD_RADIUS if hard else _EASY_RADIUS
        model.geom_size[model.geom("target").id, 0] = target_radius
        self._target_height = np.float32(model.geom("target").pos[2])
        self._reach = target_radius + float(model.geom_size[self._finger, 0])
        self.physics = Physics(model, substeps=1, **options)
        self.spec = spec_from_model(
            f"dmc/reacher_{'hard' if hard else 'easy'}",
            model,
            obs_size=6,
            episode_steps=1000,
            substeps=1,
        )

    def reset(self, key: jax.Array) -> State:
        joint_key, direction_key, distance_key = jax.random.split(key, 3)
        qpos = random_joint_angles(self.physics.model, joint_key)
        direction = jax.random.uniform(direction_key, (), jnp.float32, 0.0, 2 * jnp.pi)
        distance = jax.random.uniform(distance_key, (), jnp.float32, *_TARGET_DISTANCES)
        target = distance * jnp.stack([jnp.sin(direction), jnp.cos(direction)])
        physics = self.physics.init(qpos, jnp.zeros(2, jnp.float32))
        return State.begin(
            physics, _observe(physics, self._to_target(physics, target)), task=target
        )

    def step(self, state: State, action: jax.Array) -> State:
        physics, _ = self.physics.step(state.physics, action, lambda data: None)
        to_target = self._to_target(physics, state.task)
        return State(
            physics=physics,
            obs=_observe(physics, to_target),
            reward=tolerance(jnp.linalg.norm(to_target), (0.0, self._reach)),
            terminated=jnp.zeros((), bool),
            task=state.task,
        )

    def task_from_original(self, model: mujoco.MjModel, data: mujoco.MjData) -> jax.Array:
        return jnp.asarray(model.geom("target").pos[:2], jnp.float32)

    def moved(self, state: State) -> Moved:
        return {"geom_pos": {"target": jnp.append(state.task, self._target_height)}}

    def _to_target(self, physics: PhysicsState, target: jax.Array) -> jax.Array:
        return target - self.physics.kinematics(physics).geom_xpos[self._finger, :2]


def _observe(physics: PhysicsState, to_target: jax.Array) -> jax.Array:
    return jnp.concatenate([physics.qpos, to_target, physics.qvel])
