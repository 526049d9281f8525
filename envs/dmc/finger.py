"""finger: flick a free body on a hinge to spin it, or to turn its tip to a target."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco import mjx

from ..base import Env, Moved, PhysicsState, State, spec_from_model
from ..physics.backend import Physics
from ..physics.models import dmc_model, sensor_indices
from ..physics.options import PhysicsOptions
from .starts import draw_until, random_joint_angles

_HINGE = 2  # of qpos and qvel, after the finger's two joints
_XZ = np.array([0, 2])  # the plane that everything moves in
_SPIN_DAMPING = 0.03  # N m s/rad, of the hinge while spinning
_SPIN_SPEED = -15.0  # rad/s, where the spinning reward begins
_EASY_RADIUS = 0.07  # m, of the turning target
_HARD_RADIUS = 0.03
_SUBSTEPS = 2


class _Finger(Env):
    """The common part of both tasks: model, starts without contacts, and observation.

    Observation: finger joint angles (rad), tip relative to the hinge (m), joint velocities
    (rad/s), log(1 + force) of the two touch sensors (N). Subclasses may add to it.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        task: str,
        *,
        obs_size: int,
        **options: Unpack[PhysicsOptions],
    ) -> None:
        """Args are the model, the task's name, and those of `Physics` and `TaskSpec`."""
        self._tip = model.site("tip").id
        self._spinner = model.body("spinner").id
        self._touch_sensors = sensor_indices(model, "touchtop", "touchbottom")
        self.physics = Physics(model, substeps=_SUBSTEPS, **options)
        self.spec = spec_from_model(
            f"dmc/finger_{task}", model, obs_size=obs_size, episode_steps=1000, substeps=_SUBSTEPS
        )

    def _start(self, key: jax.Array) -> PhysicsState:
        """Draws joint angles until nothing is in contact."""

        def draw(key: jax.Array) -> PhysicsState:
            qpos = random_joint_angles(self.physics.model, key)
            return self.physics.init(qpos, jnp.zeros(3, jnp.float32))

        return draw_until(lambda physics: ~self.physics.in_contact(physics), draw, key)

    def _move(self, physics: PhysicsState, action: jax.Array) -> tuple[PhysicsState, jax.Array]:
        """Returns the next state and the touch (2,) of the last dynamics evaluation, which the
        original observes."""

        def touch(data: mjx.Data) -> jax.Array:
            return jnp.log1p(data.sensordata[self._touch_sensors])

        return self.physics.step(physics, action, touch)

    def _tip_position(self, physics: PhysicsState) -> jax.Array:
        """Returns the tip relative to the hinge, (2,), m."""
        data = self.physics.kinematics(physics)
        return (data.site_xpos[self._tip] - data.xpos[self._spinner])[_XZ]


class FingerSpin(_Finger):
    """The spin task of dm_control's `suite/finger.py`, with less damping of the hinge.

    Reward: 1 while the body spins at 15 rad/s or more in the negative sense, else 0. Never
    terminates. Start: at rest, joint angles uniform within their limits, without contact.
    """

    def __init__(self, **options: Unpack[PhysicsOptions]) -> None:
        """Args are the options of `Physics`."""
        model = dmc_model("finger.xml")
        model.dof_damping[_HINGE] = _SPIN_DAMPING
        model.site_rgba[[model.site(name).id for name in ("target", "tip")], 3] = 0
        super().__init__(model, "spin", obs_size=9, **options)

    def reset(self, key: jax.Array) -> State:
        physics = self._start(key)
        return State.begin(physics, self._observe(physics, jnp.zeros(2, jnp.float32)))

    def step(self, state: State, action: jax.Array) -> State:
        physics, touch = self._move(state.physics, action)
        return State(
            physics=physics,
            obs=self._observe(physics, touch),
            reward=(physics.qvel[_HINGE] <= _SPIN_SPEED).astype(jnp.float32),
            terminated=jnp.zeros((), bool),
        )

    def _observe(self, physics: PhysicsState, touch: jax.Array) -> jax.Array:
        tip = self._tip_position(physics)
        return jnp.concatenate([physics.qpos[:_HINGE], tip, physics.qvel, touch])


class FingerTurn(_Finger):
    """The turning tasks of dm_control's `suite/finger.py`.

    Observation: as in `_Finger`, target relative to the hinge (m), distance of the tip to the
    target's surface (m, negative inside). Reward: 1 while the tip is in the target, else 0. Never
    terminates. Start: as in `FingerSpin`, target anywhere on the circle of the body's end.

    `State.task` is the target's position relative to the hinge, (2,) float32, m.
    """

    def __init__(self, *, hard: bool, **options: Unpack[PhysicsOptions]) -> None:
        """Args.

        hard: a small target instead of a large one.
        options: of `Physics`.
        """
        self._target_radius = _HARD_RADIUS if hard else _EASY_RADIUS
        model = dmc_model("finger.xml")
        model.site_size[model.site("target").id, 0] = self._target_radius
        self._hinge_place = model.body("spinner").pos.astype(np.float32)
        self._circle_radius = float(model.geom("cap1").size.sum())
        super().__init__(
            model,
            f"turn_{'hard' if hard else 'easy'}",
            obs_size=12,
            **options,
        )

    def reset(self, key: jax.Array) -> State:
        start_key, target_key = jax.random.split(key)
        physics = self._start(start_key)
        angle = jax.random.uniform(target_key, (), jnp.float32, -jnp.pi, jnp.pi)
        target = self._circle_radius * jnp.stack([jnp.sin(angle), jnp.cos(angle)])
        obs, _ = self._observe(physics, jnp.zeros(2, jnp.float32), target)
        return State.begin(physics, obs, task=target)

    def step(self, state: State, action: jax.Array) -> State:
        physics, touch = self._move(state.physics, action)
        obs, distance = self._observe(physics, touch, state.task)
        return State(
            physics=physics,
            obs=obs,
            reward=(distance <= 0).astype(jnp.float32),
            terminated=jnp.zeros((), bool),
            task=state.task,
        )

    def task_from_original(self, model: mujoco.MjModel, data: mujoco.MjData) -> jax.Array:
        target = model.site("target").pos - model.body("spinner").pos
        return jnp.asarray(target[_XZ], jnp.float32)

    def moved(self, state: State) -> Moved:
        return {"site_pos": {"target": jnp.asarray(self._hinge_place).at[_XZ].add(state.task)}}

    def _observe(
        self, physics: PhysicsState, touch: jax.Array, target: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the observation, and the distance of the tip to the target's surface (m)."""
        tip = self._tip_position(physics)
        distance = jnp.linalg.norm(target - tip) - self._target_radius
        obs = jnp.concatenate(
            [physics.qpos[:_HINGE], tip, physics.qvel, touch, target, distance[None]]
        )
        return obs, distance
