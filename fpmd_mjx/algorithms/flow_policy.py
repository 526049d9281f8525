"""The policy of FPMD (arXiv 2507.23675): a rectified flow in FPMD-R, a MeanFlow in FPMD-M."""

from dataclasses import dataclass
from typing import cast

import jax
import jax.numpy as jnp

from fpmd_mjx.algorithms.base import Networks, Params
from fpmd_mjx.config.schema import ActorConfig, FlowConfig, MeanFlowConfig, RectifiedConfig
from fpmd_mjx.flows import Field, Flow
from fpmd_mjx.flows.meanflow import MeanFlow
from fpmd_mjx.flows.rectified import RectifiedFlow
from fpmd_mjx.nn.networks import FlowNet


@dataclass(frozen=True)
class FlowPolicy:
    """a = flow(noise | obs).

    net: (obs, x, *times) -> velocity. prior_std: the scale of the noise that samples start from;
    the training noise is always N(0, I), as released.
    """

    flow: Flow
    net: FlowNet
    obs_size: int
    action_size: int
    prior_std: float = 1.0

    def init(self, key: jax.Array) -> Params:
        obs = jnp.zeros(self.obs_size)
        return self.net.init(key, obs, self._origin(()), *self._one_step_times())

    def field(self, params: Params, obs: jax.Array) -> Field:
        """The network as a function of x and the times alone."""

        def field(x: jax.Array, *times: jax.Array) -> jax.Array:
            return cast(jax.Array, self.net.apply(params, obs, x, *times))

        return field

    def sample(
        self,
        params: Params,
        obs: jax.Array,
        key: jax.Array,
        steps: int,
        *,
        repeat: tuple[int, ...] = (),
    ) -> jax.Array:
        normal = self.normal((*repeat, *obs.shape[:-1]), key)
        return self.push(params, obs, normal, steps)

    def push(self, params: Params, obs: jax.Array, normal: jax.Array, steps: int) -> jax.Array:
        """The actions that N(0, I) draws, (..., action_size), become in `steps` network calls."""
        return self.flow.sample(self.field(params, obs), self.prior_std * normal, steps)

    def deploy(self, params: Params) -> Params:
        """Folds the constant inputs x = 0 and the times into the network, for `one_step`."""
        return self.net.fold(params, self._origin(()), *self._one_step_times())

    def one_step(self, deployed: Params, obs: jax.Array) -> jax.Array:
        """The deployed action: no randomness, one network call, no critic."""
        velocity = self.net.apply_folded(deployed, obs)  # x and the times are folded in
        return self.flow.sample(lambda x, *times: velocity, self._origin(obs.shape[:-1]), 1)

    def loss(
        self,
        params: Params,
        obs: jax.Array,
        action: jax.Array,
        weight: jax.Array,
        key: jax.Array,
    ) -> jax.Array:
        """E[w(s, a) || field - target ||^2], the weighted flow-matching loss (L_R and L_M): obs
        (batch, obs_size), action (batch, action_size), weight (batch,) -> scalar."""
        noise_key, time_key = jax.random.split(key)
        noise = jax.random.normal(noise_key, action.shape, jnp.float32)
        times = self.flow.draw_times(time_key, weight.shape)
        errors = self.flow.errors(self.field(params, obs), action, noise, times)
        return jnp.mean(weight * errors)

    def one_step_error(
        self, params: Params, obs: jax.Array, key: jax.Array, steps: int
    ) -> jax.Array:
        """Mean distance of the one-step and the `steps`-step action of the same noise: scalar."""
        normal = self.normal(obs.shape[:-1], key)
        gap = self.push(params, obs, normal, 1) - self.push(params, obs, normal, steps)
        return jnp.mean(jnp.linalg.norm(gap, axis=-1))

    def _one_step_times(self) -> list[jax.Array]:
        return [jnp.float32(t) for t in self.flow.one_step_times]

    def normal(self, shape: tuple[int, ...], key: jax.Array) -> jax.Array:
        """N(0, I) draws: (*shape, action_size)."""
        return jax.random.normal(key, (*shape, self.action_size), jnp.float32)

    def _origin(self, shape: tuple[int, ...]) -> jax.Array:
        return jnp.zeros((*shape, self.action_size), jnp.float32)


def make_flow_policy(settings: FlowConfig, actor: ActorConfig, networks: Networks) -> FlowPolicy:
    """The flow policy that the type of the settings names."""
    flow: Flow
    match settings:
        case RectifiedConfig():
            flow = RectifiedFlow(time_power=settings.time_power)
        case MeanFlowConfig():
            flow = MeanFlow(equal_share=settings.equal_time_share)
        case _:
            raise TypeError(f"{type(settings).__name__} names no flow")
    net = FlowNet(
        tuple(actor.hidden), actor.activation, actor.layer_norm, networks.dtype, networks.trunk
    )
    return FlowPolicy(flow, net, networks.encoder.size, networks.action_size, settings.prior_std)
