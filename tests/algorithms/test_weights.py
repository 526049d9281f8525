"""Best-of-N against brute force, weights against their formulas in float64."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fpmd_mjx.algorithms.base import best_of_n
from fpmd_mjx.algorithms.weights import FORMS, QStats, effective_sample_size

OBS, ACTION = 2, 3


def stats(mean: float, std: float) -> QStats:
    return QStats(jnp.float32(mean), jnp.float32(std))


# ------------------------------------------------------------------------------------ best of N


@dataclass
class WideActor:
    """Actions beyond [-1, 1] that depend on obs; remembers what it was asked and what it gave."""

    calls: list[dict[str, Any]] = field(default_factory=list)

    def sample(
        self, params: Any, obs: jax.Array, key: jax.Array, steps: int, *, repeat: tuple[int, ...]
    ) -> jax.Array:
        noise = jax.random.normal(key, (*repeat, *obs.shape[:-1], ACTION))
        action = params * noise + jnp.sum(obs, -1, keepdims=True)
        self.calls.append({"obs": obs, "steps": steps, "action": action})
        return action


@dataclass
class RuggedCritic:
    """A Q with its maximum inside the action range; remembers what it was asked."""

    calls: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, obs: jax.Array, action: jax.Array) -> jax.Array:
        q = jnp.sum(jnp.sin(7 * action), -1) - jnp.square(obs[..., 0] - action[..., 0])
        self.calls.append({"obs": obs, "action": action, "q": q})
        return q


@functools.cache
def compiled(candidates: int) -> Callable[..., Any]:
    """Best-of-N and all that it asked of actor and critic, in one compiled function."""

    @jax.jit
    def run(obs: jax.Array, key: jax.Array, noise_std: jax.Array) -> Any:
        actor, critic = WideActor(), RuggedCritic()
        best = best_of_n(
            actor,  # type: ignore[arg-type]
            jnp.float32(0.6),
            critic,
            obs,
            key,
            candidates=candidates,
            steps=4,
            noise_std=noise_std,
        )
        return *best, actor.calls, critic.calls

    return run


def search(candidates: int, noise_std: float, seed: int = 0) -> Any:
    """(obs, action, q, calls of the actor, calls of the critic)."""
    obs = np.random.default_rng(seed).uniform(-0.5, 0.5, (400, OBS)).astype(np.float32)
    result = compiled(candidates)(obs, jax.random.key(seed), jnp.float32(noise_std))
    return jax.tree.map(np.array, (obs, *result))


@pytest.mark.parametrize("noise_std", [0.0, 0.3])
@pytest.mark.parametrize("candidates", [1, 2, 32])
def test_returns_the_best_candidate_and_its_q(candidates: int, noise_std: float) -> None:
    obs, action, q, actor, critic = search(candidates, noise_std)
    assert len(actor) == len(critic) == 1  # every candidate is evaluated once
    assert actor[0]["steps"] == 4
    seen = critic[0]
    assert seen["action"].shape == (candidates, *action.shape)
    np.testing.assert_array_equal(seen["obs"], obs)  # which all candidates share
    np.testing.assert_array_equal(actor[0]["obs"], obs)
    for row in range(len(obs)):
        best = max(range(candidates), key=lambda rank, row=row: seen["q"][rank, row])
        np.testing.assert_array_equal(action[row], seen["action"][best, row])
        assert q[row] == seen["q"][best, row]


def test_q_is_that_of_the_returned_action() -> None:
    obs, action, q, _, _ = search(32, 0.3)
    again = RuggedCritic()(jnp.asarray(obs), jnp.asarray(action))
    np.testing.assert_allclose(q, again, rtol=1e-6, atol=1e-6)


def test_noise_is_added_and_clipped_before_the_choice() -> None:
    std = 0.3
    _, _, _, actor, critic = search(32, std)
    drawn, seen = actor[0]["action"], critic[0]["action"]
    assert np.abs(drawn).max() > 1.5
    assert np.abs(seen).max() == 1.0
    inside = (np.abs(drawn) < 0.1) & (
        np.abs(seen) < 1.0
    )  # 3 std from the bounds: all but unclipped
    noise = (seen - drawn)[inside]
    assert noise.size > 3000
    assert noise.mean() == pytest.approx(0.0, abs=4 * std / np.sqrt(noise.size))
    assert noise.std() == pytest.approx(std, rel=0.05)
    # the noise is the candidate's own, independent of the draw
    assert np.unique(noise).size > 0.99 * noise.size
    assert abs(np.corrcoef(drawn[inside], noise)[0, 1]) < 0.06


def test_without_noise_candidates_are_the_clipped_draws() -> None:
    _, _, _, actor, critic = search(8, 0.0)
    np.testing.assert_array_equal(critic[0]["action"], np.clip(actor[0]["action"], -1.0, 1.0))


def test_another_key_draws_other_candidates() -> None:
    first, second = search(2, 0.0), search(2, 0.0, seed=1)
    draws = [
        actor[0]["action"] - actor[0]["obs"].sum(-1, keepdims=True)
        for _, _, _, actor, _ in (first, second)
    ]
    assert np.mean(np.isclose(*draws)) < 0.01


# -------------------------------------------------------------------------------------- weights

Q = np.random.default_rng(0).normal(10.0, 8.0, 256)


def by_formula(kind: str, q: np.ndarray, mean: float, std: float, alpha: float, t: float) -> Any:
    """The three forms of reference/algorithm.md, float64."""
    if kind == "submission":
        return np.exp(np.minimum(np.maximum(q - mean / std, -3.0), 3.0) / alpha)
    weight = np.exp((q / std) / t)
    return weight if kind == "scaled" else weight / np.mean(weight)


@pytest.mark.parametrize("kind", sorted(FORMS))
@pytest.mark.parametrize(("mean", "std", "alpha", "t"), [(30.0, 4.0, 0.54, 3.0), (-2, 9, 5, 0.5)])
def test_weights_are_those_of_the_formula(
    kind: str, mean: float, std: float, alpha: float, t: float
) -> None:
    got = FORMS[kind](jnp.asarray(Q, jnp.float32), stats(mean, std), jnp.float32(alpha), t)
    np.testing.assert_allclose(got, by_formula(kind, Q, mean, std, alpha, t), rtol=2e-5)


def test_submission_weights_subtract_the_ratio_not_the_mean() -> None:
    """The precedence as released: at Q = mean / std the weight is 1."""
    weight = FORMS["submission"](jnp.float32(7.5), stats(30.0, 4.0), jnp.float32(0.54), 3.0)
    assert float(weight) == pytest.approx(1.0)


def test_submission_weights_stay_within_their_clip() -> None:
    q = jnp.asarray([-1e30, -1e6, 1e6, 1e30])
    weight = FORMS["submission"](q, stats(0.0, 1.0), jnp.float32(0.54), 3.0)
    bound = np.exp(3.0 / 0.54)
    np.testing.assert_allclose(weight, [1 / bound, 1 / bound, bound, bound], rtol=1e-5)


@pytest.mark.parametrize("shift", [0.0, 1e4, -1e4, 1e8])
def test_normalized_weights_cannot_overflow(shift: float) -> None:
    q = jnp.asarray(np.linspace(0.0, 300.0, 64) + shift, jnp.float32)
    weight = np.array(FORMS["normalized"](q, stats(0.0, 1.0), jnp.float32(5.0), 3.0))
    exact = np.asarray(q, np.float64) / 3.0
    exact = np.exp(exact - exact.max())
    # Q / T of 1e8 / 3 is rounded to steps of 2: what is left there is finiteness and the mean
    if abs(shift) < 1e6:
        np.testing.assert_allclose(weight, exact / exact.mean(), rtol=2e-2, atol=1e-30)
    assert np.all(np.isfinite(weight))
    assert weight.mean() == pytest.approx(1.0, rel=1e-5)


def test_normalized_weights_survive_a_q_without_spread() -> None:
    weight = FORMS["normalized"](jnp.full(16, 3.0), stats(3.0, 0.0), jnp.float32(1.0), 3.0)
    np.testing.assert_allclose(weight, np.ones(16), rtol=1e-6)


def test_scaled_weights_overflow_where_documented() -> None:
    scaled = FORMS["scaled"]
    below, above = scaled(jnp.asarray([88 * 3.0, 89 * 3.0]), stats(0, 1), jnp.float32(1.0), 3.0)
    assert np.isfinite(below)
    assert np.isinf(above)


# --------------------------------------------------------------------------- statistics of Q, ESS


def test_q_statistics_are_exponential_averages() -> None:
    rate, rng = 0.05, np.random.default_rng(1)
    batches = [rng.normal(k, 1 + k, 32) for k in range(40)]
    running, mean, std = QStats.init(), 0.0, 1.0
    for q in batches:
        running = running.update(jnp.asarray(q, jnp.float32), rate)
        mean = (1 - rate) * mean + rate * q.mean()
        std = (1 - rate) * std + rate * q.std()
    np.testing.assert_allclose([running.mean, running.std], [mean, std], rtol=1e-5)


@pytest.mark.parametrize(
    ("draw", "exact"),
    [
        (lambda: np.full(50, 0.3), 1.0),
        (lambda: np.eye(50)[7] * 1e30, 1 / 50),
        (lambda: np.repeat([0.0, 2.0], 25), 0.5),
    ],
    ids=["equal", "one-hot", "half"],
)
def test_effective_sample_size_of_known_weights(
    draw: Callable[[], np.ndarray], exact: float
) -> None:
    got = effective_sample_size(jnp.asarray(draw(), jnp.float32))
    assert float(got) == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])  # squares beyond float32 on both sides
def test_effective_sample_size_of_any_scale(scale: float) -> None:
    w = np.exp(np.random.default_rng(0).normal(0, 2, 256))
    exact = w.sum() ** 2 / (w**2).sum() / w.size
    got = effective_sample_size(jnp.asarray(scale * w, jnp.float32))
    assert float(got) == pytest.approx(exact, rel=1e-4)


def test_a_batch_of_q_that_is_not_finite_does_not_stay_in_the_statistics() -> None:
    """nan in a running average would make every later weight nan, and stop the policy for ever."""
    now = stats(2.0, 3.0)
    for bad in (np.nan, np.inf, 1e30):
        q = jnp.asarray([1.0, bad, 2.0], jnp.float32)
        after = now.update(q, 0.1)
        assert (float(after.mean), float(after.std)) == (2.0, 3.0), bad
    after = now.update(jnp.asarray([1.0, 3.0]), 0.1)
    assert float(after.mean) == pytest.approx(2.0)
    assert float(after.std) == pytest.approx(2.8)
