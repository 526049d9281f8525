"""Policy classes behind one small protocol.

Best-of-N, exploration noise and importance weights live outside of it (`learn.py`), so that every
policy class runs through the same critic, replay and schedule.
"""

from collections.abc import Callable
from typing import Any, Protocol

import jax
from flax import struct

from fpmd_mjx.config.schema import ActorConfig
from fpmd_mjx.flows import Flow

Params = Any
Values = Callable[[jax.Array, jax.Array], jax.Array]
"""(obs, action), whose leading axes broadcast -> min of the twin Q: what a policy may differentiate
through."""


class ActorBatch(struct.PyTreeNode):
    """Regression targets: obs (batch, obs_size), action (batch, action_size), weight (batch,)."""

    obs: jax.Array
    action: jax.Array
    weight: jax.Array


class Sampler(Protocol):
    """What best-of-N asks of a policy; actions lie in [-1, 1]^d after the caller clips them."""

    def sample(
        self,
        params: Params,
        obs: jax.Array,
        key: jax.Array,
        steps: int,
        *,
        repeat: tuple[int, ...] = (),
    ) -> jax.Array:
        """Actions in `steps` calls, `repeat` of them for each obs: (..., obs_size) ->
        (*repeat, ..., action_size)."""
        ...


class Actor(Sampler, Protocol):
    """A policy class."""

    def init(self, key: jax.Array) -> Params: ...

    def deploy(self, params: Params) -> Params:
        """What `one_step` needs, made once: all that does not depend on obs is done here."""
        ...

    def one_step(self, deployed: Params, obs: jax.Array) -> jax.Array:
        """The deployed action: no randomness, one network call, no critic."""
        ...

    def loss(self, params: Params, critic: Values, batch: ActorBatch, key: jax.Array) -> jax.Array:
        """Scalar loss."""
        ...

    def one_step_error(
        self, params: Params, obs: jax.Array, key: jax.Array, steps: int
    ) -> jax.Array:
        """Mean distance of the one-step and the `steps`-step action of the same noise: scalar."""
        ...


def make_actor(
    config: ActorConfig, obs_size: int, action_size: int, dtype: Any, trunk: int = 0
) -> Actor:
    """The policy class that `config.name` names; trunk: see `MLP`."""
    from fpmd_mjx.algorithms.flow_policy import FlowPolicy  # imports this module
    from fpmd_mjx.flows.meanflow import MeanFlow
    from fpmd_mjx.flows.rectified import RectifiedFlow
    from fpmd_mjx.nn.networks import FlowNet

    flows: dict[str, Flow] = {
        "fpmd_r": RectifiedFlow(time_power=config.time_power),
        "fpmd_m": MeanFlow(equal_share=config.equal_time_share),
    }
    net = FlowNet(tuple(config.hidden), config.activation, config.layer_norm, dtype, trunk)
    return FlowPolicy(flows[config.name], net, obs_size, action_size, config.prior_std)
