"""ball_in_cup: swing a ball on a string into the cup that it hangs from."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp

from ..base import Env, PhysicsState, State, spec_from_model
from ..physics.backend import Physics
from ..physics.models import dmc_model
from ..physics.options import PhysicsOptions
from .starts import draw_until

_BALL = slice(2, 4)  # of qpos, after the cup
_BALL_LOW = (-0.2, 0.2)  # m from the ball's place in the model, horizontal and vertical
_BALL_HIGH = (0.2, 0.5)
_SUBSTEPS = 10


class BallInCupCatch(Env):
    """The task of dm_control's `suite/ball_in_cup.py`.

    Observation: qpos, qvel (cup, then ball; horizontal, vertical; m, m/s). Reward: 1 while the
    whole ball is in the cup, else 0. Never terminates. Start: at rest, the cup in its place, the
    ball anywhere in a box, drawn until nothing touches. The box includes the inside of the cup.
    """

    def __init__(self, **options: Unpack[PhysicsOptions]) -> None:
        """Args are the options of `Physics`."""
        model = dmc_model("ball_in_cup.xml")
        self._ball = model.body("ball").id
        self._target = model.site("target").id
        room = model.site_size[self._target] - model.geom("ball").size[0]
        self._room = jnp.asarray(room[[0, 2]], jnp.float32)
        self.physics = Physics(model, substeps=_SUBSTEPS, **options)
        self.spec = spec_from_model(
            "dmc/ball_in_cup_catch", model, obs_size=8, episode_steps=1000, substeps=_SUBSTEPS
        )

    def reset(self, key: jax.Array) -> State:
        physics = draw_until(lambda physics: ~self.physics.in_contact(physics), self._draw, key)
        return State.begin(physics, _observe(physics))

    def step(self, state: State, action: jax.Array) -> State:
        physics, _ = self.physics.step(state.physics, action, lambda data: None)
        data = self.physics.kinematics(physics)
        to_target = data.site_xpos[self._target] - data.xpos[self._ball]
        caught = (jnp.abs(to_target[jnp.array([0, 2])]) < self._room).all()
        return State(
            physics=physics,
            obs=_observe(physics),
            reward=caught.astype(jnp.float32),
            terminated=jnp.zeros((), bool),
        )

    def _draw(self, key: jax.Array) -> PhysicsState:
        low, high = jnp.asarray(_BALL_LOW, jnp.float32), jnp.asarray(_BALL_HIGH, jnp.float32)
        ball = jax.random.uniform(key, (2,), jnp.float32, low, high)
        qpos = jnp.zeros(4, jnp.float32).at[_BALL].set(ball)
        return self.physics.init(qpos, jnp.zeros(4, jnp.float32))


def _observe(physics: PhysicsState) -> jax.Array:
    return jnp.concatenate([physics.qpos, physics.qvel])
