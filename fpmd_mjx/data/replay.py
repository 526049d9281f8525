"""The replay buffer: a time-major ring on the device that stores every observation once.

Row t of environment i is (obs, action, reward, terminated, truncated); the observation that
follows is row t + 1's. One `dynamic_update_slice` inserts a vector step. After a truncation row
t + 1 begins another episode, so the last row of a truncated episode has no next observation and is
masked; a terminated row needs none.

If an observation is the last images of an environment, a row stores the newest image alone.
`sample` puts the images together again, and never takes one from before the episode.

All functions here are for one seed; `insert` writes at the same position for all of them.
"""

import jax
import jax.numpy as jnp
from flax import struct


class Rows(struct.PyTreeNode):
    """One vector step, leading axes (num_envs,), or the ring itself, (capacity, num_envs)."""

    obs: jax.Array  # (..., obs_size), or one image (..., height, width, 3)
    action: jax.Array  # (..., action_size)
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array


class Replay(struct.PyTreeNode):
    """head: the row that is written next; size: how many rows are filled, up to the capacity."""

    rows: Rows
    head: jax.Array
    size: jax.Array


class Batch(struct.PyTreeNode):
    """n-step transitions, leading axes (updates, batch).

    Observations that are images: (updates, batch, frames, height, width, 3) uint8.
    reward: sum of gamma^k r_k over the window; discount: gamma^(window length), 0 after a
    termination; mask: 0 where the window has no next observation, and so no target.
    """

    obs: jax.Array
    action: jax.Array
    reward: jax.Array
    discount: jax.Array
    next_obs: jax.Array
    mask: jax.Array


def empty(capacity: int, num_envs: int, obs_shape: tuple[int, ...], action_size: int) -> Replay:
    """A ring of `capacity` rows (vector steps) of `num_envs` environments.

    obs_shape: (obs_size,) of vectors, or (frames, height, width, 3) of images.
    """
    lead = (capacity, num_envs)
    one, dtype = (obs_shape[1:], jnp.uint8) if len(obs_shape) > 1 else (obs_shape, jnp.float32)
    rows = Rows(
        obs=jnp.zeros((*lead, *one), dtype),
        action=jnp.zeros((*lead, action_size), jnp.float32),
        reward=jnp.zeros(lead, jnp.float32),
        terminated=jnp.zeros(lead, bool),
        truncated=jnp.zeros(lead, bool),
    )
    return Replay(rows, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


def insert(replay: Replay, row: Rows) -> Replay:
    """Writes one vector step over the oldest."""
    capacity = replay.rows.reward.shape[0]

    def write(ring: jax.Array, new: jax.Array) -> jax.Array:
        start = (replay.head,) + (jnp.zeros((), jnp.int32),) * new.ndim
        return jax.lax.dynamic_update_slice(ring, new[None].astype(ring.dtype), start)

    return Replay(
        rows=jax.tree.map(write, replay.rows, row),
        head=(replay.head + 1) % capacity,
        size=jnp.minimum(replay.size + 1, capacity),
    )


def newest(obs: jax.Array) -> jax.Array:
    """The part of observations (num_envs, ...) that a row stores."""
    return obs if obs.ndim == 2 else obs[:, -1]


def sample(
    replay: Replay, key: jax.Array, shape: tuple[int, ...], n_step: int, gamma: float, frames: int
) -> Batch:
    """Draws transitions uniformly, with replacement: leading axes `shape`.

    Needs size > n_step + frames - 1. The oldest frames - 1 rows start no transition, because the
    images before them are gone. A window starts at a row that has n_step successors in the ring, so
    it never crosses the write head. It ends early, after k < n_step rows, at a termination
    (discount 0), or before the last row of a truncated episode (discount gamma^k). That row has the
    last observation of the episode that the ring stores.
    """
    rows = replay.rows
    capacity, num_envs = rows.reward.shape
    time_key, env_key = jax.random.split(key)
    # age 0 is the oldest row
    age = jax.random.randint(time_key, shape, frames - 1, replay.size - n_step)
    env = jax.random.randint(env_key, shape, 0, num_envs)
    start = (replay.head - replay.size + age) % capacity

    def at(ring: jax.Array, offset: jax.Array | int) -> jax.Array:
        return ring[(start + offset) % capacity, env]

    # `going`: the window still collects rewards; `length`: how many it has collected.
    going = ~at(rows.truncated, 0)
    mask = going
    ended = jnp.zeros(shape, bool)
    reward = jnp.zeros(shape, jnp.float32)
    length = jnp.zeros(shape, jnp.int32)
    for k in range(n_step):
        reward += jnp.where(going, gamma**k * at(rows.reward, k), 0.0)
        length += going
        ended |= going & at(rows.terminated, k)
        if k + 1 < n_step:
            going &= ~at(rows.terminated, k) & ~at(rows.truncated, k + 1)
    discount = jnp.where(ended, 0.0, jnp.float32(gamma) ** length)

    def seen(offset: jax.Array | int) -> jax.Array:
        if rows.obs.ndim == 3:
            return at(rows.obs, offset)
        images = [at(rows.obs, offset)]
        for _ in range(frames - 1):  # further into the past, until the episode begins
            begins = at(rows.terminated, offset - 1) | at(rows.truncated, offset - 1)
            offset = jnp.where(begins, offset, offset - 1)
            images.insert(0, at(rows.obs, offset))
        return jnp.stack(images, len(shape))

    return Batch(
        obs=seen(0),
        action=at(rows.action, 0),
        reward=reward,
        discount=discount,
        next_obs=seen(length),
        mask=mask.astype(jnp.float32),
    )
