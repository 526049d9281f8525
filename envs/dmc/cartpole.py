"""cartpole: balance a pole on a cart, or swing one to three up; shaped or sparse reward."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
import mujoco

from ..base import Env, PhysicsState, State, spec_from_model
from ..physics.backend import Physics
from ..physics.models import dmc_model
from ..physics.options import PhysicsOptions
from .rewards import tolerance

_CART_BOUNDS = (-0.25, 0.25)  # m, where the sparse reward is paid
_MANY_POLES = {2: "two_poles", 3: "three_poles"}  # names of tasks
_UPRIGHT_BOUNDS = (0.995, 1.0)  # cosine of the pole's angle, likewise


class Cartpole(Env):
    """The tasks of dm_control's `suite/cartpole.py`.

    Observation: cart position (m), cosine and sine of each pole's angle (0 is upright), velocities
    (m/s, rad/s). Never terminates. The shaped reward uses the action before MuJoCo clamps it.
    """

    def __init__(
        self,
        *,
        swing_up: bool,
        sparse: bool,
        poles: int = 1,
        **options: Unpack[PhysicsOptions],
    ) -> None:
        """Args.

        swing_up: start hanging down instead of near upright.
        sparse: a reward of 1 near the goal and 0 elsewhere.
        poles: number of poles; each but the first hangs on the end of another.
        options: of `Physics`.
        """
        self._swing_up = swing_up
        self._sparse = sparse
        model = dmc_model("cartpole.xml", lambda spec: _add_poles(spec, poles))
        self.physics = Physics(model, substeps=1, **options)
        task = ("swingup" if swing_up else "balance") + ("_sparse" if sparse else "")
        self.spec = spec_from_model(
            f"dmc/cartpole_{_MANY_POLES.get(poles, task)}",
            model,
            obs_size=2 + 3 * poles,
            episode_steps=1000,
            substeps=1,
        )

    def reset(self, key: jax.Array) -> State:
        qpos_key, qvel_key = jax.random.split(key)
        size = (self.physics.model.nq,)
        others = size[0] - 2  # poles that hang on a pole
        if self._swing_up:
            hanging = jnp.asarray([0.0, jnp.pi] + [0.0] * others, jnp.float32)
            spread = jnp.asarray([0.01, 0.01] + [0.1] * others, jnp.float32)
            qpos = hanging + spread * jax.random.normal(qpos_key, size, jnp.float32)
        else:
            reach = jnp.asarray([0.1, 0.034] + [0.034] * others, jnp.float32)
            qpos = reach * jax.random.uniform(qpos_key, size, jnp.float32, -1.0, 1.0)
        qvel = 0.01 * jax.random.normal(qvel_key, size, jnp.float32)
        physics = self.physics.init(qpos, qvel)
        return State.begin(physics, _observe(physics))

    def step(self, state: State, action: jax.Array) -> State:
        physics, _ = self.physics.step(state.physics, action, lambda data: None)
        reward = _sparse_reward(physics) if self._sparse else _shaped_reward(physics, action)
        return State(
            physics=physics,
            obs=_observe(physics),
            reward=reward,
            terminated=jnp.zeros((), bool),
        )


def _angles(physics: PhysicsState) -> jax.Array:
    """Returns the angle of each pole with the vertical, (poles,), rad."""
    return jnp.cumsum(physics.qpos[1:])


def _observe(physics: PhysicsState) -> jax.Array:
    angles = _angles(physics)
    poles = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1).ravel()
    return jnp.concatenate([physics.qpos[:1], poles, physics.qvel])


def _sparse_reward(physics: PhysicsState) -> jax.Array:
    upright = tolerance(jnp.cos(_angles(physics)), _UPRIGHT_BOUNDS).prod()
    return tolerance(physics.qpos[0], _CART_BOUNDS) * upright


def _shaped_reward(physics: PhysicsState, action: jax.Array) -> jax.Array:
    upright = ((1 + jnp.cos(_angles(physics))) / 2).mean()
    centered = (1 + tolerance(physics.qpos[0], margin=2)) / 2
    effort = tolerance(action[0], margin=1, value_at_margin=0, sigmoid="quadratic")
    small_control = (4 + effort) / 5
    small_velocity = (1 + tolerance(physics.qvel[1:], margin=5).min()) / 2
    return upright * small_control * small_velocity * centered


def _add_poles(spec: mujoco.MjSpec, poles: int) -> None:
    """Makes dm_control's changes for several poles: adds the other poles, lowers the floor, and
    moves the cameras back."""
    if poles == 1:
        return
    parent, like = spec.body("pole_1"), spec.find_default("pole")
    for pole in range(2, poles + 1):
        parent = parent.add_body(name=f"pole_{pole}", pos=[0, 0, 1], childclass="pole")
        parent.add_joint(like, name=f"hinge_{pole}")
        parent.add_geom(like, name=f"pole_{pole}")
    spec.geom("floor").pos = [0, 0, 1 - poles - 0.05]
    spec.camera("fixed").pos = [0, -1 - 2 * poles, 1]
    spec.camera("lookatcart").pos = [0, -2 * poles, 2]
