"""The flow policy around its flow: priors, weights, and the error of acting in one step."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fpmd_mjx.algorithms.base import Networks
from fpmd_mjx.algorithms.flow_policy import FlowPolicy, make_flow_policy
from fpmd_mjx.bench.floor import flops
from fpmd_mjx.config.schema import ALGORITHMS, ActorConfig
from fpmd_mjx.flows.meanflow import MeanFlow
from fpmd_mjx.flows.rectified import RectifiedFlow
from fpmd_mjx.nn.encoders import Identity
from fpmd_mjx.nn.networks import ACTIVATIONS, MLP

MU = 0.3
RAYLEIGH = np.sqrt(np.pi / 2)  # E |x| of x ~ N(0, I) in two dimensions

# LLVM's passes cost more than they save in a program that runs for a second.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def made(
    name: str, actor: ActorConfig, obs: int, action: int, dtype: Any = jnp.float32
) -> FlowPolicy:
    """The policy of an algorithm with its default settings."""
    networks = Networks(Identity(obs), None, action, dtype, 0)  # type: ignore[arg-type]
    return make_flow_policy(ALGORITHMS[name](name=name), actor, networks)  # type: ignore[arg-type]


class FormulaNet(nn.Module):
    """A field without parameters, for which there is nothing to be computed ahead."""

    def fold(self, params: Any, x: jax.Array, *times: jax.Array) -> Any:
        return x, *times

    def apply_folded(self, folded: Any, obs: jax.Array) -> jax.Array:
        return self.apply({}, obs, *folded)  # type: ignore[return-value]


class GaussianNet(FormulaNet):
    """The exact field of a policy N(MU, s^2 I), where the observation is (s,): v with one time, u
    with two. Derivations: tests/flows."""

    @nn.compact
    def __call__(self, obs: jax.Array, x: jax.Array, *times: jax.Array) -> jax.Array:
        var = jnp.square(obs)
        if len(times) == 1:
            t = times[0][..., None]
            slope = (t * var - (1 - t)) / (t**2 * var + (1 - t) ** 2)
            return MU + slope * (x - t * MU)
        r, t = (time[..., None] for time in times)
        sd_r, sd_t = (jnp.sqrt((1 - time) ** 2 * var + time**2) for time in (r, t))
        stretch = ((t + r) - var * (2 - t - r)) / (sd_r + sd_t)
        return -MU + stretch / sd_t * (x - (1 - t) * MU)


class StillNet(FormulaNet):
    """A field of zeros: the flow ends where it starts."""

    @nn.compact
    def __call__(self, obs: jax.Array, x: jax.Array, *times: jax.Array) -> jax.Array:
        return jnp.zeros_like(x)


def gaussian(flow: Any, prior_std: float = 1.0) -> FlowPolicy:
    return FlowPolicy(flow, GaussianNet(), 1, 2, prior_std)


def euler_factor(s: np.ndarray, steps: int) -> np.ndarray:
    """What `steps` Euler steps of the rectified flow of N(MU, s^2) multiply the noise with."""
    factor = np.ones_like(s)
    for i in range(steps):
        t = i / steps
        factor *= 1 + (t * s**2 - (1 - t)) / (t**2 * s**2 + (1 - t) ** 2) / steps
    return factor


# ------------------------------------------------------------------------------ one-step error

SPREADS = np.array([1.0, 0.5, 0.25, 0.1, 0.03])


def one_step_errors(flow: Any, prior_std: float, steps: int) -> np.ndarray:
    """The mean distance of the one-step action for each of SPREADS, 20,000 noises each."""
    policy = gaussian(flow, prior_std)
    error = jit(lambda obs, key: policy.one_step_error({}, obs, key, steps))
    draws = jnp.ones((20_000, 1))
    return np.array([error(s * draws, jax.random.key(0)) for s in SPREADS])


@pytest.mark.parametrize("prior_std", [1.0, 0.5])
def test_rectified_one_step_error_shrinks_with_the_spread(prior_std: float) -> None:
    """One step ends in MU, `steps` steps end at MU + factor x_0: the distance is factor |x_0|."""
    steps = 20
    errors = one_step_errors(RectifiedFlow(), prior_std, steps)
    exact = prior_std * RAYLEIGH * euler_factor(SPREADS, steps)
    np.testing.assert_allclose(errors, exact, rtol=0.02)  # 20,000 draws
    assert np.all(np.diff(errors) < 0)
    # the paper's bound, E |error|^2 <= trace of the variance, with Jensen's inequality
    assert np.all(errors <= prior_std * np.sqrt(2) * SPREADS)


def test_rectified_one_step_error_of_the_exact_flow() -> None:
    """With many steps the factor is the spread itself."""
    errors = one_step_errors(RectifiedFlow(), 1.0, 400)
    # noise of 20,000 draws, and what 400 Euler steps leave at the smallest spread
    np.testing.assert_allclose(errors, RAYLEIGH * SPREADS, rtol=0.06)


def test_meanflow_has_no_one_step_error() -> None:
    assert np.all(one_step_errors(MeanFlow(), 1.0, 20) < 1e-5)


# ------------------------------------------------------------------------------------- sampling


@pytest.mark.parametrize("flow", [RectifiedFlow(), MeanFlow()], ids=["fpmd_r", "fpmd_m"])
@pytest.mark.parametrize("steps", [1, 3])
def test_samples_start_from_the_prior(flow: Any, steps: int) -> None:
    policy = FlowPolicy(flow, StillNet(), 1, 2, prior_std=0.5)
    sample = jit(lambda key: policy.sample({}, jnp.zeros((100, 100, 1)), key, steps))
    x = np.array(sample(jax.random.key(0)))
    assert x.shape == (100, 100, 2)
    # 4 standard errors of 20,000 numbers
    assert x.mean() == pytest.approx(0.0, abs=0.015)
    assert x.std() == pytest.approx(0.5, rel=0.02)
    assert np.unique(x).size > 0.99 * x.size


@pytest.mark.parametrize("flow", [RectifiedFlow(), MeanFlow()], ids=["fpmd_r", "fpmd_m"])
def test_the_deployed_action_is_one_call_from_the_origin(flow: Any) -> None:
    """The middle of the noise is carried to the mean of a Gaussian policy, for any prior."""
    obs = jnp.asarray(SPREADS[:, None], jnp.float32)
    for prior_std in (1.0, 0.5):
        policy = gaussian(flow, prior_std)
        action = jit(lambda obs, policy=policy: policy.one_step(policy.deploy({}), obs))(obs)
        np.testing.assert_allclose(action, np.full((5, 2), MU), atol=1e-6)


@pytest.mark.parametrize("name", ["fpmd_r", "fpmd_m"])
def test_a_made_policy_acts_on_any_leading_axes(name: str) -> None:
    policy = made(name, ActorConfig(hidden=[8]), 3, 2)
    params = jit(policy.init)(jax.random.key(0))
    obs = np.random.default_rng(1).standard_normal((4, 5, 3)).astype(np.float32)
    act, deployed = jit(policy.one_step), jit(policy.deploy)(params)
    action = act(deployed, obs)
    assert action.shape == (4, 5, 2)
    np.testing.assert_allclose(action[2, 3], act(deployed, obs[2, 3]), rtol=1e-5, atol=1e-6)
    assert np.any(np.abs(np.diff(action, axis=0)) > 1e-4)  # it looks at obs


@pytest.mark.parametrize("name", ["fpmd_r", "fpmd_m"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("layer_norm", [False, True], ids=["", "norm"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_deployed_action_is_the_flows_one_step(
    name: str, activation: str, layer_norm: bool, dtype: str
) -> None:
    config = ActorConfig(hidden=[32, 32], activation=activation, layer_norm=layer_norm)
    policy = made(name, config, 5, 3, jnp.dtype(dtype))
    shapes = jax.eval_shape(policy.init, jax.random.key(0))
    rng = np.random.default_rng(0)  # biases and scales too, which begin at 0 and 1
    params = jax.tree.map(lambda x: rng.normal(0.2, 0.5, x.shape).astype(np.float32), shapes)
    obs = rng.standard_normal((200, 5)).astype(np.float32)

    @jit
    def actions(params: Any, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        whole = policy.flow.sample(policy.field(params, obs), jnp.zeros((200, 3)), 1)
        return policy.one_step(policy.deploy(params), obs), whole

    deployed, whole = actions(params, obs)
    assert np.std(whole) > 0.1
    # sums in another order, and of bfloat16's 8 bits
    rtol = 1e-5 if dtype == "float32" else 3e-2
    np.testing.assert_allclose(deployed, whole, rtol=0, atol=rtol * np.abs(whole).max())


@pytest.mark.parametrize("name", ["fpmd_r", "fpmd_m"])
def test_a_deployed_policy_is_an_mlp_of_obs(name: str) -> None:
    """It has the parameters and the arithmetic of one, and a step from the origin."""
    config = ActorConfig(hidden=[32, 32])
    policy = made(name, config, 5, 3)
    mlp = MLP((32, 32), 3, config.activation, config.layer_norm)
    obs, key = jnp.zeros((200, 5)), jax.random.key(0)
    wanted = jax.eval_shape(mlp.init, key, obs)
    deployed = jax.eval_shape(lambda key: policy.deploy(policy.init(key)), key)
    assert deployed == wanted

    def arithmetic(act: Any) -> float:
        traced: Any = jax.make_jaxpr(act)(wanted, obs)
        return flops(traced, max)

    step = 2 * obs.shape[0] * 3 + 3  # x + dt v, and the times, which nothing uses
    assert arithmetic(policy.one_step) <= arithmetic(mlp.apply) + step


# ----------------------------------------------------------------------------------------- loss


class SpyFlow:
    """Errors that are a known function of the target; keeps what it was given."""

    one_step_times = (0.0,)

    def draw_times(self, key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, ...]:
        return (jax.random.uniform(key, shape),)

    def errors(self, field: Any, target: jax.Array, noise: jax.Array, times: Any) -> jax.Array:
        self.target, self.noise, self.times = target, noise, times
        return jnp.sum(target**2, -1)


def test_the_loss_is_the_weighted_mean_of_the_errors() -> None:
    rng = np.random.default_rng(0)
    action, weight = rng.uniform(-1, 1, (5000, 2)), rng.exponential(1, 5000)
    flow = SpyFlow()
    policy = FlowPolicy(flow, StillNet(), 1, 2, prior_std=0.5)  # type: ignore[arg-type]
    obs, target, w = (jnp.asarray(x, jnp.float32) for x in (np.zeros((5000, 1)), action, weight))
    loss = policy.loss({}, obs, target, w, jax.random.key(0))
    wanted = np.mean(weight * np.sum(action**2, -1))
    assert float(loss) == pytest.approx(wanted, rel=1e-5)
    np.testing.assert_array_equal(flow.target, target)
    # training noise is N(0, I) whatever the prior, a time for each sample; 4 standard errors
    assert flow.times[0].shape == (5000,)
    assert float(jnp.std(flow.noise)) == pytest.approx(1.0, rel=0.03)
    assert float(jnp.mean(flow.noise)) == pytest.approx(0.0, abs=0.04)
