"""Flax modules: the multilayer perceptron, its ensemble, and the network of a flow policy."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "mish": jax.nn.mish,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
}


class MLP(nn.Module):
    """Dense layers of the widths `hidden`, then a linear layer of width `out`.

    Parameters are float32; matrix products run in `dtype`; the output is float32.
    `layer_norm` normalises each hidden layer before its activation.
    """

    hidden: Sequence[int]
    out: int
    activation: str = "mish"
    layer_norm: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for width in self.hidden:
            x = nn.Dense(width, dtype=self.dtype)(x)
            if self.layer_norm:
                x = nn.LayerNorm(dtype=self.dtype)(x)
            x = ACTIVATIONS[self.activation](x)
        return nn.Dense(self.out, dtype=self.dtype)(x).astype(jnp.float32)


def ensemble(size: int, **mlp: Any) -> nn.Module:
    """`size` independent MLPs on an input each: (size, ..., features) -> (size, ..., out).

    The members are a leading axis of every parameter, so each layer is one batched product. Where
    all have the same input, broadcast it: a product of one input and all members comes out with
    the members in the middle, and is transposed.
    """
    members = nn.vmap(
        MLP,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=0,
        out_axes=0,
        axis_size=size,
    )
    return members(**mlp)


def sinusoidal(t: jax.Array, size: int, max_period: float = 1000.0) -> jax.Array:
    """Sinusoidal features of times: (...,) -> (..., size), periods 2 pi to 2 pi max_period."""
    half = size // 2
    frequency = jnp.exp(-jnp.log(max_period) * jnp.arange(half, dtype=jnp.float32) / (half - 1))
    angle = t[..., None] * frequency
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)


class TimeEmbedding(nn.Module):
    """Sinusoidal features -> Dense 2 size -> activation -> Dense size: (...,) -> (..., size)."""

    size: int = 16
    activation: str = "mish"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, t: jax.Array) -> jax.Array:
        x = nn.Dense(2 * self.size, dtype=self.dtype)(sinusoidal(t, self.size))
        return nn.Dense(self.size, dtype=self.dtype)(ACTIVATIONS[self.activation](x))


class FlowNet(nn.Module):
    """The field of a flow policy: (obs, x, *times) -> velocity in action space.

    obs: (..., obs_size), x: (..., action_size), each time: (...,), or () where all samples have the
    same, which is then embedded once; one time embedding for each time, so the same module is the
    velocity v(s, x, t) of a rectified flow and the average velocity u(s, x, r, t) of a MeanFlow.
    """

    hidden: Sequence[int]
    activation: str = "mish"
    layer_norm: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, obs: jax.Array, x: jax.Array, *times: jax.Array) -> jax.Array:
        embedded = [TimeEmbedding(activation=self.activation, dtype=self.dtype)(t) for t in times]
        embedded = [jnp.broadcast_to(t, (*x.shape[:-1], t.shape[-1])) for t in embedded]
        features = jnp.concatenate([obs, x, *embedded], -1)
        return MLP(self.hidden, x.shape[-1], self.activation, self.layer_norm, self.dtype)(features)
