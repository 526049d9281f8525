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

    def target(self, params: Params) -> Params | None:
        """The first target critic, a copy of `params`; None if the critic is its own target."""
        ...

    def values(self, params: Params, obs: jax.Array, action: jax.Array) -> jax.Array:
        """Q of every critic: (..., obs_size), (..., action_size), whose leading axes broadcast ->
        (critics, ...)."""
        ...

    def value(self, params: Params, obs: jax.Array, action: jax.Array) -> jax.Array:
        """Q as `CriticConfig.twin` makes it of the critics: (...,)."""
        ...

    def pair(
        self,
        params: Params,
        target: Params | None,
        obs: jax.Array,
        action: jax.Array,
        next_obs: jax.Array,
        next_action: jax.Array,
    ) -> tuple[jax.Array, jax.Array, Params]:
        """What the critics make of (s, a), for `error`; Q of (s', a') for the TD target, (batch,);
        and `params` with moved statistics of batch norm."""
        ...

    def error(
        self, outputs: jax.Array, target: jax.Array, mask: jax.Array
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
    """r + discount * Q(s', a'); no entropy term. discount is 0 after a termination."""
    return jax.lax.stop_gradient(reward + discount * next_q)


def _masked_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.sum(x * mask, -1) / jnp.maximum(jnp.sum(mask), 1.0)


@dataclass(frozen=True)
class _Critics(ABC):
    """net: an ensemble of two, or with `twin` none a single network. An ensemble of one would have
    axes of length one, with which XLA sums slowly on CPUs; batch_norm: whether it has that."""

    net: nn.Module
    batch_norm: bool
    obs_size: int
    action_size: int
    twin: str

    def init(self, key: jax.Array) -> Params:
        return self.net.init(
            key, *self._inputs(jnp.zeros((1, self.obs_size)), jnp.zeros((1, self.action_size)))
        )

    def _inputs(self, *inputs: jax.Array) -> list[jax.Array]:
        if self.twin == "none":
            return list(inputs)
        return [jnp.broadcast_to(x, (2, *x.shape)) for x in inputs]

    def target(self, params: Params) -> Params | None:
        # donated state: no buffer twice
        return None if self.batch_norm else jax.tree.map(jnp.copy, params)

    def _outputs(self, params: Params, obs: jax.Array, action: jax.Array) -> jax.Array:
        return self._of_all(self.net.apply(params, *self._inputs(obs, action)))

    def _of_all(self, out: Any) -> jax.Array:
        return cast(jax.Array, out[None] if self.twin == "none" else out)

    @abstractmethod
    def _q(self, outputs: jax.Array) -> jax.Array: ...

    def values(self, params: Params, obs: jax.Array, action: jax.Array) -> jax.Array:
        return self._q(self._outputs(params, obs, action))

    def value(self, params: Params, obs: jax.Array, action: jax.Array) -> jax.Array:
        return TWINS[self.twin](self.values(params, obs, action))

    def pair(
        self,
        params: Params,
        target: Params | None,
        obs: jax.Array,
        action: jax.Array,
        next_obs: jax.Array,
        next_action: jax.Array,
    ) -> tuple[jax.Array, jax.Array, Params]:
        if not self.batch_norm:
            next_q = self.value(target, next_obs, next_action)
            return self._outputs(params, obs, action), next_q, params
        # One batch of both, so that Q(s', a') is normalised as Q(s, a) is. That also makes a target
        # critic unnecessary (CrossQ, arXiv 1902.05605).
        both = jnp.concatenate([obs, next_obs]), jnp.concatenate([action, next_action])
        out, moved = self.net.clone(train=True).apply(
            params, *self._inputs(*both), mutable=["batch_stats"]
        )
        outputs, next_outputs = jnp.split(self._of_all(out), 2, axis=1)
        return outputs, TWINS[self.twin](self._q(next_outputs)), {**params, **moved}


@dataclass(frozen=True)
class ScalarCritic(_Critics):
    """Squared TD error, as released."""

    def _q(self, outputs: jax.Array) -> jax.Array:
        return outputs[..., 0]

    def error(
        self, outputs: jax.Array, target: jax.Array, mask: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        q = self._q(outputs)
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

    def histogram(self, target: jax.Array) -> jax.Array:
        """Share of N(target, sigma^2), truncated to the support, in each bin: (..., bins)."""
        target = jnp.clip(target, self.v_min, self.v_max)[..., None]
        cdf = jax.scipy.stats.norm.cdf(self._edges, target, self.sigma)
        return jnp.diff(cdf, axis=-1) / (cdf[..., -1:] - cdf[..., :1])

    def error(
        self, outputs: jax.Array, target: jax.Array, mask: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        error = -jnp.sum(self.histogram(target) * jax.nn.log_softmax(outputs), -1)
        return jnp.sum(_masked_mean(error, mask)), self._q(outputs)

    @property
    def _edges(self) -> jax.Array:
        return jnp.linspace(self.v_min, self.v_max, self.bins + 1, dtype=jnp.float32)

    def _q(self, outputs: jax.Array) -> jax.Array:
        centers = 0.5 * (self._edges[1:] + self._edges[:-1])
        return jnp.sum(jax.nn.softmax(outputs) * centers, -1)


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
        "batch_norm": config.batch_norm,
    }
    net = MLP(**one) if config.twin == "none" else ensemble(2, **one)
    shape = net, config.batch_norm, obs_size, action_size, config.twin
    if config.kind == "scalar":
        return ScalarCritic(*shape)
    width = (config.v_max - config.v_min) / config.bins
    return HLGaussCritic(*shape, config.v_min, config.v_max, config.bins, config.sigma_bins * width)
