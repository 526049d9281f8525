"""Small environments with known answers, in pure JAX: no physics to compile."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import PhysicsState, State, TaskSpec
from envs.render.pixels import PixelEnv
from fpmd_mjx.config import load as configs
from fpmd_mjx.config.schema import Config
from fpmd_mjx.program import Program, assemble, observed


def words(text: str) -> list[str]:
    """Overrides, written as on the command line."""
    return text.split()


TINY = words(
    "num_envs=4 learn.batch=8 algorithm.candidates=2 actor.hidden=[16] critic.hidden=[16] "
    "algorithm.noise.interval=3 warmup_steps=20 epoch_steps=40 env_steps=320 eval.episodes=2 "
    "learn.updates=2 algorithm.policy_delay=2 learn.normalize_obs=false critic.layer_norm=false"
)
"""Overrides of a run that costs next to nothing."""


def tiny_config(*overrides: str) -> Config:
    return configs.load([*TINY, *overrides])


def build(env: Any, *overrides: str) -> Program:
    """The program of `env` in place of the config's task."""
    config = tiny_config(*overrides)
    if config.task.obs == "pixels":
        sketch = Sketch(config.pixels.size, env.FAR)
        return assemble(config, PixelEnv(env, sketch, config.pixels.frames))
    return assemble(config, observed(config, env))


def spec(obs_size: int, low: float, high: float, episode_steps: int) -> TaskSpec:
    """Of an environment with one action."""
    bounds = np.array([low], np.float32), np.array([high], np.float32)
    return TaskSpec("toy", obs_size, 1, *bounds, episode_steps, control_dt=0.1)


def state(position: jax.Array, memory: jax.Array, obs: jax.Array, reward: Any, end: Any) -> State:
    """position, memory: (1,) each, kept as qpos and qvel."""
    return State(
        physics=PhysicsState(position, memory, jnp.zeros(1, jnp.float32)),
        obs=obs,
        reward=jnp.asarray(reward, jnp.float32),
        terminated=jnp.asarray(end, bool),
    )


class Corridor:
    """Walks one step at a time towards an end at 2 to 8 steps, the k-th of which pays k.

    Observation: position, end, and the last action in its native range [-2, 6]. The episode
    terminates at the end, and the time limit is 6 steps; so whatever the policy does, the return is
    k (k + 1) / 2 with k = min(end, 6). `breaks`: corridors of 5 and 6 steps blow up at the third.
    """

    FAR = 8.0

    def __init__(self, breaks: bool = False) -> None:
        self.breaks = breaks
        self.spec = spec(obs_size=3, low=-2.0, high=6.0, episode_steps=6)

    def reset(self, key: jax.Array) -> State:
        end = jax.random.randint(key, (1,), 2, 9).astype(jnp.float32)
        return self._state(jnp.zeros(1), end, jnp.zeros(1), 0.0)

    def step(self, state: State, action: jax.Array) -> State:
        position, end = state.physics.qpos + 1.0, state.physics.qvel
        broken = self.breaks & ((end == 5.0) | (end == 6.0)) & (position == 3.0)
        blown_up = jnp.where(end == 5.0, jnp.nan, 1e11)
        return self._state(jnp.where(broken, blown_up, position), end, action, position[0])

    def _state(self, position: jax.Array, end: jax.Array, action: jax.Array, reward: Any) -> State:
        obs = jnp.concatenate([position, end, action])
        return state(position, end, obs, reward, (position >= end)[0])


class Sketch:
    """A renderer of these environments: a white bar above for qpos, one below for qvel, in a
    picture that reaches from -1 to `far`."""

    def __init__(self, size: int, far: float) -> None:
        self.size, self._far = size, far

    def __call__(self, state: State) -> jax.Array:
        at = jnp.concatenate([state.physics.qpos, state.physics.qvel])
        columns = jnp.linspace(-1.0, self._far, self.size)
        width = (self._far + 1.0) / self.size
        bars = jnp.abs(columns - at[:, None]) < width  # (2, size)
        rows = jnp.repeat(bars, self.size // 2, 0, total_repeat_length=self.size)
        return jnp.where(rows[..., None], jnp.uint8(255), jnp.zeros(3, jnp.uint8))


class Aim:
    """Every step pays 1 - (aim - target)^2 for the aim that the action before it chose.

    So the reward of a step does not depend on its own action: only a critic that looks ahead finds
    the policy aim = target. Observation: aim and target. Target in [-0.8, 0.8], the first aim in
    [-1, 1], 8 steps.
    """

    FAR = 1.0
    STEPS = 8
    RANDOM = 8 * (1 - 1 / 3 - 0.64 / 3)
    """Expected return of uniformly random actions."""
    OPTIMUM = RANDOM / 8 + 7
    """Expected return of aim = target: nothing can be done about the first step."""

    def __init__(self) -> None:
        self.spec = spec(obs_size=2, low=-1.0, high=1.0, episode_steps=self.STEPS)

    def reset(self, key: jax.Array) -> State:
        aim, target = jax.random.uniform(key, (2, 1), jnp.float32, -1.0, 1.0)
        return self._state(aim, 0.8 * target, 0.0)

    def step(self, state: State, action: jax.Array) -> State:
        aim, target = state.physics.qpos, state.physics.qvel
        return self._state(action, target, 1.0 - jnp.square(aim - target)[0])

    def _state(self, aim: jax.Array, target: jax.Array, reward: Any) -> State:
        return state(aim, target, jnp.concatenate([aim, target]), reward, False)
