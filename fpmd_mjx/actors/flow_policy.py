"""The flow policy of FPMD (arXiv 2507.23675): FPMD-R is a rectified flow, FPMD-M a MeanFlow."""

from dataclasses import dataclass
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from fpmd_mjx.actors import ActorBatch, Params, Values
from fpmd_mjx.flows import Field, Flow


@dataclass(frozen=True)
class FlowPolicy:
    """a = flow(noise | obs).

    net: (obs, x, *times) -> velocity. prior_std: the scale of the noise that samples start from;
    the training noise is N(0, I) whatever it is, as released.
    """

    flow: Flow
    net: nn.Module
    obs_size: int
    action_size: int
    prior_std: float = 1.0

    def init(self, key: jax.Array) -> Params:
        times = [jnp.zeros(1)] * self.flow.num_times
        return self.net.init(key, jnp.zeros((1, self.obs_size)), self._origin((1,)), *times)

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
        noise = self._prior((*repeat, *obs.shape[:-1]), key)
        return self.flow.sample(self.field(params, obs), noise, steps)

    def one_step(self, params: Params, obs: jax.Array) -> jax.Array:
        return self.flow.sample(self.field(params, obs), self._origin(obs.shape[:-1]), 1)

    def loss(self, params: Params, critic: Values, batch: ActorBatch, key: jax.Array) -> jax.Array:
        """E[w(s, a) || field - target ||^2]: the weighted flow-matching loss, L_R and L_M."""
        del critic  # the weights already carry Q; nothing is differentiated through it
        noise_key, time_key = jax.random.split(key)
        noise = jax.random.normal(noise_key, batch.action.shape, jnp.float32)
        times = self.flow.draw_times(time_key, batch.weight.shape)
        errors = self.flow.errors(self.field(params, batch.obs), batch.action, noise, times)
        return jnp.mean(batch.weight * errors)

    def one_step_error(
        self, params: Params, obs: jax.Array, key: jax.Array, steps: int
    ) -> jax.Array:
        field, x = self.field(params, obs), self._prior(obs.shape[:-1], key)
        gap = self.flow.sample(field, x, 1) - self.flow.sample(field, x, steps)
        return jnp.mean(jnp.linalg.norm(gap, axis=-1))

    def _prior(self, shape: tuple[int, ...], key: jax.Array) -> jax.Array:
        return self.prior_std * jax.random.normal(key, (*shape, self.action_size), jnp.float32)

    def _origin(self, shape: tuple[int, ...]) -> jax.Array:
        return jnp.zeros((*shape, self.action_size), jnp.float32)
