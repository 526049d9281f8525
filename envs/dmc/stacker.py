"""stacker: a planar arm with a gripper stacks boxes until one of them is at a target."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco import mjx

from ..base import Env, Moved, PhysicsState, State, spec_from_model
from ..physics.backend import Physics
from ..physics.models import dmc_model
from ..physics.options import PhysicsOptions
from .planar_arm import PlanarArm, planar_pose
from .rewards import tolerance
from .starts import draw_until

_ALL_BOXES = 4
_BOX_LOW = (0.1, 0.0, 0.0)  # x and z in m, angle in rad
_BOX_HIGH = (0.3, 0.7, 2 * np.pi)
_TARGET_X = 0.37  # m, at most
_HAND_FAR = 0.1  # m, where the hand must be from the target
_HAND_MARGIN = 0.01  # m


class Stacker(Env):
    """The tasks of dm_control's `suite/stacker.py`.

    Observation: `PlanarArm.observe`, pose of each box, velocity of each box (x, angle, z), x and
    z of the target. Touch is that of the last dynamics evaluation. Reward: closeness of the
    nearest box and the target, times a factor for the hand being away. Never terminates. Start:
    arm, boxes and target random, drawn until nothing touches. The target has the height of one of
    the boxes in a stack.

    `State.task` is the target's position: x, z (m).
    """

    def __init__(self, boxes: int, **options: Unpack[PhysicsOptions]) -> None:
        """Args are the number of boxes, 2 or 4 in the suite, and the options of `Physics`."""
        self._boxes = boxes

        def without_unused(spec: mujoco.MjSpec) -> None:
            for box in range(boxes, _ALL_BOXES):
                spec.delete(spec.body(f"box{box}"))

        model = dmc_model("stacker.xml", without_unused)
        self._arm = PlanarArm(model)
        self._bodies = np.asarray([model.body(f"box{box}").id for box in range(boxes)])
        self._grasp = model.site("grasp").id
        self._target = model.body("target").id
        self._target_y = float(model.body("target").pos[1])
        self._half_size = float(model.geom("target").size[0])
        self._box_qpos = np.asarray(
            [[model.joint(f"box{b}_{axis}").qposadr[0] for axis in "xzy"] for b in range(boxes)]
        )
        self._box_qvel = np.asarray(
            [model.joint(f"box{b}_{axis}").dofadr[0] for b in range(boxes) for axis in "xyz"]
        )
        self.physics = Physics(model, substeps=10, **options)
        self.spec = spec_from_model(
            f"dmc/stacker_stack_{boxes}",
            model,
            obs_size=35 + 7 * boxes,
            episode_steps=1000,
            substeps=10,
        )

    def reset(self, key: jax.Array) -> State:
        physics, target = draw_until(
            lambda drawn: ~self.physics.in_contact(drawn[0]), self._draw, key
        )
        data = self.physics.forward(physics, actuated=False)
        return State.begin(physics, self._observe(data, self._arm.touch(data), target), task=target)

    def step(self, state: State, action: jax.Array) -> State:
        physics, touch = self.physics.step(state.physics, action, self._arm.touch)
        data = self.physics.kinematics(physics)
        return State(
            physics=physics,
            obs=self._observe(data, touch, state.task),
            reward=self._reward(data, state.task),
            terminated=jnp.zeros((), bool),
            task=state.task,
        )

    def task_from_original(self, model: mujoco.MjModel, data: mujoco.MjData) -> jax.Array:
        return jnp.asarray(model.body_pos[self._target, ::2], jnp.float32)

    def moved(self, state: State) -> Moved:
        return {"body_pos": {"target": self._place(state.task)}}

    def _place(self, target: jax.Array) -> jax.Array:
        """Returns the target's position, (3,), m."""
        return jnp.stack([target[0], jnp.float32(self._target_y), target[1]])

    def _draw(self, key: jax.Array) -> tuple[PhysicsState, jax.Array]:
        arm_key, level_key, target_key, box_key = jax.random.split(key, 4)
        model = self.physics.model
        qpos = self._arm.draw(arm_key, jnp.asarray(model.qpos0, jnp.float32))
        level = jax.random.randint(level_key, (), 0, self._boxes, jnp.int32)
        height = self._half_size * (2 * level + 1).astype(jnp.float32)
        x = jax.random.uniform(target_key, (), jnp.float32, -_TARGET_X, _TARGET_X)
        places = jax.random.uniform(
            box_key,
            self._box_qpos.shape,
            jnp.float32,
            jnp.asarray(_BOX_LOW),
            jnp.asarray(_BOX_HIGH),
        )
        qpos = qpos.at[self._box_qpos].set(places)
        return self.physics.init(qpos, np.zeros(model.nv)), jnp.stack([x, height])

    def _observe(self, data: mjx.Data, touch: jax.Array, target: jax.Array) -> jax.Array:
        return jnp.concatenate(
            [
                *self._arm.observe(data, touch),
                planar_pose(data, self._bodies).ravel(),
                data.qvel[self._box_qvel],
                target,
            ]
        )

    def _reward(self, data: mjx.Data, target: jax.Array) -> jax.Array:
        place = self._place(target)
        nearest = jnp.linalg.norm(data.xpos[self._bodies] - place, axis=1).min()
        hand = jnp.linalg.norm(data.site_xpos[self._grasp] - place)
        box_is_close = tolerance(nearest, margin=2 * self._half_size)
        hand_is_far = tolerance(hand, bounds=(_HAND_FAR, float("inf")), margin=_HAND_MARGIN)
        return box_is_close * hand_is_far
