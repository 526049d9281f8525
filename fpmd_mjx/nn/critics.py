"""Twin critics, computed together, or a single one: scalar with squared error, or HL-Gauss
categorical.

Every function takes the parameters first and returns the critics on a leading axis of two or one.
HL-Gauss: Farebrother et al., arXiv 2403.03950. Clipped double Q: Fujimoto et al., arXiv 1802.09477.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from fpmd_mjx.config.schema import CriticConfig
from fpmd_mjx.nn.networks import MLP, ensemble

Params = Any


class Critic(Protocol):
    """Action values of twins, or of one critic: `critics` is 2 or 1 below."""

    def init(self, key: jax.Array) -> Params: ...

    def values(self, params: Params, obs: jax.Array, action: jax.Array) -> jax.Array:
        """Q of every critic: (..., obs_size), (..., action_size), whose leading axes broadcast ->
        (critics, ...)."""
        ...

    def value(self, params: Params, obs: jax.Array, action: jax.Array) -> jax.Array:
        """Q as `CriticConfig.twin` makes it of the critics: (...,)."""
        ...

    def loss(
        self, params: Params, obs: jax.Array, action: jax.Array, target: jax.Array, mask: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Scalar loss, the sum over the critics of the mean over mask = 1; and Q
        (critics, batch)."""
        ...


TWINS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "min": lambda values: jnp.min(values, 0),
    "mean": lambda values: jnp.mean(values, 0),
    "none": lambda values: values[0],
}
"""How the values of the critics, (critics, ...), become one Q, (...,)."""


def td_target(reward: jax.Array, discount: jax.Array, next_q: jax.Array) -> jax.Array:
    """r + discount * Q_target(s', a'); no entropy term. discount is 0 after a termination."""
    return jax.lax.stop_gradient(reward + discount * next_q)


def _masked_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.sum(x * mask, -1) / jnp.maximum(jnp.sum(mask), 1.0)


@dataclass(frozen=True)
class _Critics(ABC):
    """critics: 2 or 1. net: an ensemble of two, or a single network. An ensemble of one would have
    axes of length one, with which XLA sums slowly on CPUs."""

    net: nn.Module
    critics: int
    obs_size: int
    action_size: int
    twin: str

    def init(self, key: jax.Array) -> Params:
        return self.net.init(
            key, *self._inputs(jnp.zeros((1, self.obs_size)), jnp.zeros((1, self.action_size)))
        )

    def _inputs(self, *inputs: jax.Array) -> list[jax.Array]:
        if self.critics == 1:
            return list(inputs)
        return [jnp.broadcast_to(x, (self.critics, *x.shape)) for x in inputs]

    def _outputs(self, params: Params, obs: jax.Array, action: jax.Array) -> jax.Array:
        out = cast(jax.Array, self.net.apply(params, *self._inputs(obs, action)))
        return out[None] if self.critics == 1 else out

    @abstractmethod
    def values(self, params: Params, obs: jax.Array, action: jax.Array) -> jax.Array: ...

    def value(self, params: Params, obs: jax.Array, action: jax.Array) -> jax.Array:
        return TWINS[self.twin](self.values(params, obs, action))


@dataclass(frozen=True)
class ScalarCritic(_Critics):
    """Squared TD error, as released."""

    def values(self, params: Params, obs: jax.Array, action: jax.Array) -> jax.Array:
        return self._outputs(params, obs, action)[..., 0]

    def loss(
        self, params: Params, obs: jax.Array, action: jax.Array, target: jax.Array, mask: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        q = self.values(params, obs, action)
        return jnp.sum(_masked_mean(jnp.square(q - target), mask)), q


@dataclass(frozen=True)
class HLGaussCritic(_Critics):
    """Cross-entropy to a Gaussian histogram of the TD target; Q is the mean of the histogram.

    The support is [v_min, v_max] in `bins` equal bins, sigma the std of the target's Gaussian.
    Targets outside of the support are clipped to it. Values start near 0, as a scalar critic's do:
    equal logits would start them in the middle of the support, and with slow targets it takes
    thousands of updates to unlearn that.
    """

    v_min: float
    v_max: float
    bins: int
    sigma: float

    def init(self, key: jax.Array) -> Params:
        params = super().init(key)
        dense = [name for name in params["params"] if name.startswith("Dense")]
        params["params"][f"Dense_{len(dense) - 1}"]["bias"] += jnp.log(
            self.histogram(jnp.zeros(())) + 1e-5
        )
        return params

    def values(self, params: Params, obs: jax.Array, action: jax.Array) -> jax.Array:
        return self._mean(self._outputs(params, obs, action))

    def histogram(self, target: jax.Array) -> jax.Array:
        """Share of N(target, sigma^2), truncated to the support, in each bin: (..., bins)."""
        target = jnp.clip(target, self.v_min, self.v_max)[..., None]
        cdf = jax.scipy.stats.norm.cdf(self._edges, target, self.sigma)
        return jnp.diff(cdf, axis=-1) / (cdf[..., -1:] - cdf[..., :1])

    def loss(
        self, params: Params, obs: jax.Array, action: jax.Array, target: jax.Array, mask: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        logits = self._outputs(params, obs, action)
        error = -jnp.sum(self.histogram(target) * jax.nn.log_softmax(logits), -1)
        return jnp.sum(_masked_mean(error, mask)), self._mean(logits)

    @property
    def _edges(self) -> jax.Array:
        return jnp.linspace(self.v_min, self.v_max, self.bins + 1, dtype=jnp.float32)

    def _mean(self, logits: jax.Array) -> jax.Array:
        centers = 0.5 * (self._edges[1:] + self._edges[:-1])
        return jnp.sum(jax.nn.softmax(logits) * centers, -1)


def make_critic(
    config: CriticConfig, obs_size: int, action_size: int, dtype: Any, trunk: int = 0
) -> Critic:
    """The critic that `config.kind` names; trunk: see `MLP`."""
    one: dict[str, Any] = {
        "hidden": tuple(config.hidden),
        "out": config.bins if config.kind == "hl_gauss" else 1,
        "activation": config.activation,
        "layer_norm": config.layer_norm,
        "dtype": dtype,
        "trunk": trunk,
    }
    critics = config.critics
    net = MLP(**one) if critics == 1 else ensemble(critics, **one)
    if config.kind == "scalar":
        return ScalarCritic(net, critics, obs_size, action_size, config.twin)
    width = (config.v_max - config.v_min) / config.bins
    return HLGaussCritic(
        net,
        critics,
        obs_size,
        action_size,
        config.twin,
        config.v_min,
        config.v_max,
        config.bins,
        config.sigma_bins * width,
    )
