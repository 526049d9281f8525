"""Untrained policies of other algorithms, to measure the time in which they choose an action."""

from dataclasses import dataclass
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from fpmd_mjx.algorithms.base import Params


@dataclass(frozen=True)
class Gaussian:
    """The deployed policy of SAC (arXiv 1801.01290): tanh of the mean, no noise.

    net: obs (..., obs_size) -> mean and log std (..., 2 action_size).
    """

    net: nn.Module
    obs_size: int

    def init(self, key: jax.Array) -> Params:
        return self.net.init(key, jnp.zeros((1, self.obs_size)))

    def mean(self, params: Params, obs: jax.Array) -> jax.Array:
        """(..., obs_size) -> (..., action_size)."""
        out = cast(jax.Array, self.net.apply(params, obs))
        return jnp.tanh(jnp.split(out, 2, -1)[0])


@dataclass(frozen=True)
class Diffusion:
    """A denoising diffusion policy (DDPM, arXiv 2006.11239) with the cosine schedule of
    arXiv 2102.09672.

    net: (obs, x, t) -> noise in x, t in (0, 1].
    """

    net: nn.Module
    obs_size: int
    action_size: int

    def init(self, key: jax.Array) -> Params:
        obs, x = jnp.zeros((1, self.obs_size)), jnp.zeros((1, self.action_size))
        return self.net.init(key, obs, x, jnp.zeros(1))

    def sample(
        self,
        params: Params,
        obs: jax.Array,
        key: jax.Array,
        steps: int,
        *,
        repeat: tuple[int, ...] = (),
    ) -> jax.Array:
        """Actions after `steps` denoising steps, `repeat` of them for each obs: (..., obs_size) ->
        (*repeat, ..., action_size)."""
        start_key, noise_key = jax.random.split(key)
        shape = (*repeat, *obs.shape[:-1], self.action_size)

        def denoise(x: jax.Array, step: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
            t, signal, previous, key = step  # signal: the share of the data's variance in x
            noise = cast(jax.Array, self.net.apply(params, obs, x, t))
            data = (x - jnp.sqrt(1.0 - signal) * noise) / jnp.sqrt(signal)
            data = jnp.clip(data, -1.0, 1.0)
            kept = signal / previous
            mean = (
                jnp.sqrt(previous) * (1.0 - kept) * data + jnp.sqrt(kept) * (1.0 - previous) * x
            ) / (1.0 - signal)
            # 0 in the last step
            variance = (1.0 - kept) * (1.0 - previous) / (1.0 - signal)
            fresh = jax.random.normal(key, shape, jnp.float32)
            return mean + jnp.sqrt(variance) * fresh, None

        times = jnp.arange(steps, -1, -1, dtype=jnp.float32) / steps
        signals = signal_share(times)
        keys = jax.random.split(noise_key, steps)
        x = jax.random.normal(start_key, shape, jnp.float32)
        return jax.lax.scan(denoise, x, (times[:-1], signals[:-1], signals[1:], keys))[0]


def signal_share(t: jax.Array) -> jax.Array:
    """Share of the data's variance at times in [0, 1]: 1 at 0, nearly 0 at 1 (alpha bar of arXiv
    2102.09672, Eq. 17)."""
    offset = 0.008
    angle = 0.5 * jnp.pi * (t + offset) / (1.0 + offset)
    share = jnp.square(jnp.cos(angle) / jnp.cos(0.5 * jnp.pi * offset / (1.0 + offset)))
    return jnp.clip(share, 1e-4, 1.0)
