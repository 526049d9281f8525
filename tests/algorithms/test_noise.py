"""The noise schedule against an independent Adam in float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fpmd_mjx.algorithms import noise as exploration
from fpmd_mjx.config.schema import NoiseConfig


def adam_schedule(config: NoiseConfig, steps: int) -> np.ndarray:
    """alpha after 0, 1, ... `steps` Adam steps (Kingma and Ba, algorithm 1) on log alpha."""
    beta1, beta2, epsilon = 0.9, 0.999, 1e-8
    log_alpha, m, v = math.log(config.init_alpha), 0.0, 0.0
    alphas = [math.exp(log_alpha)]
    for step in range(1, steps + 1):
        # entropy of N(0, (scale alpha)^2) a dimension, minus its target
        deviation = config.scale * math.exp(log_alpha)
        gradient = 0.5 + 0.5 * math.log(2 * math.pi) + math.log(deviation) - config.target_entropy
        m = beta1 * m + (1 - beta1) * gradient
        v = beta2 * v + (1 - beta2) * gradient**2
        step_size = config.lr * (m / (1 - beta1**step))
        log_alpha -= step_size / (math.sqrt(v / (1 - beta2**step)) + epsilon)
        alphas.append(math.exp(log_alpha))
    return np.array(alphas)


def alphas_of(config: NoiseConfig, steps: int) -> np.ndarray:
    def body(noise: exploration.Noise, _: None) -> tuple[exploration.Noise, jax.Array]:
        return exploration.anneal(noise, config), noise.alpha

    return np.array(
        jax.jit(lambda n: jax.lax.scan(body, n, None, steps + 1)[1])(exploration.init(config))
    )


@pytest.mark.parametrize(
    "config",
    [NoiseConfig(), NoiseConfig(scale=0.3, init_alpha=1.0, lr=0.02, target_entropy=-2.0)],
    ids=["released", "other"],
)
def test_follows_adam(config: NoiseConfig) -> None:
    # float32 log alpha, 1000 steps of rounding
    np.testing.assert_allclose(alphas_of(config, 1000), adam_schedule(config, 1000), rtol=1e-4)


def test_falls_to_the_released_fixed_point() -> None:
    """H = target at alpha = 0.54, std 0.054. The way of 318 learning rates in log alpha takes
    longer than 318 steps, because Adam's steps shrink with the gradient."""
    config = NoiseConfig()
    alphas = alphas_of(config, 1500)
    fixed_point = math.exp(config.target_entropy) / math.sqrt(2 * math.pi * math.e) / config.scale
    assert fixed_point == pytest.approx(0.54, abs=5e-4)
    assert math.log(config.init_alpha / fixed_point) / config.lr == pytest.approx(318, abs=0.5)
    assert np.all(np.diff(alphas[:1000]) < 0)
    assert alphas[318] == pytest.approx(0.955, abs=2e-3)
    assert np.argmax(alphas < 1.05 * fixed_point) == 663
    assert alphas[-1] == pytest.approx(fixed_point, rel=1e-3)


def test_noise_starts_at_half_the_action_range_and_ends_at_a_twentieth() -> None:
    config = NoiseConfig()
    noise = exploration.init(config)
    assert float(exploration.std(noise, config)) == pytest.approx(0.5, rel=1e-6)
    alphas = alphas_of(config, 1500)
    # Adam's first steps are of the learning rate's size
    np.testing.assert_allclose(
        np.log(alphas[:3]), math.log(5.0) - config.lr * np.arange(3), atol=1e-4
    )
    settled = exploration.Noise(jnp.log(alphas[-1]), noise.opt)
    assert float(exploration.std(settled, config)) == pytest.approx(0.054, abs=1e-4)


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("num_envs", [1, 2, 7])
def test_environments_have_the_noise_on_average(spread: float, num_envs: int) -> None:
    config = NoiseConfig(spread=spread)
    state = exploration.init(config)
    stds = np.asarray(exploration.stds(state, config, num_envs))
    std = float(exploration.std(state, config))
    assert stds.shape == (num_envs, 1)
    np.testing.assert_allclose(stds.mean(), std, rtol=1e-6)
    if num_envs > 1:
        ends = std * (1 - spread), std * (1 + spread)
        np.testing.assert_allclose(stds[[0, -1], 0], ends, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(np.diff(stds[:, 0], 2), 0.0, atol=1e-6)
