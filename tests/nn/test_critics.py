"""Critics against NumPy and SciPy, and on decision problems whose values are known."""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import scipy.stats

from fpmd_mjx.algorithms import make_algorithm
from fpmd_mjx.config.schema import (
    ActorConfig,
    Config,
    CriticConfig,
    FpmdMConfig,
    TaskConfig,
)
from fpmd_mjx.data import replay
from fpmd_mjx.data.counter import Counter
from fpmd_mjx.data.replay import Rows
from fpmd_mjx.nn import critics
from fpmd_mjx.nn.critics import HLGaussCritic

KINDS = ["scalar", "hl_gauss"]
OBS, ACTION = 3, 2

# LLVM's passes cost more than they save in a program that runs for a second.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def make(kind: str, **settings: Any) -> Any:
    config = CriticConfig(kind=kind, **{"hidden": [32], "bins": 41, "v_max": 20.0, **settings})
    return critics.make_critic(config, OBS, ACTION, jnp.float32)


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_values_start_near_zero(kind: str, layer_norm: bool) -> None:
    critic = make(kind, hidden=[64, 64], layer_norm=layer_norm)
    obs = jax.random.normal(jax.random.key(0), (100, OBS))
    values = critic.values(critic.init(jax.random.key(1)), obs, jnp.zeros((100, ACTION)))
    assert values.shape == (2, 100)
    assert abs(float(jnp.mean(values))) < 1.0  # of a support from 0 to 20


def drawn(seed: int, batch: int = 16) -> list[jax.Array]:
    """obs, action, target, mask."""
    rng = np.random.default_rng(seed)
    arrays = (
        rng.standard_normal((batch, OBS)),
        rng.uniform(-1, 1, (batch, ACTION)),
        rng.uniform(1, 19, batch),
        rng.random(batch) < 0.6,
    )
    return [jnp.asarray(x, jnp.float32) for x in arrays]


# --------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("twin", "one"), [("min", np.min), ("mean", np.mean)])
def test_twins_differ_and_are_made_one(kind: str, twin: str, one: Any) -> None:
    critic = make(kind, twin=twin)
    params = jit(critic.init)(jax.random.key(0))
    obs, action, _, _ = drawn(0, batch=256)
    q = np.array(jit(critic.values)(params, obs, action))
    assert q.shape == (2, 256)
    assert np.abs(q[0] - q[1]).min() > 0
    assert 0 < np.mean(q[0] < q[1]) < 1
    found = jit(critic.value)(params, obs, action)
    np.testing.assert_allclose(found, one(q, 0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_single_critic_is_one_of_the_twins(kind: str, layer_norm: bool) -> None:
    twins, single = (make(kind, twin=twin, layer_norm=layer_norm) for twin in ("min", "none"))
    both = jit(twins.init)(jax.random.key(0))
    params = jax.tree.map(lambda x: x[0], both)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(
        jnp.shape, jit(single.init)(jax.random.key(0))
    )
    obs, action, target, mask = drawn(3)
    loss, q = jit(single.loss)(params, obs, action, target, mask)
    assert q.shape == (1, 16)
    np.testing.assert_allclose(q, jit(single.values)(params, obs, action), rtol=1e-5)
    np.testing.assert_allclose(q[0], jit(single.value)(params, obs, action), rtol=1e-5)
    np.testing.assert_allclose(q[0], jit(twins.values)(both, obs, action)[0], rtol=1e-5)
    same = jax.tree.map(lambda x: jnp.stack([x[0], x[0]]), both)
    assert float(jit(twins.loss)(same, obs, action, target, mask)[0]) == pytest.approx(
        2 * float(loss), rel=1e-5
    )


def test_td_target_is_the_discounted_value_without_a_gradient() -> None:
    reward, discount, q = jnp.asarray([1.0, -2.0]), jnp.asarray([0.9, 0.0]), jnp.asarray([5.0, 7.0])
    np.testing.assert_allclose(critics.td_target(reward, discount, q), [5.5, -2.0])
    gradient = jax.grad(lambda q: jnp.sum(critics.td_target(reward, discount, q)))(q)
    np.testing.assert_array_equal(gradient, [0.0, 0.0])


# ----------------------------------------------------------------------------------------- loss


def test_scalar_loss_equals_numpy() -> None:
    critic = make("scalar")
    params = jit(critic.init)(jax.random.key(0))
    obs, action, target, mask = drawn(1)
    loss, q = jit(critic.loss)(params, obs, action, target, mask)
    wanted = sum(
        np.mean([(q[twin, i] - target[i]) ** 2 for i in range(16) if mask[i]]) for twin in range(2)
    )
    assert float(loss) == pytest.approx(float(wanted), rel=1e-5)
    np.testing.assert_allclose(q, jit(critic.values)(params, obs, action), rtol=1e-5)


def histograms(target: np.ndarray, critic: HLGaussCritic) -> np.ndarray:
    """By SciPy: a normal distribution truncated to the support, integrated over each bin."""
    low, high = critic.v_min, critic.v_max
    edges = np.linspace(low, high, critic.bins + 1)
    target = np.clip(target, low, high)[..., None]
    a, b = (low - target) / critic.sigma, (high - target) / critic.sigma
    return np.diff(scipy.stats.truncnorm.cdf(edges, a, b, loc=target, scale=critic.sigma))


def test_hl_gauss_loss_equals_scipy() -> None:
    critic = make("hl_gauss")
    params = jit(critic.init)(jax.random.key(0))
    obs, action, target, mask = drawn(2)
    logits = critic._outputs(params, obs, action)
    log_p = scipy.special.log_softmax(np.array(logits, np.float64), -1)
    cross_entropy = -np.sum(histograms(np.array(target), critic) * log_p, -1)
    wanted = cross_entropy[:, np.array(mask) > 0].mean(1).sum()
    loss, q = jit(critic.loss)(params, obs, action, target, mask)
    assert float(loss) == pytest.approx(wanted, rel=1e-5)
    centers = np.linspace(0, 20, 42)[:-1] + 10 / 41
    np.testing.assert_allclose(q, np.exp(log_p) @ centers, rtol=1e-5)
    np.testing.assert_allclose(q, jit(critic.values)(params, obs, action), rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_masked_rows_have_no_say(kind: str) -> None:
    critic = make(kind)
    params = jit(critic.init)(jax.random.key(0))
    obs, action, target, mask = drawn(3)
    loss = jit(jax.value_and_grad(lambda *args: critic.loss(*args)[0]))
    value, gradient = loss(params, obs, action, target, mask)
    lie = jnp.where(mask > 0, target, 1e4)
    for a, b in zip(
        jax.tree.leaves((value, gradient)),
        jax.tree.leaves(loss(params, obs, action, lie, mask)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    nothing = loss(params, obs, action, target, jnp.zeros_like(mask))
    assert all(not np.any(x) for x in jax.tree.leaves(nothing))


# ------------------------------------------------------------------------------------ histogram


@pytest.mark.parametrize("sigma_bins", [0.5, 0.75, 2.0])
def test_histogram_equals_scipy(sigma_bins: float) -> None:
    critic = make("hl_gauss", v_min=-5.0, v_max=10.0, bins=31, sigma_bins=sigma_bins)
    assert critic.sigma == pytest.approx(sigma_bins * 15 / 31)
    target = np.concatenate([np.linspace(-5, 10, 301), [-1e3, -5.1, 10.2, 1e6]])
    got = np.array(jit(critic.histogram)(jnp.asarray(target, jnp.float32)))
    assert got.shape == (305, 31)
    # differences of float32 distribution functions, at targets that are rounded to float32
    np.testing.assert_allclose(got, histograms(target, critic), atol=5e-6)
    np.testing.assert_allclose(got.sum(-1), 1.0, atol=1e-6)
    assert np.all(got >= 0)


@pytest.mark.parametrize("sigma_bins", [0.75, 2.0])
def test_histogram_means_are_the_targets(sigma_bins: float) -> None:
    critic = make("hl_gauss", v_min=-5.0, v_max=10.0, bins=31, sigma_bins=sigma_bins)
    width, margin = 15 / 31, 4 * critic.sigma
    target = np.linspace(-5 + margin, 10 - margin, 201)
    got = np.array(jit(critic.histogram)(jnp.asarray(target, jnp.float32)), np.float64)
    centers = np.linspace(-5, 10, 32)[:-1] + width / 2
    # binning N(y, sigma^2) moves its mean by less than a thousandth of a bin for sigma >= 0.75 bins
    np.testing.assert_allclose(got @ centers, target, atol=2e-3 * width)


# ------------------------------------------------------------------------- problems to be learned

# Values are of size 1 to 10: 1,000 updates with a constant step leave about one percent.
VALUE_RTOL = 0.04
GAMMA = 0.9


@dataclass(frozen=True)
class Problem:
    """Transitions between states that are one-hot observations, and what the states are worth."""

    states: list[int]
    rewards: list[float]
    discounts: list[float]
    next_states: list[int]
    masks: list[float]
    values: dict[int, float]


FOREVER = 1.0 / (1 - GAMMA)
PROBLEMS = {
    "constant reward": Problem([0], [1.0], [GAMMA], [0], [1.0], {0: FOREVER}),
    "two steps": Problem([0, 1], [0.0, 5.0], [GAMMA, 0.0], [1, 2], [1.0, 1.0], {0: 4.5, 1: 5.0}),
    # states 0 and 1 pay 1 a step; the episodes of 0 terminate, those of 1 are truncated into state
    # 2, which is worth nothing: believing the row would drag state 1 down to 1
    "termination and truncation": Problem(
        [0, 1, 1, 2], [1.0, 1.0, 1.0, 0.0], [0.0, GAMMA, GAMMA, 0.0], [2, 1, 2, 2],
        [1.0, 1.0, 0.0, 1.0], {0: 1.0, 1: FOREVER, 2: 0.0},
    ),
}  # fmt: skip


@functools.cache
def solver(kind: str, rows: int) -> Any:
    """TD learning with targets that follow, compiled once for each number of rows."""
    critic = make(kind, v_min=-1.0, v_max=14.0)
    optimizer = optax.adam(1e-2)

    @jit
    def solve(key: jax.Array, columns: list[Any]) -> Any:
        obs, reward, discount, next_obs, mask = columns
        action = jnp.zeros((rows, ACTION))

        def step(carry: Any, _: None) -> Any:
            params, target, state = carry
            next_q = critic.value(target, next_obs, action)
            y = critics.td_target(reward, discount, next_q)
            gradient = jax.grad(lambda p: critic.loss(p, obs, action, y, mask)[0])(params)
            change, state = optimizer.update(gradient, state)
            params = optax.apply_updates(params, change)
            return (params, optax.incremental_update(params, target, 0.05), state), None

        params = critic.init(key)
        start = (params, params, optimizer.init(params))
        (params, _, _), _ = jax.lax.scan(step, start, None, 1000)
        return critic.values(params, jnp.eye(OBS), jnp.zeros((OBS, ACTION)))

    return solve


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PROBLEMS)
def test_known_values_are_learned(name: str, kind: str) -> None:
    problem, eye, rows = PROBLEMS[name], np.eye(OBS, dtype=np.float32), 4
    index = np.arange(rows) % len(problem.states)  # the same number of rows for every problem
    columns = [
        eye[problem.states][index],
        np.array(problem.rewards, np.float32)[index],
        np.array(problem.discounts, np.float32)[index],
        eye[problem.next_states][index],
        np.array(problem.masks, np.float32)[index],
    ]
    q = np.array(solver(kind, rows)(jax.random.key(0), columns))
    for state, value in problem.values.items():
        np.testing.assert_allclose(q[:, state], value, rtol=VALUE_RTOL, atol=0.15)


# ----------------------------------------------------- the same through replay and learner


def filled_ring() -> replay.Replay:
    """Two environments that pay 1 a step: the first terminates after every third step, the second
    is truncated after every third. After an end another episode begins, in a state of its own."""
    ring = replay.empty(200, 2, (4,), 1)
    insert = jit(replay.insert)
    rng = np.random.default_rng(0)
    for t in range(150):
        last = t % 3 == 2
        obs = np.zeros((2, 4), np.float32)
        obs[0, t % 3] = 1.0  # the way to the end, in three observations
        obs[1, 3] = 1.0  # one state for ever
        ring = insert(
            ring,
            Rows(
                obs=obs,
                action=rng.uniform(-1, 1, (2, 1)).astype(np.float32),
                # the last row of a truncated episode is in no window: its reward would show
                reward=np.array([1.0, 1.0 if not last else -5.0], np.float32),
                terminated=np.array([last, False]),
                truncated=np.array([False, last]),
            ),
        )
    return ring


@pytest.mark.parametrize(("kind", "n_step"), [("scalar", 3), ("hl_gauss", 1)])
def test_the_learner_tells_termination_from_truncation(kind: str, n_step: int) -> None:
    updates = 800
    config = Config(
        task=TaskConfig(name="none"),
        algorithm=FpmdMConfig(name="fpmd_m", candidates=2, weights="normalized", policy_delay=1),
        actor=ActorConfig(hidden=[8]),
        critic=CriticConfig(
            kind=kind, hidden=[32], lr=5e-3, tau=0.05, bins=21, v_min=-1.0, v_max=14.0
        ),
        preset="none",
    )
    algorithm = make_algorithm(config, (4,), 1)

    @jit
    def run(ring: replay.Replay, key: jax.Array) -> Any:
        keys = jax.random.split(key, 3)
        batches = replay.sample(ring, keys[0], (updates, 16), n_step, GAMMA, 1)
        lie = jnp.where(batches.mask > 0, batches.reward, -100.0)
        batches = batches.replace(reward=lie)  # shows if a masked row is learned from

        def update(carry: Any, x: Any) -> Any:
            learner, count = carry
            learner, metrics = algorithm.update(learner, *x, count)
            return (learner, count.add(1)), metrics

        (learner, _), metrics = jax.lax.scan(
            update,
            (algorithm.init(keys[1]), Counter.zero()),
            (batches, jax.random.split(keys[2], updates)),
        )
        action = jnp.linspace(-1, 1, 5)[:, None, None]
        obs, action = jnp.broadcast_arrays(jnp.eye(4), action)
        return algorithm.networks.critic.values(learner.critic, obs, action[..., :1]), metrics

    q, metrics = run(filled_ring(), jax.random.key(0))
    q = np.array(q).mean((0, 1))
    # rewards are not scaled here: that is done where the batches are made
    wanted = [1 + GAMMA + GAMMA**2, 1 + GAMMA, 1.0, FOREVER]
    np.testing.assert_allclose(q, wanted, rtol=VALUE_RTOL)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(metrics))
