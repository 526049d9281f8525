"""Running observation statistics (Welford, Chan's parallel form), per seed."""

import jax
import jax.numpy as jnp
from flax import struct

# float32 counts exactly to 2^24. From there on the count stands still, and the statistics become
# exponential averages over that many observations.
_MAX_COUNT = float(2**24)


class Normalizer(struct.PyTreeNode):
    """mean and var: (obs_size,); count: observations seen."""

    mean: jax.Array
    var: jax.Array
    count: jax.Array


def init(obs_size: int) -> Normalizer:
    return Normalizer(
        mean=jnp.zeros(obs_size, jnp.float32),
        var=jnp.ones(obs_size, jnp.float32),
        count=jnp.zeros((), jnp.float32),
    )


def update(stats: Normalizer, obs: jax.Array) -> Normalizer:
    """Folds a batch (batch, obs_size) into the statistics."""
    n = jnp.float32(obs.shape[0])
    total = stats.count + n
    delta = jnp.mean(obs, 0) - stats.mean
    var = (stats.count * stats.var + n * jnp.var(obs, 0)) / total
    var += jnp.square(delta) * stats.count * n / jnp.square(total)
    return Normalizer(stats.mean + delta * n / total, var, jnp.minimum(total, _MAX_COUNT))


def apply(stats: Normalizer | None, obs: jax.Array) -> jax.Array:
    """Standardised observations, clipped to 10 standard deviations: shape of `obs`.

    Without statistics (images), or with empty ones (normalisation is off), obs is returned
    unchanged.
    """
    if stats is None:
        return obs
    scaled = (obs - stats.mean) * jax.lax.rsqrt(stats.var + 1e-6)
    return jnp.where(stats.count > 0, jnp.clip(scaled, -10.0, 10.0), obs)
