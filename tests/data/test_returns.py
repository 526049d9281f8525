"""The scale of returns against NumPy over all rewards at once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fpmd_mjx.data import returns

GAMMA = 0.9

update = jax.jit(functools.partial(returns.update, gamma=GAMMA))


def fold(reward: np.ndarray, ended: np.ndarray) -> returns.Returns:
    """Statistics of rewards (steps, num_envs)."""
    stats = returns.init(reward.shape[1])
    for r, e in zip(reward, ended, strict=True):
        stats = update(stats, jnp.asarray(r, jnp.float32), jnp.asarray(e))
    return stats


def running(reward: np.ndarray, ended: np.ndarray) -> np.ndarray:
    """The discounted sum of the episode so far, at every step."""
    sums = np.zeros_like(reward)
    for env in range(reward.shape[1]):
        begin = 0
        for t in range(len(reward)):
            powers = GAMMA ** np.arange(t - begin, -1, -1)
            sums[t, env] = powers @ reward[begin : t + 1, env]
            begin = t + 1 if ended[t, env] else begin
    return sums


@pytest.mark.parametrize(
    ("mean", "std", "which"), [(0.0, 3.0, "std"), (2.0, 0.1, "largest"), (-2.0, 0.1, "largest")]
)
def test_the_scale_is_that_of_all_returns_so_far(mean: float, std: float, which: str) -> None:
    rng = np.random.default_rng(0)
    reward, ended = mean + std * rng.standard_normal((300, 4)), rng.random((300, 4)) < 0.003
    sums = running(reward, ended)
    wanted = {"std": sums.std(), "largest": np.abs(sums).max() / returns.LARGEST}
    assert wanted[which] == max(wanted.values())
    np.testing.assert_allclose(returns.scale(fold(reward, ended)), wanted[which], rtol=1e-3)


def test_scaled_rewards_have_returns_in_the_range_of_a_critic() -> None:
    """A rare reward is what the largest return is for: the standard deviation alone would scale it
    far beyond the range."""
    reward = np.zeros((2000, 2))
    reward[1500, 0] = 40.0
    ended = np.zeros((2000, 2), bool)
    scale = float(returns.scale(fold(reward, ended)))
    sums = running(reward, ended)
    assert np.abs(sums / scale).max() == pytest.approx(returns.LARGEST)
    assert np.abs(sums / sums.std()).max() > 5 * returns.LARGEST


def test_nothing_is_scaled_until_something_was_paid() -> None:
    assert returns.scale(returns.init(3)) == 1.0
    stats = fold(np.zeros((5, 3)), np.zeros((5, 3), bool))
    assert returns.scale(stats) == 1.0
