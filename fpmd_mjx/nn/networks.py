"""Flax modules: the multilayer perceptron, its ensemble, and the network of a flow policy."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "mish": jax.nn.mish,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
}


class JointDense(nn.Module):
    """`nn.Dense` of the concatenation of `parts`, (..., features_i) each; leading axes broadcast.

    Inputs that all candidates of a state share are multiplied once, and the product is broadcast.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, *parts: jax.Array) -> jax.Array:
        sizes = [part.shape[-1] for part in parts]
        kernel = self.param(
            "kernel", nn.initializers.lecun_normal(), (sum(sizes), self.features), jnp.float32
        )
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        lead = jnp.broadcast_shapes(*(part.shape[:-1] for part in parts))
        ends = list(itertools.accumulate(sizes))
        rows = [math.prod(part.shape[:-1]) for part in parts]
        out = bias.astype(self.dtype)
        # Neighbouring parts with the same number of rows are one product.
        for _, group in itertools.groupby(range(len(parts)), rows.__getitem__):
            first, *_ = members = list(group)
            shape = jnp.broadcast_shapes(*(parts[i].shape[:-1] for i in members))
            joined = jnp.concatenate(
                [jnp.broadcast_to(parts[i], (*shape, sizes[i])) for i in members], -1
            )
            block = kernel[ends[first] - sizes[first] : ends[members[-1]]]
            out = out + joined.astype(self.dtype) @ block.astype(self.dtype)
        return jnp.broadcast_to(out, (*lead, self.features))


class MLP(nn.Module):
    """Dense layers of the widths `hidden`, then a linear layer of width `out`.

    Its input is the concatenation of `parts`; leading axes broadcast. Parameters are float32;
    matrix products run in `dtype`; the output is float32. `layer_norm` normalises each hidden layer
    before its activation. `trunk` is the width to which a linear layer, LayerNorm and tanh reduce
    the first part, as in DrQ-v2 (arXiv 2107.09645); 0 leaves that part as it is.
    """

    hidden: Sequence[int]
    out: int
    activation: str = "mish"
    layer_norm: bool = False
    dtype: Any = jnp.float32
    trunk: int = 0

    @nn.compact
    def __call__(self, *parts: jax.Array) -> jax.Array:
        if self.trunk:
            first = nn.Dense(self.trunk, dtype=self.dtype, name="trunk")(parts[0])
            first = nn.tanh(nn.LayerNorm(dtype=self.dtype, name="trunk_norm")(first))
            parts = (first, *parts[1:])
        x = JointDense(self.hidden[0], self.dtype, name="Dense_0")(*parts)
        for i in range(len(self.hidden)):
            if self.layer_norm:
                x = nn.LayerNorm(dtype=self.dtype)(x)
            x = ACTIVATIONS[self.activation](x)
            width = (*self.hidden, self.out)[i + 1]
            x = nn.Dense(width, dtype=self.dtype, name=f"Dense_{i + 1}")(x)
        return x.astype(jnp.float32)


def ensemble(size: int, **mlp: Any) -> nn.Module:
    """`size` independent MLPs on inputs of their own: (size, ..., features_i) -> (size, ..., out).

    The members are a leading axis of every parameter, so each layer is one batched product.
    Broadcast an input that all members share: otherwise its product has the members in the middle,
    and XLA transposes it.
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
    # In NumPy, so that XLA computes the features of constant times while it compiles.
    frequency = np.exp(-np.log(max_period) * np.arange(half) / (half - 1)).astype(np.float32)
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

    obs: (..., obs_size), x: (..., action_size), each time: (...,), or () if all samples have the
    same one, which is then embedded once. Each time has its own embedding. So the same module is
    the velocity v(s, x, t) of a rectified flow, and u(s, x, r, t), the average of a MeanFlow.
    """

    hidden: Sequence[int]
    activation: str = "mish"
    layer_norm: bool = False
    dtype: Any = jnp.float32
    trunk: int = 0

    @nn.compact
    def __call__(self, obs: jax.Array, x: jax.Array, *times: jax.Array) -> jax.Array:
        embedded = [self._embedding(i)(t) for i, t in enumerate(times)]
        return self._mlp(x.shape[-1])(obs, x, *embedded)

    @nn.nowrap
    def fold(self, params: Any, x: jax.Array, *times: jax.Array) -> Any:
        """Folds the constant inputs x, (action_size,), and times, () each, into the first layer's
        bias, so that the deployed network takes only the observation. Returns its parameters.
        """
        layers = params["params"]
        embedded: list[Any] = [
            self._embedding(i).apply({"params": layers[f"TimeEmbedding_{i}"]}, t)
            for i, t in enumerate(times)
        ]
        fixed = jnp.concatenate([x, *embedded])
        first = layers["MLP_0"]["Dense_0"]
        kernel, block = jnp.split(first["kernel"], [first["kernel"].shape[0] - fixed.size])
        folded = {"kernel": kernel, "bias": first["bias"] + fixed @ block}
        return {"params": {**layers["MLP_0"], "Dense_0": folded}}

    @nn.nowrap
    def apply_folded(self, folded: Any, obs: jax.Array) -> jax.Array:
        """The field at the folded x and times: (..., obs_size) -> (..., action_size)."""
        out = folded["params"][f"Dense_{len(self.hidden)}"]["bias"].size
        return cast(jax.Array, self._mlp(out).apply(folded, obs))

    @nn.nowrap
    def _embedding(self, i: int) -> TimeEmbedding:
        name = f"TimeEmbedding_{i}"
        return TimeEmbedding(activation=self.activation, dtype=self.dtype, name=name)

    @nn.nowrap
    def _mlp(self, out: int) -> MLP:
        return MLP(
            self.hidden,
            out,
            self.activation,
            self.layer_norm,
            self.dtype,
            self.trunk,
            name="MLP_0",
        )
