"""The mirror-descent step of FPMD: best-of-N candidates and importance weights.

pi_new(a|s) is proportional to pi_old(a|s) exp(Q(s, a) / lambda): sampling from pi_old and weighting
the flow-matching loss with exp(Q / lambda) projects that target onto the policy class
(arXiv 2507.23675, section 4).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from fpmd_mjx.algorithms.base import Params, Sampler, Values


def best_of_n(
    actor: Sampler,
    params: Params,
    critic: Values,
    obs: jax.Array,
    key: jax.Array,
    *,
    candidates: int,
    steps: int,
    noise_std: jax.Array | float,
) -> tuple[jax.Array, jax.Array]:
    """The best of `candidates` noisy actions by min-Q, and its Q: obs (batch, obs_size) ->
    (batch, action_size), (batch,).

    Noise is added and clipped before the arg-max, as released. Every candidate is evaluated once:
    the caller reuses action and Q for the TD target, the weights and the regression.
    """
    sample_key, noise_key = jax.random.split(key)
    action = actor.sample(params, obs, sample_key, steps, repeat=(candidates,))
    action += noise_std * jax.random.normal(noise_key, action.shape, jnp.float32)
    action = jnp.clip(action, -1.0, 1.0)
    q = critic(obs, action)
    best = jnp.argmax(q, 0)[None]
    return (
        jnp.take_along_axis(action, best[..., None], 0)[0],
        jnp.take_along_axis(q, best, 0)[0],
    )


class QStats(struct.PyTreeNode):
    """Exponential averages of the batch mean and standard deviation of Q, scalars."""

    mean: jax.Array
    std: jax.Array

    @classmethod
    def init(cls) -> "QStats":
        return cls(jnp.zeros((), jnp.float32), jnp.ones((), jnp.float32))

    def update(self, q: jax.Array, rate: float) -> "QStats":
        return QStats(
            self.mean + rate * (jnp.mean(q) - self.mean), self.std + rate * (jnp.std(q) - self.std)
        )


def submission_weights(
    q: jax.Array, stats: QStats, alpha: jax.Array, temperature: float
) -> jax.Array:
    """exp(clip(Q - mean / std, -3, 3) / alpha): Q minus the ratio, the precedence as released."""
    del temperature
    return jnp.exp(jnp.clip(q - stats.mean / stats.std, -3.0, 3.0) / alpha)


def scaled_weights(q: jax.Array, stats: QStats, alpha: jax.Array, temperature: float) -> jax.Array:
    """exp((Q / std) / T): the later release. Overflows when Q / std exceeds 88 T."""
    del alpha
    return jnp.exp(q / stats.std / temperature)


def normalized_weights(
    q: jax.Array, stats: QStats, alpha: jax.Array, temperature: float
) -> jax.Array:
    """exp((Q / std) / T), scaled to a batch mean of one: cannot overflow.

    The common factor of a batch is all that differs from `scaled_weights`.
    """
    del alpha
    return jax.nn.softmax(q / jnp.maximum(stats.std, 1e-6) / temperature) * q.size


Weights = Callable[[jax.Array, QStats, jax.Array, float], jax.Array]
WEIGHTS: dict[str, Weights] = {
    "submission": submission_weights,
    "scaled": scaled_weights,
    "normalized": normalized_weights,
}
"""(q (batch,), statistics of Q, noise alpha, temperature) -> weights (batch,)."""


def effective_sample_size(weights: jax.Array) -> jax.Array:
    """(sum w)^2 / sum w^2 as a share of the batch: 1 for equal weights, 1 / batch for one-hot."""
    scaled = weights / jnp.max(weights)
    return jnp.square(jnp.sum(scaled)) / jnp.sum(jnp.square(scaled)) / weights.size
