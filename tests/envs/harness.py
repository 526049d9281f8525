"""What the environment tests share: one compiled port and one original per task."""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import envs
from envs.base import Env, PhysicsState, State
from envs.dmc.cheetah import CheetahRun
from envs.physics import Physics
from envs.real import RealEnv

# One batch size for everything, so that the physics of each model compiles once. Small, as the
# batch waits for its slowest solver.
BATCH = 20
# Half the compile time for the same program: LLVM's costly passes do not pay in tests.
COMPILER_OPTIONS = {"xla_backend_optimization_level": 1}

Policy = Callable[[int, np.ndarray, np.random.Generator], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Transitions:
    """Steps of an original simulator, (n, ...) each, in order; episodes follow one another."""

    qpos: np.ndarray
    qvel: np.ndarray
    obs: np.ndarray
    action: np.ndarray
    next_qpos: np.ndarray
    next_qvel: np.ndarray
    next_obs: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray

    def __len__(self) -> int:
        return len(self.reward)


@dataclasses.dataclass(frozen=True)
class Task:
    """A port, its original, and the port's functions for batches of BATCH."""

    env: Env
    real: RealEnv
    reset: Callable[[jax.Array], State]
    step: Callable[[State, jax.Array], State]

    def resets(self, count: int, seed: int) -> State:
        """Returns `count` reset states, (count, ...), as NumPy arrays."""
        keys = jax.random.split(jax.random.key(seed), -(-count // BATCH) * BATCH)
        states = [self.reset(keys[i : i + BATCH]) for i in range(0, len(keys), BATCH)]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *states)

    def state(self, qpos: np.ndarray, qvel: np.ndarray, obs: np.ndarray) -> State:
        """Returns the port's states, (BATCH, ...), at states of the original."""
        return State(
            physics=jax.vmap(self.env.physics.init)(qpos, qvel),
            obs=jnp.asarray(obs, jnp.float32),
            reward=jnp.zeros(BATCH, jnp.float32),
            terminated=jnp.zeros(BATCH, bool),
        )

    def one_step(
        self, seen: Transitions, step: Callable[[State, jax.Array], State] | None = None
    ) -> State:
        """Returns where the port goes from each state of the original, as NumPy arrays."""
        results = []
        for start in range(0, len(seen), BATCH):
            # The last rows are repeated to fill the batch.
            rows = np.minimum(np.arange(start, start + BATCH), len(seen) - 1)
            state = self.state(seen.qpos[rows], seen.qvel[rows], seen.obs[rows])
            results.append((step or self.step)(state, seen.action[rows]))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(seen)], *results)


def uniform(task: Task, scale: float = 1.0) -> Policy:
    """Independent actions, uniform in `scale` times the action range."""
    low, high = task.env.spec.action_low, task.env.spec.action_high
    return lambda t, obs, rng: (scale * rng.uniform(low, high)).astype(np.float32)


def waves(task: Task, seed: int, scale: float = 1.0) -> Policy:
    """One slow sine per action, which brings bodies to high speed."""
    draw = np.random.default_rng(seed)
    size = task.env.spec.action_size
    frequency, phase = draw.uniform(0.5, 3.0, size), draw.uniform(0, 2 * np.pi, size)
    dt, high = task.env.spec.control_dt, task.env.spec.action_high
    return lambda t, obs, rng: (
        scale * high * np.sin(2 * np.pi * frequency * t * dt + phase)
    ).astype(np.float32)


def record(real: RealEnv, policy: Policy, steps: int, seed: int) -> Transitions:
    """Runs the original for `steps` steps, beginning a new episode wherever one ends."""
    rng = np.random.default_rng(seed)
    obs, t, rows = real.reset(seed), 0, []
    for _ in range(steps):
        qpos, qvel, action = real.qpos, real.qvel, policy(t, obs, rng)
        next_obs, reward, terminated, truncated = real.step(action)
        rows.append(
            (qpos, qvel, obs, action, real.qpos, real.qvel, next_obs, reward, terminated, truncated)
        )
        obs, t = next_obs, t + 1
        if terminated or truncated:
            obs, t = real.reset(), 0
    return Transitions(*(np.stack(column) for column in zip(*rows, strict=True)))


@functools.cache
def load(name: str) -> Task:
    """Builds a task once a session; what is costly compiles at its first call.

    Tasks on one model share its compiled physics, and the few operations of the task itself run
    uncompiled around it: half the compile time of all the tests.
    """
    env = envs.make(name)
    env.physics = _compiled_physics(name.rsplit("-", 1)[0].split("_")[0])
    if isinstance(env, CheetahRun):
        env.settle = jax.jit(env.settle, compiler_options=COMPILER_OPTIONS)
        reset = jax.vmap(env.reset)
    else:
        reset = jax.jit(jax.vmap(env.reset), compiler_options=COMPILER_OPTIONS)
    return Task(env=env, real=envs.make_real(name), reset=reset, step=jax.vmap(env.step))


@functools.cache
def _compiled_physics(model: str) -> Physics:
    """Returns the physics of the first task whose name begins with `model`, jitted inside."""
    physics = envs.make(next(name for name in envs.tasks() if name.startswith(model))).physics
    advance = jax.jit(
        lambda state, ctrl, step=physics.step: step(state, ctrl, lambda data: data.xpos),
        compiler_options=COMPILER_OPTIONS,
    )

    def step(
        state: PhysicsState, ctrl: jax.Array, read: Callable[[Any], Any]
    ) -> tuple[PhysicsState, Any]:
        # Body positions are all that any task reads here.
        state, xpos = advance(state, ctrl)
        return state, read(types.SimpleNamespace(xpos=xpos))

    physics.step = step
    physics.subtree_linvel = jax.jit(physics.subtree_linvel, static_argnums=1)
    return physics
