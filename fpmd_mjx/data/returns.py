"""The scale of a task's returns, measured while experience is collected, per seed.

Rewards divided by the scale have returns of a standard deviation of at most 1 that lie within
+-`LARGEST`, whatever the task pays: the standard deviation serves tasks with dense rewards, the
largest return those whose rewards are rare or grow. Source: SimbaV2 (arXiv 2502.15280).
"""

import jax
import jax.numpy as jnp
from flax import struct

from fpmd_mjx.data import normalizer
from fpmd_mjx.data.normalizer import Normalizer

LARGEST = 5.0
"""The largest scaled return that was seen."""


class Returns(struct.PyTreeNode):
    """running: (num_envs,), sum of gamma^(t - k) r_k over the rewards of the episode until t;
    stats: mean and variance of all of these, (1,); largest: the largest of their magnitudes."""

    running: jax.Array
    stats: Normalizer
    largest: jax.Array


def init(num_envs: int) -> Returns:
    return Returns(jnp.zeros(num_envs, jnp.float32), normalizer.init(1), jnp.zeros((), jnp.float32))


def update(returns: Returns, reward: jax.Array, ended: jax.Array, gamma: float) -> Returns:
    """Folds in the rewards of a vector step, (num_envs,). ended: whether the episode did."""
    running = gamma * returns.running + reward
    return Returns(
        jnp.where(ended, 0.0, running),
        normalizer.update(returns.stats, running[:, None]),
        jnp.maximum(returns.largest, jnp.max(jnp.abs(running))),
    )


def scale(returns: Returns) -> jax.Array:
    """max(standard deviation, largest / `LARGEST`): scalar; 1 until a reward other than 0 came."""
    std = jnp.sqrt(jnp.where(returns.stats.count > 0, returns.stats.var[0], 0.0))
    found = jnp.maximum(std, returns.largest / LARGEST)
    return jnp.where(found > 0, found, 1.0)
