"""The importance weights of FPMD's mirror-descent step.

pi_new(a|s) is proportional to pi_old(a|s) exp(Q(s, a) / lambda): sampling from pi_old and weighting
the flow-matching loss with exp(Q / lambda) projects that target onto the policy class
(arXiv 2507.23675, section 4).
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import struct


class QStats(struct.PyTreeNode):
    """Exponential averages of the batch mean and standard deviation of Q, scalars."""

    mean: jax.Array
    std: jax.Array

    @classmethod
    def init(cls) -> "QStats":
        return cls(jnp.zeros((), jnp.float32), jnp.ones((), jnp.float32))

    def update(self, q: jax.Array, rate: float) -> "QStats":
        """Folds in a batch of Q, (batch,), unless its statistics are not finite."""
        mean = self.mean + rate * (jnp.mean(q) - self.mean)
        std = self.std + rate * (jnp.std(q) - self.std)
        finite = jnp.isfinite(mean) & jnp.isfinite(std)
        return jax.tree.map(partial(jnp.where, finite), QStats(mean, std), self)


def submission_weights(
    q: jax.Array, stats: QStats, alpha: jax.Array, temperature: float
) -> jax.Array:
    """exp(clip(Q - mean / std, -3, 3) / alpha): Q minus the ratio, the precedence as released."""
    del temperature
    return jnp.exp(jnp.clip(q - stats.mean / stats.std, -3.0, 3.0) / alpha)


def scaled_weights(q: jax.Array, stats: QStats, alpha: jax.Array, temperature: float) -> jax.Array:
    """exp((Q / std) / T): the later release. From Q / std = 44 T on, the squared gradient overflows
    in Adam, and the update is skipped."""
    del alpha
    return jnp.exp(q / stats.std / temperature)


def normalized_weights(
    q: jax.Array, stats: QStats, alpha: jax.Array, temperature: float
) -> jax.Array:
    """exp((Q / std) / T), scaled to a batch mean of one: cannot overflow.

    It differs from `scaled_weights` by a common factor of the batch.
    """
    del alpha
    return jax.nn.softmax(q / jnp.maximum(stats.std, 1e-6) / temperature) * q.size


Form = Callable[[jax.Array, QStats, jax.Array, float], jax.Array]
FORMS: dict[str, Form] = {
    "submission": submission_weights,
    "scaled": scaled_weights,
    "normalized": normalized_weights,
}
"""(q (batch,), statistics of Q, noise alpha, temperature) -> weights (batch,)."""


def effective_sample_size(weights: jax.Array) -> jax.Array:
    """(sum w)^2 / sum w^2 as a share of the batch: 1 for equal weights, 1 / batch for one-hot."""
    scaled = weights / jnp.max(weights)
    return jnp.square(jnp.sum(scaled)) / jnp.sum(jnp.square(scaled)) / weights.size
