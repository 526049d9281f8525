"""acrobot: swing two links up with a motor at the elbow; shaped or sparse reward."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
from mujoco import mjx

from ..base import Env, PhysicsState, State, spec_from_model
from ..physics.backend import Physics
from ..physics.models import dmc_model
from ..physics.options import PhysicsOptions
from .rewards import tolerance


class Acrobot(Env):
    """The tasks of dm_control's `suite/acrobot.py`.

    Observation: horizontal, then vertical components of the two links' directions, joint
    velocities (rad/s). Reward: 1 if the tip is within the target's radius; outside of it 0 if
    sparse, else falling off over 1 m. Never terminates. Start: at rest, both angles uniform.
    """

    def __init__(self, *, sparse: bool, **options: Unpack[PhysicsOptions]) -> None:
        """Args.

        sparse: no reward outside of the target.
        options: of `Physics`; the model has no constraints.
        """
        model = dmc_model("acrobot.xml")
        self._margin = 0.0 if sparse else 1.0
        self._links = [model.body(name).id for name in ("upper_arm", "lower_arm")]
        self._tip = model.site("tip").id
        self._target = model.site("target").id
        self._target_radius = float(model.site_size[self._target, 0])
        self.physics = Physics(model, substeps=1, **options)
        task = "swingup_sparse" if sparse else "swingup"
        self.spec = spec_from_model(
            f"dmc/acrobot_{task}", model, obs_size=6, episode_steps=1000, substeps=1
        )

    def reset(self, key: jax.Array) -> State:
        qpos = jax.random.uniform(key, (2,), jnp.float32, -jnp.pi, jnp.pi)
        physics = self.physics.init(qpos, jnp.zeros(2, jnp.float32))
        return State.begin(physics, self._observe(physics, self.physics.kinematics(physics)))

    def step(self, state: State, action: jax.Array) -> State:
        physics, _ = self.physics.step(state.physics, action, lambda data: None)
        data = self.physics.kinematics(physics)
        distance = jnp.linalg.norm(data.site_xpos[self._target] - data.site_xpos[self._tip])
        return State(
            physics=physics,
            obs=self._observe(physics, data),
            reward=tolerance(distance, (0.0, self._target_radius), self._margin),
            terminated=jnp.zeros((), bool),
        )

    def _observe(self, physics: PhysicsState, data: mjx.Data) -> jax.Array:
        directions = jnp.stack([data.xmat[link, :, 2] for link in self._links])
        return jnp.concatenate([directions[:, 0], directions[:, 2], physics.qvel])
