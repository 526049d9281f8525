"""cheetah: run forward in a plane, up to 10 m/s."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from ..base import Env, PhysicsState, State, spec_from_model
from ..physics.backend import Physics, center, uncenter
from ..physics.models import dmc_model
from ..physics.options import PhysicsOptions
from .rewards import tolerance

_ROOT_X = 0
_FULL_SPEED = 10.0  # m/s
_SETTLING_STEPS = 200


class CheetahRun(Env):
    """The task of dm_control's `suite/cheetah.py`.

    Observation: qpos without the horizontal position, then qvel. Reward: horizontal speed of the
    centre of mass over 10 m/s, within [0, 1]. Never terminates. Start: joint angles uniform
    within their limits, then 200 physics steps without control.
    """

    def __init__(self, **options: Unpack[PhysicsOptions]) -> None:
        """Args are the options of `Physics`."""
        model = dmc_model("cheetah.xml")
        self._torso = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, "torso")
        self._first_move, self._first_qvel = _first_settling_step(model)
        self.physics = Physics(model, substeps=1, **options)
        self.spec = spec_from_model(
            "dmc/cheetah_run", model, obs_size=17, episode_steps=1000, substeps=1
        )

    def reset(self, key: jax.Array) -> State:
        model = self.physics.model
        limited = model.jnt_limited.astype(bool)
        low = jnp.asarray(np.where(limited, model.jnt_range[:, 0], model.qpos0), jnp.float32)
        high = jnp.asarray(np.where(limited, model.jnt_range[:, 1], model.qpos0), jnp.float32)
        return self.settle(low + (high - low) * jax.random.uniform(key, (model.nq,), jnp.float32))

    def settle(self, qpos: jax.Array) -> State:
        """Returns the start of the episode for which `qpos` (nq,) was drawn."""
        start = self.physics.init(qpos + self._first_move, self._first_qvel)
        no_control = jnp.zeros(self.physics.model.nu, jnp.float32)

        def settle(physics: PhysicsState, _: None) -> tuple[PhysicsState, None]:
            return self.physics.substep(physics, no_control)[0], None

        physics, _ = jax.lax.scan(settle, start, None, length=_SETTLING_STEPS - 1)
        return State.begin(
            physics.replace(qacc_warmstart=jnp.zeros_like(physics.qacc_warmstart)),
            _observe(physics),
        )

    def step(self, state: State, action: jax.Array) -> State:
        start, x = center(state.physics, _ROOT_X)
        end, _ = self.physics.step(start, action, lambda data: None)
        # The original's sensor belongs to the new position and velocity.
        speed = self.physics.subtree_linvel(end, self._torso)[0]
        reward = tolerance(
            speed,
            bounds=(_FULL_SPEED, float("inf")),
            margin=_FULL_SPEED,
            value_at_margin=0,
            sigmoid="linear",
        )
        physics = uncenter(end, _ROOT_X, x)
        return State(
            physics=physics,
            obs=_observe(physics),
            reward=reward,
            terminated=jnp.zeros((), bool),
        )


def _first_settling_step(model: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray]:
    """Returns the change of qpos in the first settling step, and the qvel after it: (nq,), (nv,).

    The original draws the joint angles and steps without computing the dynamics again. So the
    accelerations of this step are those of the model's default pose. All joints are slides and
    hinges, so the change is the same for every draw.
    """
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data)
    return (data.qpos - model.qpos0).astype(np.float32), data.qvel.astype(np.float32)


def _observe(physics: PhysicsState) -> jax.Array:
    return jnp.concatenate([physics.qpos[1:], physics.qvel])
