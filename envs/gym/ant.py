"""Ant-v4 and -v5: run forward on four legs."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
import mujoco
from mujoco import mjx

from ..base import Env, PhysicsState, State, spec_from_model
from ..physics.backend import Physics, center, uncenter
from ..physics.models import gym_model
from ..physics.options import PhysicsOptions
from .starts import noisy_start

_ROOT_X, _ROOT_Y, _ROOT_Z = 0, 1, 2
_MIN_HEIGHT, _MAX_HEIGHT = 0.2, 1.0  # m
_CONTROL_COST = 0.5
_CONTACT_COST = 5e-4
_MAX_SHOWN_FORCE = 1.0
_RESET_NOISE = 0.1


class Ant(Env):
    """The task of gymnasium's `ant_v4.py` and `ant_v5.py`.

    Observation: qpos without the position on the ground, then qvel; v5 adds the external force
    on each body but the world (torque in N m, force in N; about the centre of mass of the ant),
    clipped to +-1. Reward: mean speed (m/s) of the torso along x over the step, plus 1, minus 0.5
    times the squared action; v5 subtracts 0.0005 times the squared clipped forces, and does not
    pay the 1 for the terminating step. Terminates when the torso leaves the heights from 0.2 to
    1 m or the state is not finite. Start: uniform noise of +-0.1 on qpos, normal noise of scale
    0.1 on qvel.

    The original takes the speed from body positions that it reads right after `mj_step`. They are
    those of the last Runge-Kutta stage and differ from qpos. So `State.task`, () float32, is the
    position that was read minus qpos along x (m). Forces are those of the same stage. After a reset
    they are 0, because the original computes them only in its steps.
    """

    def __init__(self, version: int, **options: Unpack[PhysicsOptions]) -> None:
        """Args are the gymnasium version, 4 or 5, and the options of `Physics`."""
        self._shows_forces = version == 5
        model = gym_model("ant.xml")
        self._torso = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, "torso")
        self.physics = Physics(model, substeps=5, reads_forces=self._shows_forces, **options)
        self.spec = spec_from_model(
            f"gym/Ant-v{version}",
            model,
            obs_size=105 if self._shows_forces else 27,
            episode_steps=1000,
            substeps=5,
        )

    def reset(self, key: jax.Array) -> State:
        physics = noisy_start(self.physics, key, _RESET_NOISE, normal_velocity=True)
        no_force = jnp.zeros((self.physics.model.nbody, 6), jnp.float32)
        return State.begin(
            physics, self._observe(physics, no_force), task=jnp.zeros((), jnp.float32)
        )

    def step(self, state: State, action: jax.Array) -> State:
        start, x = center(state.physics, _ROOT_X)
        start, y = center(start, _ROOT_Y)
        end, (torso_x, forces) = self.physics.step(start, action, self._read)
        speed = (torso_x - state.task) / self.physics.control_dt
        physics = uncenter(uncenter(end, _ROOT_X, x), _ROOT_Y, y)
        healthy = _healthy(physics)
        reward = speed - _CONTROL_COST * jnp.square(action).sum()
        if self._shows_forces:
            reward += healthy - _CONTACT_COST * jnp.square(forces).sum()
        else:
            reward += 1.0
        return State(
            physics=physics,
            obs=self._observe(physics, forces),
            reward=reward.astype(jnp.float32),
            terminated=~healthy,
            task=torso_x - end.qpos[_ROOT_X],
        )

    def task_from_original(self, model: mujoco.MjModel, data: mujoco.MjData) -> jax.Array:
        return jnp.float32(data.xpos[self._torso, 0] - data.qpos[_ROOT_X])

    def _read(self, data: mjx.Data) -> tuple[jax.Array, jax.Array]:
        forces = self.physics.external_forces(data)
        return data.xpos[self._torso, 0], jnp.clip(forces, -_MAX_SHOWN_FORCE, _MAX_SHOWN_FORCE)

    def _observe(self, physics: PhysicsState, forces: jax.Array) -> jax.Array:
        shown = [forces[1:].ravel()] if self._shows_forces else []
        return jnp.concatenate([physics.qpos[2:], physics.qvel, *shown])


def _healthy(physics: PhysicsState) -> jax.Array:
    finite = jnp.isfinite(physics.qpos).all() & jnp.isfinite(physics.qvel).all()
    height = physics.qpos[_ROOT_Z]
    return finite & (height >= _MIN_HEIGHT) & (height <= _MAX_HEIGHT)
