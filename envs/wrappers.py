"""Batches of environments with episodes: time limit, auto-reset, action scaling and repeat.

The environments of all seeds are one flat batch, so physics is stepped once for all of them. Leaves
of `VectorState` have the axes (seeds, num_envs, ...). Each seed has its own random keys, so its
results do not depend on the other seeds.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import mujoco
from flax import struct

from .base import Env, Moved, State

T = TypeVar("T")

# C MuJoCo resets a simulation with positions, velocities or accelerations beyond this limit.
LARGEST = mujoco.mjMAXVAL


class Starts(struct.PyTreeNode):
    """A pool of reset states for the next episodes.

    states: a ring, (seeds, pool + refresh, ...); first: (seeds,) int32, position of the next state;
    ready: (seeds,) int32, number of states from there on; keys: (seeds,), of the next draw.
    """

    states: State
    first: jax.Array
    ready: jax.Array
    keys: jax.Array


class VectorState(struct.PyTreeNode):
    """The state of all environments; (seeds, num_envs, ...) but for `starts`.

    env: states of the tasks; clock: steps since the reset; ret: return so far; whole: False in the
    shortened first episode, see `VectorEnv.init`; starts: reset states of the next episodes.
    """

    env: State
    clock: jax.Array
    ret: jax.Array
    whole: jax.Array
    starts: Starts


class Outcome(struct.PyTreeNode):
    """The result of a vector step, (seeds, num_envs, ...) each.

    final_obs: observation after the step. When an episode ends it is its last one, not the first of
    the next episode; it may be nan if `nonfinite`. terminated: the task ended the episode.
    truncated: the time limit or `nonfinite` ended it, and the task did not. finished: a whole
    episode ended, with the return `ret` and the length `length` in control steps. nonfinite: the
    simulation blew up, see `is_sound`; the reward of its step is 0. reused: number of times that
    the reset state of the next episode was used before; 0 where no episode begins.
    """

    final_obs: jax.Array
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    finished: jax.Array
    ret: jax.Array
    length: jax.Array
    nonfinite: jax.Array
    reused: jax.Array


def flatten(tree: T) -> T:
    """(seeds, num_envs, ...) -> (seeds * num_envs, ...)."""
    return jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), tree)


def unflatten(tree: T, seeds: int) -> T:
    """The inverse of `flatten`."""
    return jax.tree.map(lambda x: x.reshape(seeds, x.shape[0] // seeds, *x.shape[1:]), tree)


def select(mask: jax.Array, true: T, false: T) -> T:
    """Chooses for each environment; mask: bool with the leading axes of every leaf."""

    def pick(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - mask.ndim)), a, b)

    return jax.tree.map(pick, true, false)


def rescale(action: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
    """Clips actions to [-1, 1] and maps them to [low, high]: (..., action_size)."""
    return low + (jnp.clip(action, -1.0, 1.0) + 1.0) * 0.5 * (high - low)


def is_sound(state: State) -> jax.Array:
    """Whether physics, observation and reward of each environment are numbers of at most `LARGEST`:
    leaves (n, ...) -> (n,) bool.

    `State.task` does not count: a task may store inf, such as the minimum of an empty set.
    """
    seen = (state.physics, state.obs, state.reward)
    leaves = [x for x in jax.tree.leaves(seen) if jnp.issubdtype(x.dtype, jnp.floating)]
    # Comparisons with nan are false.
    sound = [jnp.all(jnp.abs(x.reshape(x.shape[0], -1)) <= LARGEST, -1) for x in leaves]
    return jnp.all(jnp.stack(sound), 0)


class RepeatedState(State):
    """played: () int32, steps of the repeated task since the reset; inner: the task's own state,
    with None in the fields of `State`."""

    played: Any = None
    inner: Any = None


class Repeated(Env):
    """`env` with actions that last `count` control steps.

    Rewards add up, and a termination or the time limit ends the repeat. The spec counts whole
    repeats: in its time limit and in `control_dt`. If `count` does not divide the time limit, the
    last repeat of an episode is shorter.

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
            time_limit=spec.time_limit or spec.episode_steps * spec.action_repeat,
        )

    def reset(self, key: jax.Array) -> State:
        return self._wrapped(self._env.reset(key), jnp.zeros((), jnp.int32))

    def step(self, state: State, action: jax.Array) -> State:
        def once(carry: tuple[State, jax.Array], _: None) -> tuple[Any, None]:
            before, played = carry
            over = before.terminated | (played >= self._env.spec.episode_steps)
            after = self._env.step(before, action)
            after = after.replace(reward=before.reward + after.reward)
            return (select(over, before, after), jnp.where(over, played, played + 1)), None

        start = self._unwrapped(state).replace(
            reward=jnp.zeros((), jnp.float32), terminated=jnp.zeros((), bool)
        )
        played = cast(RepeatedState, state).played
        return self._wrapped(*jax.lax.scan(once, (start, played), None, self._count)[0])

    def moved(self, state: State) -> Moved:
        return self._env.moved(self._unwrapped(state))

    @staticmethod
    def _wrapped(state: State, played: jax.Array) -> State:
        shared = _shared(state)
        inner = state.replace(**dict.fromkeys(shared))
        return RepeatedState(**shared, played=played, inner=inner)

    @staticmethod
    def _unwrapped(state: State) -> State:
        return cast(RepeatedState, state).inner.replace(**_shared(state))


def _shared(state: State) -> dict[str, Any]:
    """Returns the fields of `State`, without those that a subclass adds."""
    return {field.name: getattr(state, field.name) for field in fields(State)}


@dataclass(frozen=True)
class VectorEnv:
    """`num_envs` copies of `env` for each seed.

    pool: number of episodes of a seed that can end in one step and each get its own reset state;
    refresh: number of reset states that are drawn together.
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

        A reset state that blew up, such as while bodies settled, is replaced by another one of its
        key. If all of a key blew up, they stay, and their first step reports `nonfinite`.
        """
        draw = jax.vmap(lambda key: jax.random.split(key, count))(keys)
        states = jax.vmap(self.env.reset)(flatten(draw))
        sound = is_sound(states).reshape(keys.shape[0], count)
        own = sound | ~jnp.any(sound, 1, keepdims=True)
        which = jnp.where(own, jnp.arange(count), jnp.argmax(sound, 1)[:, None])
        states = unflatten(states, keys.shape[0])
        return jax.tree.map(lambda x: jax.vmap(lambda p, i: p[i])(x, which), states)

    def init(self, keys: jax.Array) -> VectorState:
        """Fresh environments; keys: (seeds,).

        Clocks start at a random step, so that the episodes of a batch do not end together. These
        shortened first episodes are used for training, but do not count in the statistics.
        """
        lead = (keys.shape[0], self.num_envs)
        split = jax.vmap(lambda key: jax.random.split(key, 3))(keys)
        states = self.reset(split[:, 0], self.num_envs)
        clock = jax.vmap(
            lambda key: jax.random.randint(key, (self.num_envs,), 0, self.episode_steps)
        )(split[:, 1])
        return VectorState(
            env=states,
            clock=clock,
            ret=jnp.zeros(lead, jnp.float32),
            whole=jnp.zeros(lead, bool),
            starts=Starts(
                states=jax.tree.map(
                    lambda x: jnp.zeros((lead[0], self.pool + self.refresh, *x.shape[2:]), x.dtype),
                    states,
                ),
                first=jnp.zeros(lead[0], jnp.int32),
                ready=jnp.zeros(lead[0], jnp.int32),
                keys=split[:, 2],
            ),
        )

    def restock(self, starts: Starts, needed: jax.Array) -> Starts:
        """Draws reset states until each seed has as many as it needs, or more than `pool`.

        needed: (seeds,). All seeds with room draw together. This does not change their results,
        because a seed's states and their order do not depend on the time of the draw.
        """
        size = self.pool + self.refresh

        def room(starts: Starts) -> jax.Array:
            return starts.ready <= self.pool

        def lacking(starts: Starts) -> jax.Array:
            return jnp.any((starts.ready < needed) & room(starts))

        def insert(ring: jax.Array, new: jax.Array, start: jax.Array) -> jax.Array:
            return ring.at[(start + jnp.arange(self.refresh)) % size].set(new)

        def draw(starts: Starts) -> Starts:
            split = jax.vmap(jax.random.split)(starts.keys)
            fresh = self.reset(split[:, 0], self.refresh)
            longer = Starts(
                states=jax.tree.map(
                    lambda ring, new: jax.vmap(insert)(ring, new, starts.first + starts.ready),
                    starts.states,
                    fresh,
                ),
                first=starts.first,
                ready=starts.ready + self.refresh,
                keys=split[:, 1],
            )
            return select(room(starts), longer, starts)

        return jax.lax.while_loop(lacking, draw, starts)

    def physics(self, state: State, action: jax.Array) -> State:
        """One step of every environment, without resets: leaves (seeds, n, ...). action: in the
        task's units."""
        seeds = action.shape[0]
        return unflatten(jax.vmap(self.env.step)(flatten(state), flatten(action)), seeds)

    def step(self, state: VectorState, action: jax.Array) -> tuple[VectorState, Outcome]:
        """Steps, and begins the next episode where one ended.

        action: (seeds, num_envs, action_size) in [-1, 1]. `state.env.obs` is the observation for
        the next action: after an episode's last step it is the first one of the next episode.
        """
        low, high = (
            jnp.asarray(x, jnp.float32)
            for x in (self.env.spec.action_low, self.env.spec.action_high)
        )
        after = self.physics(state.env, rescale(action, low, high))
        nonfinite = ~unflatten(is_sound(flatten(after)), action.shape[0])
        reward = jnp.where(nonfinite, 0.0, after.reward)
        terminated = after.terminated & ~nonfinite
        clock = state.clock + 1
        truncated = ((clock >= self.episode_steps) | nonfinite) & ~terminated
        done = terminated | truncated
        ret = state.ret + reward

        ended = jnp.sum(done, 1, dtype=jnp.int32)
        starts = self.restock(state.starts, ended)
        # The k-th episode to end takes the k-th state that is ready. If there are too few, the
        # states are used again from the first on.
        rank = jnp.cumsum(done, 1) - 1
        ready = jnp.maximum(starts.ready, 1)[:, None]
        slot = (starts.first[:, None] + rank % ready) % (self.pool + self.refresh)
        begun = jax.tree.map(lambda x: jax.vmap(lambda p, i: p[i])(x, slot), starts.states)
        outcome = Outcome(
            final_obs=after.obs,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            finished=done & state.whole,
            ret=ret,
            length=self.env.spec.control_steps(clock),
            nonfinite=nonfinite,
            reused=jnp.where(done, rank // ready, 0),
        )
        used = jnp.minimum(ended, starts.ready)
        state = state.replace(
            env=select(done, begun, after),
            clock=jnp.where(done, 0, clock),
            ret=jnp.where(done, 0.0, ret),
            whole=state.whole | done,
            starts=starts.replace(
                first=(starts.first + used) % (self.pool + self.refresh), ready=starts.ready - used
            ),
        )
        return state, outcome
