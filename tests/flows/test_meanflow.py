"""MeanFlow against NumPy in float64 and against the closed form of Gaussian targets.

With a ~ N(mu, s^2 I), eps ~ N(0, I) and x_t = (1 - t) a + t eps the flow is linear:

    x_r = m_r + sd_r / sd_t (x_t - m_t),   m_t = (1 - t) mu,   sd_t^2 = (1 - t)^2 s^2 + t^2

so the average velocity over [r, t], (x_t - x_r) / (t - r), is known exactly.
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

from fpmd_mjx.flows.meanflow import MeanFlow
from fpmd_mjx.nn.networks import FlowNet

FLOW = MeanFlow()
MU = np.array([0.4, -0.3])

# LLVM's passes cost more than they save in a program that runs for a second.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

LOSS_RTOL = 1e-4  # float32 jvp against float64
MAP_ATOL = 1e-5  # float32 against float64, up to 20 jumps


def batch(seed: int, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """(target, noise, r, t), as exact in float32 as in float64."""
    rng = np.random.default_rng(seed)
    drawn = rng.uniform(-1, 1, (*shape, 2)), rng.standard_normal((*shape, 2))
    times = np.sort(rng.random((2, *shape)), axis=0)
    return tuple(x.astype(np.float32).astype(np.float64) for x in (*drawn, *times))


def single(*arrays: np.ndarray) -> tuple[jax.Array, ...]:
    return tuple(jnp.asarray(x, jnp.float32) for x in arrays)


# ------------------------------------------------------------------------ fields with a du / dt


def analytic(x: Any, r: Any, t: Any, np: Any) -> Any:
    """A field whose derivatives are below."""
    r, t = r[..., None], t[..., None]
    return np.sin(2 * x) * np.cos(t) + r * t**2 * x[..., ::-1]


def analytic_rate(x: np.ndarray, v: np.ndarray, r: np.ndarray, t: np.ndarray) -> np.ndarray:
    """d/dt along (v, 0, 1), by hand."""
    r, t = r[..., None], t[..., None]
    along_x = 2 * np.cos(2 * x) * np.cos(t) * v + r * t**2 * v[..., ::-1]
    return along_x - np.sin(2 * x) * np.sin(t) + 2 * r * t * x[..., ::-1]


def weights() -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    shapes = [(4, 8), (8,), (8, 2), (2,)]
    return [rng.normal(0, 0.7, s).astype(np.float32).astype(np.float64) for s in shapes]


def mlp(w: list[Any], x: Any, r: Any, t: Any, np: Any) -> Any:
    """A small network for NumPy and JAX alike: tanh of (x, r, t), then linear."""
    features = np.concatenate([x, r[..., None], t[..., None]], -1)
    return np.tanh(features @ w[0] + w[1]) @ w[2] + w[3]


def mlp_rate(x: np.ndarray, v: np.ndarray, r: np.ndarray, t: np.ndarray) -> np.ndarray:
    """d/dt along (v, 0, 1) by central differences, good to about 1e-10."""
    h, w = 1e-5, weights()
    return (mlp(w, x + h * v, r, t + h, np) - mlp(w, x - h * v, r, t - h, np)) / (2 * h)


def analytic_field(x: jax.Array, r: jax.Array, t: jax.Array) -> jax.Array:
    return analytic(x, r, t, jnp)


def mlp_field(x: jax.Array, r: jax.Array, t: jax.Array) -> jax.Array:
    return mlp([jnp.asarray(w, jnp.float32) for w in weights()], x, r, t, jnp)


FIELDS: dict[str, tuple[Any, Any, Any]] = {
    "analytic": (analytic_field, lambda *args: analytic(*args, np), analytic_rate),
    "mlp": (mlp_field, lambda *args: mlp(weights(), *args, np), mlp_rate),
}


def numpy_target(rate: Any, a: np.ndarray, eps: np.ndarray, r: Any, t: Any) -> np.ndarray:
    x_t, v = (1 - t)[..., None] * a + t[..., None] * eps, eps - a
    return v - (t - r)[..., None] * rate(x_t, v, r, t)


@pytest.mark.parametrize("shape", [(64,), (3, 5)])
@pytest.mark.parametrize("name", FIELDS)
def test_errors_equal_numpy(name: str, shape: tuple[int, ...]) -> None:
    field, exact, rate = FIELDS[name]
    a, eps, r, t = batch(0, shape)
    x_t = (1 - t)[..., None] * a + t[..., None] * eps
    wanted = np.sum((exact(x_t, r, t) - numpy_target(rate, a, eps, r, t)) ** 2, -1)
    got = jit(functools.partial(FLOW.errors, field))(*single(a, eps), single(r, t))
    assert got.shape == shape
    np.testing.assert_allclose(got, wanted, rtol=LOSS_RTOL, atol=1e-5)


@pytest.mark.parametrize("name", FIELDS)
def test_the_regression_target_equals_numpy(name: str) -> None:
    """A constant c on top of the field has no du/dt, so the gradient of |u + c - target|^2 in c at
    c = 0 is 2 (u - target): it gives the target itself."""
    field, exact, rate = FIELDS[name]
    a, eps, r, t = batch(1, (64,))
    args = (*single(a, eps), single(r, t))

    @jit
    @jax.grad
    def gradient(c: jax.Array) -> jax.Array:
        return jnp.sum(FLOW.errors(lambda x, r, t: field(x, r, t) + c, *args))

    u = exact((1 - t)[..., None] * a + t[..., None] * eps, r, t)
    target = u - np.array(gradient(jnp.zeros((64, 2)))) / 2
    np.testing.assert_allclose(target, numpy_target(rate, a, eps, r, t), rtol=1e-4, atol=1e-5)


def test_no_gradient_passes_through_the_target() -> None:
    """The gradient is that of the distance to a constant, and not that of the whole expression."""
    a, eps, r, t = batch(2, (64,))
    args = (*single(a, eps), single(r, t))
    constant = jnp.asarray(numpy_target(mlp_rate, a, eps, r, t), jnp.float32)
    x_t, v = single((1 - t)[..., None] * a + t[..., None] * eps, eps - a)
    r, t = single(r, t)

    def ours(w: Any) -> jax.Array:
        return jnp.mean(FLOW.errors(lambda x, r, t: mlp(w, x, r, t, jnp), *args))

    def explicit(w: Any) -> jax.Array:
        return jnp.mean(jnp.sum((mlp(w, x_t, r, t, jnp) - constant) ** 2, -1))

    def unstopped(w: Any) -> jax.Array:
        u, rate = jax.jvp(lambda x, t: mlp(w, x, r, t, jnp), (x_t, t), (v, jnp.ones_like(t)))
        return jnp.mean(jnp.sum((u - v + (t - r)[:, None] * rate) ** 2, -1))

    w = [jnp.asarray(x, jnp.float32) for x in weights()]
    got, wanted, other = (jit(jax.grad(f))(w) for f in (ours, explicit, unstopped))
    assert float(jit(ours)(w)) == pytest.approx(float(jit(unstopped)(w)), rel=1e-5)
    for g, e in zip(got, wanted, strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-4, atol=1e-5)
    assert max(float(jnp.max(jnp.abs(g - o))) for g, o in zip(got, other, strict=True)) > 0.1


def test_equal_times_are_plain_flow_matching() -> None:
    a, eps, _, t = batch(3, (64,))
    x_t = (1 - t)[..., None] * a + t[..., None] * eps
    wanted = np.sum((analytic(x_t, t, t, np) - (eps - a)) ** 2, -1)
    got = jit(functools.partial(FLOW.errors, analytic_field))(*single(a, eps), single(t, t))
    np.testing.assert_allclose(got, wanted, rtol=LOSS_RTOL, atol=1e-5)


# ---------------------------------------------------------------------------------------- times


def test_times_are_two_uniform_draws_in_order() -> None:
    draw = jit(lambda key: MeanFlow().draw_times(key, (4, 5000)))
    r, t = (np.array(x) for x in draw(jax.random.key(0)))
    assert r.shape == t.shape == (4, 5000)
    assert np.all(r < t)
    assert scipy.stats.kstest(r.ravel(), lambda x: 1 - (1 - x) ** 2).pvalue > 1e-3
    assert scipy.stats.kstest(t.ravel(), lambda x: x**2).pvalue > 1e-3
    # given t, the earlier of two uniform draws is uniform below it
    assert scipy.stats.kstest((r / t).ravel(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("share", [0.25, 0.75, 1.0])
def test_the_share_of_equal_times(share: float) -> None:
    draw = jit(lambda key: MeanFlow(equal_share=share).draw_times(key, (20_000,)))
    r, t = (np.array(x) for x in draw(jax.random.key(1)))
    # 4 standard errors of a share of 20,000 draws
    assert np.mean(r == t) == pytest.approx(share, abs=0.012)
    assert np.all(r <= t)
    assert scipy.stats.kstest(t, lambda x: x**2).pvalue > 1e-3


# ------------------------------------------------------------------------------ Gaussian targets


def deviation(t: Any, s: float, np: Any) -> Any:
    return np.sqrt((1 - t) ** 2 * s**2 + t**2)


def average_velocity(x: Any, r: Any, t: Any, s: float, np: Any = jnp) -> Any:
    """u of the Gaussian path; sd_t - sd_r is written as a quotient, so that r = t is no 0 / 0."""
    r, t = r[..., None], t[..., None]
    sd_r, sd_t = deviation(r, s, np), deviation(t, s, np)
    stretch = ((t + r) - s**2 * (2 - t - r)) / (sd_r + sd_t)  # (sd_t - sd_r) / (t - r)
    return -MU + stretch / sd_t * (x - (1 - t) * MU)


def flow_map(x: np.ndarray, r: np.ndarray, t: np.ndarray, s: float) -> np.ndarray:
    r, t = r[..., None], t[..., None]
    return (1 - r) * MU + deviation(r, s, np) / deviation(t, s, np) * (x - (1 - t) * MU)


def test_the_closed_form_is_the_average_velocity() -> None:
    rng = np.random.default_rng(4)
    x, (r, t) = rng.standard_normal((200, 2)), np.sort(rng.random((2, 200)), axis=0)
    moved = x - (t - r)[:, None] * average_velocity(x, r, t, 0.5, np)
    np.testing.assert_allclose(moved, flow_map(x, r, t, 0.5), atol=1e-12)


@pytest.mark.parametrize("s", [0.1, 0.5, 1.5])
def test_the_closed_form_satisfies_the_meanflow_identity(s: float) -> None:
    """With a and eps such that eps - a is the marginal velocity at x_t, the error of u is zero."""
    rng = np.random.default_rng(5)
    x, (r, t) = rng.standard_normal((500, 2)), np.sort(rng.random((2, 500)), axis=0)
    v = average_velocity(x, t, t, s, np)
    a, eps = x - t[:, None] * v, x + (1 - t)[:, None] * v
    args = (*single(a, eps), single(r, t))
    errors = jit(lambda b: FLOW.errors(lambda *z: b * average_velocity(*z, s), *args))
    # squares of float32 rounding, larger where v is: at s = 0.1 up to 10
    assert float(jnp.max(errors(1.0))) < 1e-8 * (1 + np.max(v**2))
    assert float(jnp.mean(errors(1.05))) > 1e-4  # the test can tell a field that is 5 % off


@pytest.mark.parametrize("s", [0.1, 0.5, 1.5])
def test_any_number_of_jumps_gives_the_target(s: float) -> None:
    x = np.random.default_rng(6).standard_normal((50_000, 2))
    for steps in (1, 2, 5, 20):
        got = jit(lambda x, k=steps: FLOW.sample(lambda *z: average_velocity(*z, s), x, k))(
            jnp.asarray(x, jnp.float32)
        )
        np.testing.assert_allclose(got, MU + s * x, rtol=0, atol=MAP_ATOL)
        # 4 standard errors of 50,000 draws
        np.testing.assert_allclose(np.mean(got, 0), MU, atol=0.018 * s)
        np.testing.assert_allclose(np.std(got, 0), s, rtol=0.013)


def test_jumps_are_of_equal_length_and_meet() -> None:
    intervals = []

    def record(x: jax.Array, r: jax.Array, t: jax.Array) -> jax.Array:
        jax.debug.callback(lambda r, t: intervals.append((float(r), float(t))), r, t)
        return jnp.zeros_like(x)

    jit(lambda x: FLOW.sample(record, x, 4))(jnp.zeros((3, 2))).block_until_ready()
    jax.effects_barrier()
    wanted = [(0.75, 1.0), (0.5, 0.75), (0.25, 0.5), (0.0, 0.25)]
    np.testing.assert_allclose(sorted(intervals, reverse=True), wanted, atol=1e-6)


# --------------------------------------------------------------------------------- trained field


@functools.cache
def trained(s: float) -> Callable[..., jax.Array]:
    """A small network fitted to N(MU, s^2 I)."""
    net = FlowNet((48, 48))
    times = [jnp.zeros(1)] * 2
    params = jit(net.init)(jax.random.key(0), jnp.zeros((1, 0)), jnp.zeros((1, 2)), *times)
    steps, size = 1500, 256
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, steps))

    def field(params: Any) -> Callable[..., jax.Array]:
        return lambda x, r, t: net.apply(params, jnp.zeros((*x.shape[:-1], 0)), x, r, t)  # type: ignore[return-value]

    def step(carry: Any, key: jax.Array) -> Any:
        params, state = carry
        keys = jax.random.split(key)
        a, eps = (
            MU + s * jax.random.normal(keys[0], (size, 2)),
            jax.random.normal(keys[1], (size, 2)),
        )
        times = FLOW.draw_times(keys[1], (size,))
        gradient = jax.grad(lambda p: jnp.mean(FLOW.errors(field(p), a, eps, times)))(params)
        change, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, change), state), None

    keys = jax.random.split(jax.random.key(1), steps)
    fit = jit(lambda c: jax.lax.scan(step, c, keys)[0][0])
    params = fit((params, optimizer.init(params)))
    return field(params)


# 1,500 steps of a 2 x 48 network; the target's std is 0.5
TRAINED_MAP_TOL, TRAINED_STD_RTOL = 0.05, 0.1


@pytest.mark.parametrize("steps", [1, 5])
def test_a_trained_field_maps_noise_to_the_target(steps: int) -> None:
    s = 0.5
    x = np.random.default_rng(7).standard_normal((4000, 2))
    field = trained(s)
    got = np.array(jit(lambda x: FLOW.sample(field, x, steps))(jnp.asarray(x, jnp.float32)))
    assert np.abs(got - (MU + s * x)).mean() < TRAINED_MAP_TOL
    np.testing.assert_allclose(got.mean(0), MU, atol=TRAINED_MAP_TOL)
    np.testing.assert_allclose(got.std(0), s, rtol=TRAINED_STD_RTOL)
