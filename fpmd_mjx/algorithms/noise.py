"""Exploration noise a += N(0, I) * scale * alpha with the annealed alpha of the release.

log alpha takes one Adam step every `interval` updates on the surrogate entropy
H = d / 2 log(2 pi e (scale alpha)^2) against the target `target_entropy` * d. H does not depend on
the policy, so this is a schedule: alpha falls at the pace of Adam to the value with H on target.
"""

import math

import jax
import jax.numpy as jnp
import optax
from flax import struct

from fpmd_mjx.config.schema import NoiseConfig


class Noise(struct.PyTreeNode):
    """log_alpha: scalar; opt: the state of its Adam."""

    log_alpha: jax.Array
    opt: optax.OptState

    @property
    def alpha(self) -> jax.Array:
        return jnp.exp(self.log_alpha)


def init(config: NoiseConfig) -> Noise:
    log_alpha = jnp.asarray(math.log(config.init_alpha), jnp.float32)
    return Noise(log_alpha, optax.adam(config.lr).init(log_alpha))


def std(noise: Noise, config: NoiseConfig) -> jax.Array:
    """Standard deviation of the noise in units of the action range [-1, 1]: scalar."""
    return config.scale * noise.alpha


def stds(noise: Noise, config: NoiseConfig, num_envs: int) -> jax.Array:
    """Standard deviations of the environments, (num_envs, 1): `std` on average.

    Where they differ, some environments see what the policy does almost without noise, which is how
    it is deployed, and others explore further. FastTD3 (arXiv 2505.22642) mixes noise likewise.
    """
    place = jnp.linspace(-1.0, 1.0, num_envs) if num_envs > 1 else jnp.zeros(1)
    return std(noise, config) * (1.0 + config.spread * place[:, None])


def anneal(noise: Noise, config: NoiseConfig) -> Noise:
    """One Adam step on log_alpha * (H - target), per action dimension."""
    entropy = 0.5 * jnp.log(2 * math.pi * math.e * jnp.square(std(noise, config)))
    gradient = entropy - config.target_entropy
    step, opt = optax.adam(config.lr).update(gradient, noise.opt)
    return Noise(noise.log_alpha + step, opt)
