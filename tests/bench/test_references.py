"""The reference policies are what they are named after."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fpmd_mjx.bench.references import Diffusion, Gaussian, signal_share


class Exact(nn.Module):
    """The noise in x if all data is the point obs."""

    def __call__(self, obs: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
        signal = signal_share(t)[..., None]
        return (x - jnp.sqrt(signal) * obs) / jnp.sqrt(1.0 - signal)


class Fair(nn.Module):
    """The expected noise in x if the data is -1 or 1, each half of the time."""

    def __call__(self, obs: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
        signal = signal_share(t)[..., None]
        mean = jnp.tanh(jnp.sqrt(signal) * x / (1.0 - signal))
        return (x - jnp.sqrt(signal) * mean) / jnp.sqrt(1.0 - signal)


def test_diffusion_finds_the_point() -> None:
    point = jnp.array([[0.3, -0.9], [0.0, 1.0]])
    found = Diffusion(Exact(), 2, 2).sample({}, point, jax.random.key(0), 20)
    np.testing.assert_allclose(found, point, atol=1e-3)


def test_diffusion_finds_both_modes() -> None:
    obs = jnp.zeros((4000, 1))
    found = np.asarray(Diffusion(Fair(), 1, 1).sample({}, obs, jax.random.key(0), 20))
    assert np.mean(np.abs(np.abs(found) - 1.0) < 0.05) > 0.95
    assert abs(found.mean()) < 0.08  # five standard errors


def test_gaussian_is_the_squashed_mean() -> None:
    class Net(nn.Module):
        def __call__(self, obs: jax.Array) -> Any:
            return jnp.concatenate([obs, 100.0 + obs], -1)

    obs = jnp.array([[0.5, -2.0]])
    np.testing.assert_allclose(Gaussian(Net(), 2).mean({}, obs), np.tanh(obs), rtol=1e-6)
