"""Batches of environments with episodes: time limit, auto-reset, action scaling and repeat.

The environments of all seeds are one flat batch, so physics is stepped once for all of them;
leaves of `VectorState` carry the axes (seeds, num_envs, ...). What is random has one key a seed, so
that a seed behaves alike alone and beside others.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

import jax
import jax.numpy as jnp
import mujoco
from flax import struct

from .base import Env, Moved, State

T = TypeVar("T")

# Where C MuJoCo, too, takes positions, velocities and accelerations for a simulation that has
# blown up, and resets it.
LARGEST = mujoco.mjMAXVAL


class VectorState(struct.PyTreeNode):
    """env: the environments now, (seeds, num_envs, ...); clock: control steps since the reset;
    ret: return so far; whole: whether the episode began at its beginning, see `VectorEnv.init`;
    pool: reset states in stock, (seeds, pool, ...); dealt, stocked: (seeds,) pool positions that
    are dealt next and replaced next.
    """

    env: State
    clock: jax.Array
    ret: jax.Array
    whole: jax.Array
    pool: State
    dealt: jax.Array
    stocked: jax.Array


class Outcome(struct.PyTreeNode):
    """What a vector step yields, (seeds, num_envs) each.

    terminated: the task ended; truncated: the time limit (or `nonfinite`) ended the episode and
    the task did not: never both. finished: an episode that counts ended, with `ret`, its return,
    and `length`, its control steps. nonfinite: the simulation blew up (`is_sound`); its step pays
    0.
    """

    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    finished: jax.Array
    ret: jax.Array
    length: jax.Array
    nonfinite: jax.Array


def flatten(tree: T) -> T:
    """(seeds, num_envs, ...) -> (seeds * num_envs, ...)."""
    return jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), tree)


def unflatten(tree: T, seeds: int) -> T:
    """The inverse of `flatten`."""
    return jax.tree.map(lambda x: x.reshape(seeds, x.shape[0] // seeds, *x.shape[1:]), tree)


def select(mask: jax.Array, true: T, false: T) -> T:
    """Per-environment choice; mask has the leading axes of every leaf."""

    def pick(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - mask.ndim)), a, b)

    return jax.tree.map(pick, true, false)


def is_sound(state: State) -> jax.Array:
    """Whether physics, observation and reward of each environment are numbers, and none is beyond
    `LARGEST`: leaves (n, ...) -> (n,).

    `State.task` is not looked at: a task may remember an inf, such as a minimum of nothing yet.
    """
    seen = (state.physics, state.obs, state.reward)
    leaves = [x for x in jax.tree.leaves(seen) if jnp.issubdtype(x.dtype, jnp.floating)]
    # No comparison with a nan is true.
    sound = [jnp.all(jnp.abs(x.reshape(x.shape[0], -1)) <= LARGEST, -1) for x in leaves]
    return jnp.all(jnp.stack(sound), 0)


class Repeated(Env):
    """`env` with actions that last `count` control steps: rewards add up, and a termination ends
    the repeat. Its steps, the time limit in them and `control_dt` are those of whole repeats.

    Attributes:
        unwrapped: the task under all wrappers.
    """

    def __init__(self, env: Env, count: int) -> None:
        self._env, self._count = env, count
        self.unwrapped: Env = getattr(env, "unwrapped", env)
        spec = env.spec
        self.spec = replace(
            spec,
            episode_steps=-(-spec.episode_steps // count),
            control_dt=spec.control_dt * count,
            action_repeat=spec.action_repeat * count,
        )

    def reset(self, key: jax.Array) -> State:
        return self._env.reset(key)

    def step(self, state: State, action: jax.Array) -> State:
        def once(carry: State, _: None) -> tuple[State, None]:
            after = self._env.step(carry, action)
            after = after.replace(reward=carry.reward + after.reward)
            return select(carry.terminated, carry, after), None

        start = state.replace(
            reward=jnp.zeros_like(state.reward), terminated=jnp.zeros_like(state.terminated)
        )
        return jax.lax.scan(once, start, None, self._count)[0]

    def moved(self, state: State) -> Moved:
        return self._env.moved(state)


@dataclass(frozen=True)
class VectorEnv:
    """`num_envs` copies of `env` for each seed.

    pool: reset states in stock for each seed; refresh: how many `restock` replaces.
    """

    env: Env
    num_envs: int
    pool: int = 64
    refresh: int = 16

    @property
    def episode_steps(self) -> int:
        """Steps until the time limit."""
        return self.env.spec.episode_steps

    def reset(self, keys: jax.Array, count: int) -> State:
        """`count` fresh reset states for each key: leaves (seeds, count, ...).

        A start that blew up, while the bodies settled, say, is replaced by another one of its key.
        Where all of them did, each stays as it is, and its first step reports `nonfinite`.
        """
        draw = jax.vmap(lambda key: jax.random.split(key, count))(keys)
        states = jax.vmap(self.env.reset)(flatten(draw))
        sound = is_sound(states).reshape(keys.shape[0], count)
        own = sound | ~jnp.any(sound, 1, keepdims=True)
        which = jnp.where(own, jnp.arange(count), jnp.argmax(sound, 1)[:, None])
        states = unflatten(states, keys.shape[0])
        return jax.tree.map(lambda x: jax.vmap(lambda p, i: p[i])(x, which), states)

    def init(self, keys: jax.Array) -> VectorState:
        """Fresh environments and a full pool; keys: (seeds,).

        Clocks start anywhere in the episode, so that the episodes of a batch do not end together.
        These first, shortened episodes train but do not count in the statistics.
        """
        lead = (keys.shape[0], self.num_envs)
        split = jax.vmap(jax.random.split)(keys)
        states = self.reset(split[:, 0], self.num_envs + self.pool)
        clock = jax.vmap(
            lambda key: jax.random.randint(key, (self.num_envs,), 0, self.episode_steps)
        )(split[:, 1])
        return VectorState(
            env=jax.tree.map(lambda x: x[:, : self.num_envs], states),
            clock=clock,
            ret=jnp.zeros(lead, jnp.float32),
            whole=jnp.zeros(lead, bool),
            pool=jax.tree.map(lambda x: x[:, self.num_envs :], states),
            dealt=jnp.zeros(lead[0], jnp.int32),
            stocked=jnp.zeros(lead[0], jnp.int32),
        )

    def restock(self, state: VectorState, keys: jax.Array) -> VectorState:
        """Replaces the `refresh` reset states that are oldest in the pool; keys: (seeds,)."""
        fresh = self.reset(keys, self.refresh)

        def replace(pool: jax.Array, new: jax.Array, start: jax.Array) -> jax.Array:
            return pool.at[(start + jnp.arange(self.refresh)) % self.pool].set(new)

        return state.replace(
            pool=jax.tree.map(
                lambda pool, new: jax.vmap(replace)(pool, new, state.stocked), state.pool, fresh
            ),
            stocked=(state.stocked + self.refresh) % self.pool,
        )

    def physics(self, state: State, action: jax.Array) -> State:
        """One step of every environment, no resets: leaves (seeds, n, ...), action in [-1, 1]."""
        seeds = action.shape[0]
        low = jnp.asarray(self.env.spec.action_low, jnp.float32)
        high = jnp.asarray(self.env.spec.action_high, jnp.float32)
        native = low + (jnp.clip(action, -1.0, 1.0) + 1.0) * 0.5 * (high - low)
        return unflatten(jax.vmap(self.env.step)(flatten(state), flatten(native)), seeds)

    def step(self, state: VectorState, action: jax.Array) -> tuple[VectorState, Outcome]:
        """Steps, then deals reset states to the episodes that ended.

        action: (seeds, num_envs, action_size) in [-1, 1]. `state.env.obs` is always an observation
        to act on: after an episode's last step it is the first one of the next episode.
        """
        after = self.physics(state.env, action)
        nonfinite = ~unflatten(is_sound(flatten(after)), action.shape[0])
        reward = jnp.where(nonfinite, 0.0, after.reward)
        terminated = after.terminated & ~nonfinite
        clock = state.clock + 1
        truncated = ((clock >= self.episode_steps) | nonfinite) & ~terminated
        done = terminated | truncated
        ret = state.ret + reward

        rank = jnp.cumsum(done, 1) - 1  # k-th to finish takes the k-th state from the pool
        slot = (state.dealt[:, None] + rank) % self.pool
        dealt = jax.tree.map(lambda x: jax.vmap(lambda p, i: p[i])(x, slot), state.pool)
        outcome = Outcome(
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            finished=done & state.whole,
            ret=ret,
            length=clock * self.env.spec.action_repeat,
            nonfinite=nonfinite,
        )
        state = state.replace(
            env=select(done, dealt, after),
            clock=jnp.where(done, 0, clock),
            ret=jnp.where(done, 0.0, ret),
            whole=state.whole | done,
            dealt=(state.dealt + jnp.sum(done, 1, dtype=jnp.int32)) % self.pool,
        )
        return state, outcome
