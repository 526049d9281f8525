"""Running statistics against NumPy over all observations at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fpmd_mjx.data import normalizer
from fpmd_mjx.data.normalizer import Normalizer

# float32 statistics of about 1e5 observations. Mean: relative to the standard deviation, plus some
# units in the last place of a mean far from 0. Variance: relative.
MEAN_TOL, MEAN_ROUNDING, VAR_TOL = 1e-4, 2e-6, 1e-3

update, apply = jax.jit(normalizer.update), jax.jit(normalizer.apply)

OFFSET = np.array([0.0, 5.0, -100.0])
SCALE = np.array([1.0, 0.01, 10.0])


def drifting(rng: np.random.Generator, sizes: list[int]) -> list[np.ndarray]:
    """Batches whose distribution moves, so that the variance between batches matters."""
    drift = np.linspace(-2.0, 2.0, len(sizes))
    return [
        OFFSET + SCALE * (d + (1.0 + abs(d)) * rng.standard_normal((n, 3)))
        for n, d in zip(sizes, drift, strict=True)
    ]


@pytest.mark.parametrize("sizes", [[64] * 1500, [1] * 400, [1, 1000, 64, 4096, 1]])
def test_folds_batches_into_the_statistics_of_all(sizes: list[int]) -> None:
    batches = drifting(np.random.default_rng(0), sizes)
    stats = normalizer.init(3)
    for batch in batches:
        stats = update(stats, jnp.asarray(batch, jnp.float32))
    everything = np.concatenate(batches)
    np.testing.assert_allclose(stats.count, len(everything), rtol=0)
    mean = everything.mean(0)
    np.testing.assert_array_less(
        np.abs(stats.mean - mean), MEAN_TOL * everything.std(0) + MEAN_ROUNDING * np.abs(mean)
    )
    np.testing.assert_allclose(stats.var, everything.var(0), rtol=VAR_TOL)


def test_applies_the_statistics_and_clips_to_ten_deviations() -> None:
    stats = Normalizer(jnp.asarray([1.0, -3.0]), jnp.asarray([4.0, 0.25]), jnp.float32(50))
    obs = np.array([[1.0, -3.0], [5.0, -2.0], [-2.0, -4.5], [100.0, -100.0]])
    wanted = np.array([[0.0, 0.0], [2.0, 2.0], [-1.5, -3.0], [10.0, -10.0]])
    # the variance is padded by 1e-6, which is 2e-6 of the smaller one
    np.testing.assert_allclose(apply(stats, jnp.asarray(obs, jnp.float32)), wanted, rtol=1e-5)


def test_constant_observations_stay_finite_and_centred() -> None:
    stats = update(normalizer.init(1), jnp.full((100, 1), 7.0))
    np.testing.assert_array_equal(apply(stats, jnp.asarray([[7.0], [8.0]])), [[0.0], [10.0]])


def test_without_statistics_observations_pass_unchanged() -> None:
    obs = jnp.asarray([[1e6, -0.1, 0.0]])
    np.testing.assert_array_equal(apply(normalizer.init(3), obs), obs)


def test_from_the_largest_count_on_statistics_forget_exponentially() -> None:
    full = 2.0**24
    stats = Normalizer(jnp.zeros(1), jnp.ones(1), jnp.float32(full))
    obs = jnp.asarray(np.random.default_rng(0).normal(3.0, 2.0, (2**20, 1)), jnp.float32)
    share = 2**20 / (full + 2**20)
    mean, var = float(jnp.mean(obs)), float(jnp.var(obs))
    after = update(stats, obs)
    assert float(after.count) == full
    np.testing.assert_allclose(after.mean[0], share * mean, rtol=1e-5)
    wanted = (1 - share) + share * var + share * (1 - share) * mean**2
    np.testing.assert_allclose(after.var[0], wanted, rtol=1e-5)
