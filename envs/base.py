"""The environment protocol: a task, its spec, and the state of one simulation."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from flax import struct


class UnsupportedModelError(ValueError):
    """The backend or `PhysicsState` lacks something that the model or an option needs."""


@dataclasses.dataclass(frozen=True, eq=False)
class TaskSpec:
    """The static facts of a task. Raises ValueError if an action bound is not finite.

    Attributes:
        name: registry name, such as "dmc/cartpole_swingup".
        obs_size: length of the observation vector; 0 if observations are images.
        action_size: length of the action vector.
        action_low: (action_size,) float32, native units of the original simulator.
        action_high: (action_size,) float32, native units of the original simulator.
        episode_steps: control steps after which the original truncates the episode.
        control_dt: simulated seconds per control step.
        longest_chain: bodies from the world to the end of the longest limb; an argument of
            `physics.compiler_options`.
        action_repeat: control steps of the original that one step here lasts.
        time_limit: control steps until the time limit. None if all steps last `action_repeat`;
            otherwise the last step of an episode is shorter.
        images: shape of uint8 images as observations, (frames, height, width, 3); None for vectors.
    """

    name: str
    obs_size: int
    action_size: int
    action_low: np.ndarray
    action_high: np.ndarray
    episode_steps: int
    control_dt: float
    longest_chain: int = 0
    action_repeat: int = 1
    time_limit: int | None = None
    images: tuple[int, int, int, int] | None = None

    def __post_init__(self) -> None:
        for bound in ("action_low", "action_high"):
            for which in np.flatnonzero(~np.isfinite(getattr(self, bound))):
                raise ValueError(
                    f"{self.name} has {bound}[{which}]={getattr(self, bound)[which]}, and actions "
                    "in [-1, 1] cannot be rescaled to it: give a finite number."
                )

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """The shape of one observation: (obs_size,), or `images`."""
        return self.images or (self.obs_size,)

    def control_steps(self, steps: jax.Array) -> jax.Array:
        """Returns the control steps of the original in an episode's first `steps` steps."""
        limit = self.episode_steps * self.action_repeat
        return jnp.minimum(steps * self.action_repeat, self.time_limit or limit)


class PhysicsState(struct.PyTreeNode):
    """All that the next physics step depends on.

    Everything else in `mjx.Data` is recomputed by the step, so carrying it would only make the
    scan carry, the auto-reset select and the checkpoint larger.

    Attributes:
        qpos: (nq,) float32, generalised positions.
        qvel: (nv,) float32, generalised velocities.
        qacc_warmstart: (nv,) float32, where the constraint solver starts.
        act: (na,) float32, actuator activations; None in a model without any.
    """

    qpos: jax.Array
    qvel: jax.Array
    qacc_warmstart: jax.Array
    act: jax.Array | None = None


class State(struct.PyTreeNode):
    """One simulation between two control steps; every leaf is strongly typed.

    Attributes:
        physics: the simulator's state.
        obs: (obs_size,) float32, or (frames, height, width, 3) uint8.
        reward: () float32, of the step that led here; 0 after a reset.
        terminated: () bool, the task ended here (never a time limit); False after a reset.
        task: what the task drew or remembers beyond the physics, such as the place of a target;
            the same tree of arrays in every state of a task, None if there is nothing.
    """

    physics: PhysicsState
    obs: jax.Array
    reward: jax.Array
    terminated: jax.Array
    task: Any = None

    @classmethod
    def begin(cls, physics: PhysicsState, obs: jax.Array, task: Any = None) -> State:
        """Returns the state after a reset: reward 0, not terminated."""
        return cls(physics, obs, jnp.zeros((), jnp.float32), jnp.zeros((), bool), task)


Moved = dict[str, dict[str, jax.Array]]
"""Rows of a model: {field: {name of the element: row}}, in the model's own units and frames, as in
{"body_pos": {"target": (3,) float32}}. Fields are positions and quaternions of bodies, geoms, sites
and lights."""


class Env(Protocol):
    """One task as two pure functions of one unbatched simulation; `jax.vmap` makes a batch.

    Tasks are subclasses, for `task_from_original`. Wrappers do time limits, auto-reset and action
    rescaling. `step` may read any field of its state, `obs` included, so wrappers pass states on
    unchanged.
    """

    spec: TaskSpec

    def reset(self, key: jax.Array) -> State:
        """Draws a start from the original's initial distribution."""
        ...

    def step(self, state: State, action: jax.Array) -> State:
        """Applies an action, (action_size,) in native units, for one control step.

        Out-of-range actions are treated as in the original: MuJoCo clamps the control of a limited
        actuator, but control costs use the action as it was given.
        """
        ...

    def task_from_original(self, model: mujoco.MjModel, data: mujoco.MjData) -> Any:
        """Returns the `State.task` of an episode of the original, from its own model and data.

        Tasks that keep something in `State.task` override it. It puts a port into an episode of the
        original.
        """
        return None

    def moved(self, state: State) -> Moved:
        """Returns the changes of the model for drawing, such as the place of a target. A task
        overrides it if its original changes the model at a reset."""
        return {}


def spec_from_model(
    name: str, model: mujoco.MjModel, *, obs_size: int, episode_steps: int, substeps: int
) -> TaskSpec:
    """Fills a `TaskSpec`, with action bounds and control time step read from the model.

    Raises:
        UnsupportedModelError: if an actuator has no control range.
    """
    for actuator in np.flatnonzero(~model.actuator_ctrllimited.astype(bool)):
        called = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_ACTUATOR, int(actuator))
        raise UnsupportedModelError(
            f"{name} has no control range of actuator {called or int(actuator)!r}, and actions in "
            "[-1, 1] cannot be rescaled to it: give it a ctrlrange in the model."
        )
    low, high = model.actuator_ctrlrange.astype(np.float32).T
    return TaskSpec(
        name=name,
        obs_size=obs_size,
        action_size=model.nu,
        action_low=low,
        action_high=high,
        episode_steps=episode_steps,
        control_dt=float(model.opt.timestep * substeps),
        longest_chain=longest_chain(model),
    )


def longest_chain(model: mujoco.MjModel) -> int:
    """Returns the number of bodies from the world to the body that is furthest from it."""
    depth = np.zeros(model.nbody, int)
    for body in range(1, model.nbody):  # parents come first
        depth[body] = depth[model.body_parentid[body]] + 1
    return int(depth.max())
