"""The rectified flow against NumPy in float64 and against the closed form of Gaussian targets.

With a ~ N(mu, s^2 I), eps ~ N(0, I) and x_t = t a + (1 - t) eps, a - eps and x_t are jointly
Gaussian:

    v*(x, t) = E[a - eps | x_t = x] = mu + (t s^2 - (1 - t)) / var_t (x - t mu)
    var_t = t^2 s^2 + (1 - t)^2

and the flow of v* carries x_0 to x_t = t mu + sqrt(var_t) x_0.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from fpmd_mjx.flows.rectified import RectifiedFlow
from fpmd_mjx.nn.networks import FlowNet

FLOW = RectifiedFlow()
MU = np.array([0.4, -0.3])

# LLVM's passes cost more than they save in a program that runs for a second.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

LOSS_RTOL = 2e-5  # float32 against float64, sums of a few squares
MAP_ATOL = 1e-5  # float32 against float64, up to a few hundred Euler steps


def velocity(x: Any, t: Any, s: float) -> Any:
    """v* for NumPy and JAX arrays alike."""
    t = t[..., None]
    return MU + (t * s**2 - (1 - t)) / (t**2 * s**2 + (1 - t) ** 2) * (x - t * MU)


@functools.partial(jit, static_argnums=(1, 2))
def sampled(x: jax.Array, s: float, steps: int) -> jax.Array:
    return FLOW.sample(lambda x, t: velocity(x, t, s), x, steps)


def euler(x: np.ndarray, s: float, steps: int) -> np.ndarray:
    """The sampler, float64."""
    for i in range(steps):
        x = x + velocity(x, np.full(x.shape[:-1], i / steps), s) / steps
    return x


def batch(seed: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(target, noise, t), as exact in float32 as in float64."""
    rng = np.random.default_rng(seed)
    drawn = rng.uniform(-1, 1, (*shape, 2)), rng.standard_normal((*shape, 2)), rng.random(shape)
    a, eps, t = (x.astype(np.float32).astype(np.float64) for x in drawn)
    return a, eps, t


def single(*arrays: np.ndarray) -> tuple[jax.Array, ...]:
    return tuple(jnp.asarray(x, jnp.float32) for x in arrays)


# ----------------------------------------------------------------------------------------- loss


def mlp(weights: list[Any], x: Any, t: Any, np: Any) -> Any:
    """A small network for NumPy and JAX alike: tanh of (x, t), then linear."""
    hidden = np.tanh(np.concatenate([x, t[..., None]], -1) @ weights[0] + weights[1])
    return hidden @ weights[2] + weights[3]


def mlp_weights() -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    shapes = [(3, 8), (8,), (8, 2), (2,)]
    return [rng.normal(0, 0.7, s).astype(np.float32).astype(np.float64) for s in shapes]


def numpy_errors(
    weights: list[np.ndarray], a: np.ndarray, eps: np.ndarray, t: np.ndarray
) -> np.ndarray:
    x_t = a * t[..., None] + eps * (1 - t)[..., None]
    return np.sum((mlp(weights, x_t, t, np) - (a - eps)) ** 2, -1)


@pytest.mark.parametrize("shape", [(64,), (3, 5)])
def test_errors_equal_numpy(shape: tuple[int, ...]) -> None:
    a, eps, t = batch(0, shape)
    weights = mlp_weights()
    field = lambda x, t: mlp([jnp.asarray(w, jnp.float32) for w in weights], x, t, jnp)  # noqa: E731
    got = FLOW.errors(field, *single(a, eps), single(t))
    assert got.shape == shape
    np.testing.assert_allclose(got, numpy_errors(weights, a, eps, t), rtol=LOSS_RTOL)


def test_gradient_equals_central_differences() -> None:
    a, eps, t = batch(1, (64,))
    weights = mlp_weights()
    args = (*single(a, eps), single(t))

    @jit
    @jax.grad
    def gradient(weights: list[jax.Array]) -> jax.Array:
        return jnp.mean(FLOW.errors(lambda x, t: mlp(weights, x, t, jnp), *args))

    got = gradient([jnp.asarray(w, jnp.float32) for w in weights])
    h = 1e-6
    for layer, g in enumerate(got):
        for index in list(np.ndindex(g.shape))[::3]:
            up, down = ([w.copy() for w in weights] for _ in range(2))
            up[layer][index] += h
            down[layer][index] -= h
            wanted = [numpy_errors(w, a, eps, t).mean() for w in (up, down)]
            # float32 sums of 64 terms
            assert g[index] == pytest.approx((wanted[0] - wanted[1]) / (2 * h), rel=1e-4, abs=1e-5)


def test_interpolates_from_noise_to_data() -> None:
    a, eps, _ = batch(2, (8,))
    seen = []
    for t in (0.0, 0.25, 1.0):
        FLOW.errors(
            lambda x, t: seen.append((x, t)) or jnp.zeros_like(x),
            *single(a, eps),
            (jnp.full(8, t),),
        )
    for (x, t), wanted in zip(seen, (eps, 0.75 * eps + 0.25 * a, a), strict=True):
        np.testing.assert_allclose(x, wanted, rtol=1e-6, atol=1e-7)
        assert t.shape == (8,)


@pytest.mark.parametrize("power", [1.0, 4.0])
def test_times_are_powers_of_uniform_ones(power: float) -> None:
    flow = RectifiedFlow(time_power=power)
    (t,) = jit(lambda key: flow.draw_times(key, (4, 5000)))(jax.random.key(0))
    assert t.shape == (4, 5000)
    # P(u^p <= t) = t^(1/p), the distribution Beta(1/p, 1)
    assert scipy.stats.kstest(np.array(t).ravel(), scipy.stats.beta(1 / power, 1).cdf).pvalue > 1e-3


# ------------------------------------------------------------------------------ Gaussian targets


@pytest.mark.parametrize("s", [0.1, 0.5, 1.5])
def test_the_loss_is_least_at_the_closed_form(s: float) -> None:
    """Its least value is the variance of a - eps given x_t; any offset delta adds |delta|^2."""
    rng = np.random.default_rng(3)
    n = 50_000
    a, eps, t = MU + s * rng.standard_normal((n, 2)), rng.standard_normal((n, 2)), rng.random(n)
    args = (*single(a, eps), single(t))
    errors = jit(lambda delta: FLOW.errors(lambda x, t: velocity(x, t, s) + delta, *args))
    var_t = t**2 * s**2 + (1 - t) ** 2
    least = np.mean(2 * (1 + s**2 - (t * s**2 - (1 - t)) ** 2 / var_t))
    at_optimum = np.array(errors(jnp.zeros(2)), np.float64)
    standard_error = at_optimum.std() / np.sqrt(n)
    assert at_optimum.mean() == pytest.approx(least, abs=4 * standard_error)
    for delta in (jnp.asarray([0.3, 0.0]), jnp.asarray([-0.1, 0.2])):
        excess = np.array(errors(delta), np.float64) - at_optimum
        cost = float(jnp.sum(delta**2))
        assert excess.mean() == pytest.approx(cost, abs=4 * excess.std() / np.sqrt(n))


@pytest.mark.parametrize("steps", [1, 2, 20])
@pytest.mark.parametrize("s", [0.1, 1.5])
def test_the_sampler_takes_euler_steps(steps: int, s: float) -> None:
    x = np.random.default_rng(4).standard_normal((50, 2))
    got = sampled(*single(x), s, steps)
    np.testing.assert_allclose(got, euler(x, s, steps), rtol=0, atol=MAP_ATOL)


def test_many_steps_give_the_target() -> None:
    """x_0 -> mu + s x_0, at the first order of Euler steps."""
    s = 0.5
    x = np.random.default_rng(5).standard_normal((2000, 2))
    gaps = [np.array(sampled(*single(x), s, steps)) - (MU + s * x) for steps in (100, 200, 400)]
    sizes = [np.abs(gap).mean() for gap in gaps]
    assert sizes[-1] < 2e-3
    assert sizes[0] / sizes[1] == pytest.approx(2.0, abs=0.05)
    assert sizes[1] / sizes[2] == pytest.approx(2.0, abs=0.05)


def test_one_step_gives_the_mean() -> None:
    """v*(x, 0) = mu - x: one step ends in the mean wherever it starts, at the distance s |x_0|
    from where the flow ends; its squared mean is the variance of the target, the paper's bound."""
    x = np.random.default_rng(6).standard_normal((20_000, 2))
    distances = []
    for s in (1.0, 0.5, 0.25, 0.1, 0.02):
        one = np.array(sampled(*single(x), s, 1))
        np.testing.assert_allclose(one, np.broadcast_to(MU, x.shape), atol=1e-6)
        distances.append(np.sum((one - (MU + s * x)) ** 2, -1).mean())
        assert distances[-1] == pytest.approx(2 * s**2, rel=0.02)  # 20,000 draws
    assert np.all(np.diff(distances) < 0)


@pytest.mark.parametrize("spread", [0.8, 0.4, 0.1])
def test_one_step_error_of_a_mixture_is_its_variance_too(spread: float) -> None:
    """Two modes at +-spread: one step collapses to the middle, between the modes."""
    modes, s = np.array([-spread, spread]), 0.05

    def mixture(x: jax.Array, t: jax.Array) -> jax.Array:
        t = t[..., None]
        var = t**2 * s**2 + (1 - t) ** 2
        share = jax.nn.softmax(-0.5 * (x - t * modes) ** 2 / var)  # of the modes, given x_t
        velocities = modes + (t * s**2 - (1 - t)) / var * (x - t * modes)
        return jnp.sum(share * velocities, -1, keepdims=True)

    x = jnp.asarray(np.random.default_rng(7).standard_normal((5000, 1)), jnp.float32)
    run = jit(functools.partial(FLOW.sample, mixture), static_argnums=1)
    one, many = (np.array(run(x, steps), np.float64) for steps in (1, 400))
    np.testing.assert_allclose(one, 0.0, atol=1e-6)
    # the flow itself keeps both modes (400 steps, 5000 draws)
    assert np.mean(many > 0) == pytest.approx(0.5, abs=0.03)
    assert np.abs(many).mean() == pytest.approx(spread, abs=0.03)
    variance = spread**2 + s**2
    assert np.mean((many - one) ** 2) == pytest.approx(variance, rel=0.05)


# --------------------------------------------------------------------------------- trained field


@functools.cache
def trained(s: float, power: float = 1.0) -> Callable[..., jax.Array]:
    """A small network fitted to N(MU, s^2 I)."""
    flow, net = RectifiedFlow(time_power=power), FlowNet((48, 48))
    params = jit(net.init)(jax.random.key(0), jnp.zeros((1, 0)), jnp.zeros((1, 2)), jnp.zeros(1))
    steps, size = 600, 256
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, steps))

    def field(params: Any) -> Callable[..., jax.Array]:
        return lambda x, t: net.apply(params, jnp.zeros((*x.shape[:-1], 0)), x, t)  # type: ignore[return-value]

    def step(carry: Any, key: jax.Array) -> Any:
        params, state = carry
        target_key, noise_key, time_key = jax.random.split(key, 3)
        a = MU + s * jax.random.normal(target_key, (size, 2))
        eps = jax.random.normal(noise_key, (size, 2))
        times = flow.draw_times(time_key, (size,))
        gradient = jax.grad(lambda p: jnp.mean(flow.errors(field(p), a, eps, times)))(params)
        change, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, change), state), None

    keys = jax.random.split(jax.random.key(1), steps)
    fit = jit(lambda c: jax.lax.scan(step, c, keys)[0][0])
    params = fit((params, optimizer.init(params)))
    return field(params)


# 600 steps of a 2 x 48 network; velocities are of size 1
FIELD_TOL, TRAINED_MAP_TOL = 0.1, 0.08


def test_a_trained_field_is_the_closed_form() -> None:
    s = 0.5
    rng = np.random.default_rng(8)
    t = rng.random(4000)
    a, eps = MU + s * rng.standard_normal((4000, 2)), rng.standard_normal((4000, 2))
    x = t[:, None] * a + (1 - t)[:, None] * eps
    gap = np.array(jit(trained(s))(*single(x, t))) - velocity(x, t, s)
    assert np.sqrt(np.mean(gap**2)) < FIELD_TOL


def test_a_trained_field_maps_noise_to_the_target() -> None:
    s = 0.5
    x = np.random.default_rng(9).standard_normal((4000, 2))
    noise = jnp.asarray(x, jnp.float32)
    field = trained(s)
    one, many = (jit(lambda n, k=k: FLOW.sample(field, n, k))(noise) for k in (1, 20))
    assert np.abs(np.array(one) - MU).mean() < TRAINED_MAP_TOL
    assert np.abs(np.array(many) - euler(x, s, 20)).mean() < TRAINED_MAP_TOL


def test_early_times_make_the_one_step_of_a_narrow_target_more_exact() -> None:
    """At t = 0 the field is mu - x; late times only add noise there."""
    s = 0.1
    x = np.random.default_rng(10).standard_normal((4000, 2))
    start = single(x, np.zeros(4000))
    error = {
        power: np.sqrt(np.mean((np.array(jit(trained(s, power))(*start)) - (MU - x)) ** 2))
        for power in (1.0, 4.0)
    }
    assert error[4.0] < 0.7 * error[1.0]
