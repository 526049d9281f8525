"""humanoid: a body of 21 joints that stands, walks at 1 m/s or runs at 10 m/s."""

from __future__ import annotations

import dataclasses
from typing import Unpack

import jax
import jax.numpy as jnp
import numpy as np
from mujoco import mjx

from ..base import Env, PhysicsState, State, spec_from_model
from ..physics.backend import Physics, center, uncenter
from ..physics.models import dmc_model, sensor_indices
from ..physics.options import PhysicsOptions
from .frames import to_frame
from .rewards import tolerance
from .starts import draw_until, random_joint_angles

_ROOT_X, _ROOT_Y, _FIRST_JOINT = 0, 1, 7
_SPEEDS = {"stand": 0.0, "walk": 1.0, "run": 10.0}  # m/s, where the full reward begins
_PURE = "_pure_state"  # ending of the names of tasks
_STAND_HEIGHT = 1.4  # m, of the head


@dataclasses.dataclass(frozen=True)
class Anatomy:
    """The differences between the suite's two humanoids.

    Attributes:
        domain: name of the domain and of its model.
        torso: name of the body that is the frame of hands and feet. Its subtree's velocity counts.
        up: axis of the torso that points up when it stands, 0 to 2.
        limbs: hands and feet, in the order of the observation.
        substeps: physics steps per control step.
        obs_size: length of the observation.
    """

    domain: str
    torso: str
    up: int
    limbs: tuple[str, ...]
    substeps: int
    obs_size: int


_HUMANOID = Anatomy(
    domain="humanoid",
    torso="torso",
    up=2,
    limbs=("left_hand", "left_foot", "right_hand", "right_foot"),
    substeps=5,
    obs_size=67,
)


class Humanoid(Env):
    """The tasks of dm_control's `suite/humanoid.py` and, with another body, `humanoid_CMU.py`.

    "run_pure_state" is "run" with another observation, qpos and qvel.

    Observation: joint angles, height of the head (m), hands and feet in the torso's frame (m),
    the vertical in the torso's frame, velocity of the centre of mass (m/s), qvel. Reward: a product
    of factors for the head's height, the upright torso, small controls, before MuJoCo clamps them,
    and standing still or horizontal speed in any direction. Never terminates. Start: a random
    orientation and random joint angles, drawn until nothing touches.
    """

    def __init__(
        self, task: str, anatomy: Anatomy = _HUMANOID, **options: Unpack[PhysicsOptions]
    ) -> None:
        """Args are "stand", "walk", "run" or "run_pure_state", the body, and the options of
        `Physics`."""
        self._speed = _SPEEDS[task.removesuffix(_PURE)]
        self._pure = task.endswith(_PURE)
        self._up = anatomy.up
        model = dmc_model(f"{anatomy.domain}.xml")
        self._torso = model.body(anatomy.torso).id
        self._head = model.body("head").id
        self._limbs = np.asarray([model.body(name).id for name in anatomy.limbs])
        self._velocity = sensor_indices(model, f"{anatomy.torso}_subtreelinvel")
        self.physics = Physics(model, substeps=anatomy.substeps, **options)
        self.spec = spec_from_model(
            f"dmc/{anatomy.domain}_{task}",
            model,
            obs_size=model.nq + model.nv if self._pure else anatomy.obs_size,
            episode_steps=1000,
            substeps=anatomy.substeps,
        )

    def reset(self, key: jax.Array) -> State:
        model = self.physics.model

        def draw(key: jax.Array) -> PhysicsState:
            return self.physics.init(random_joint_angles(model, key), jnp.zeros(model.nv))

        physics = draw_until(lambda physics: ~self.physics.in_contact(physics), draw, key)
        return State.begin(physics, self._observe(physics, self.physics.kinematics(physics)))

    def step(self, state: State, action: jax.Array) -> State:
        start, x = center(state.physics, _ROOT_X)
        start, y = center(start, _ROOT_Y)
        end, _ = self.physics.step(start, action, lambda data: None)
        data = self.physics.kinematics(end)
        physics = uncenter(uncenter(end, _ROOT_X, x), _ROOT_Y, y)
        return State(
            physics=physics,
            obs=self._observe(physics, data),
            reward=self._reward(data, action),
            terminated=jnp.zeros((), bool),
        )

    def _observe(self, physics: PhysicsState, data: mjx.Data) -> jax.Array:
        """data: kinematics of `physics`, which may be moved to the origin."""
        if self._pure:
            return jnp.concatenate([physics.qpos, physics.qvel])
        frame = data.xmat[self._torso]
        limbs = to_frame(data.xpos[self._limbs] - data.xpos[self._torso], frame)
        return jnp.concatenate(
            [
                data.qpos[_FIRST_JOINT:],
                data.xpos[self._head, 2:],
                limbs.ravel(),
                frame[2],
                data.sensordata[self._velocity],
                data.qvel,
            ]
        )

    def _reward(self, data: mjx.Data, action: jax.Array) -> jax.Array:
        standing = tolerance(
            data.xpos[self._head, 2],
            bounds=(_STAND_HEIGHT, float("inf")),
            margin=_STAND_HEIGHT / 4,
        )
        upright = tolerance(
            data.xmat[self._torso, 2, self._up],
            bounds=(0.9, float("inf")),
            margin=1.9,
            value_at_margin=0,
            sigmoid="linear",
        )
        effort = tolerance(action, margin=1, value_at_margin=0, sigmoid="quadratic").mean()
        small_control = (4 + effort) / 5
        velocity = data.sensordata[self._velocity[:2]]
        if self._speed == 0:
            return small_control * standing * upright * tolerance(velocity, margin=2).mean()
        move = tolerance(
            jnp.linalg.norm(velocity),
            bounds=(self._speed, float("inf")),
            margin=self._speed,
            value_at_margin=0,
            sigmoid="linear",
        )
        return small_control * standing * upright * (5 * move + 1) / 6
