"""Encoders: from an observation to the features that the networks take; a vector is its own.

Images: the encoder and the random shift of DrQ-v2 (arXiv 2107.09645), as in the release of FPMD.
Only the critic's loss trains the encoder. The policy's gradient stops at the features.
"""

from dataclasses import dataclass
from typing import Any, Protocol, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from fpmd_mjx.config.schema import PixelsConfig

Params = Any

STRIDES = (2, 1, 1, 1)
"""Strides of the encoder's convolutions."""


class Encoder(Protocol):
    """A function from observations to `size` features."""

    @property
    def size(self) -> int: ...

    @property
    def activations(self) -> int:
        """Numbers that an update holds for each observation of a batch."""
        ...

    def init(self, key: jax.Array) -> Params: ...

    def augment(self, obs: jax.Array, key: jax.Array) -> jax.Array:
        """Returns augmented observations (batch, ...), for an update."""
        ...

    def features(self, params: Params, obs: jax.Array) -> jax.Array:
        """(batch, ...) -> (batch, size) float32."""
        ...


@dataclass(frozen=True)
class Identity:
    """Vectors are their own features."""

    size: int
    activations = 0

    def init(self, key: jax.Array) -> Params:
        del key
        return {}

    def augment(self, obs: jax.Array, key: jax.Array) -> jax.Array:
        del key
        return obs

    def features(self, params: Params, obs: jax.Array) -> jax.Array:
        del params
        return obs


class Conv(nn.Module):
    """A 3 x 3 convolution without padding: (batch, height, width, channels) ->
    (batch, (height - 3) // stride + 1, (width - 3) // stride + 1, features)."""

    features: int
    stride: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.orthogonal(2**0.5), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        # In a loop on a CPU, XLA differentiates convolutions element by element. A product with the
        # patches takes a fifteenth of the time.
        out = jax.lax.platform_dependent(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            cpu=self._multiplied,
            default=self._convolved,
        )
        return out + bias.astype(self.dtype)

    def _convolved(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        numbers = ("NHWC", "HWIO", "NHWC")
        stride = (self.stride, self.stride)
        return jax.lax.conv_general_dilated(x, kernel, stride, "VALID", dimension_numbers=numbers)

    def _multiplied(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        stop = [size - 2 for size in x.shape[1:3]]
        patches = [
            x[:, i : i + stop[0] : self.stride, j : j + stop[1] : self.stride]
            for i in range(3)
            for j in range(3)
        ]
        return jnp.concatenate(patches, -1) @ kernel.reshape(-1, self.features)


class ConvNet(nn.Module):
    """Four 3 x 3 convolutions without padding, the first of stride 2: images (batch, frames,
    height, width, 3) uint8 -> their last activations, flat."""

    channels: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        batch, frames, height, width, colors = images.shape
        x = jnp.moveaxis(images, 1, 3).reshape(batch, height, width, frames * colors)
        x = x.astype(self.dtype) / 255 - 0.5
        for stride in STRIDES:
            x = nn.relu(Conv(self.channels, stride, self.dtype)(x))
        return x.reshape(batch, -1).astype(jnp.float32)


@dataclass(frozen=True)
class ImageEncoder:
    """images: (frames, height, width, 3). shift: largest random shift, in pixels."""

    net: ConvNet
    images: tuple[int, ...]
    shift: int

    @property
    def size(self) -> int:
        return int(jax.eval_shape(lambda: self.net.init_with_output(*self._example))[0].shape[-1])

    @property
    def activations(self) -> int:
        """Counts the input and every layer's output; on CPUs also the patches of all layers, and
        the gradient of one layer's patches at a time."""
        frames, height, width, colors = self.images
        outputs, patches, channels = [height * width * frames * colors], [], frames * colors
        for stride in STRIDES:
            height, width = ((side - 3) // stride + 1 for side in (height, width))
            patches.append(9 * channels * height * width)
            channels = self.net.channels
            outputs.append(channels * height * width)
        multiplied = sum(patches) + max(patches) if jax.default_backend() == "cpu" else 0
        return sum(outputs) + multiplied

    @property
    def _example(self) -> tuple[jax.Array, jax.Array]:
        return jax.random.key(0), jnp.zeros((1, *self.images), jnp.uint8)

    def init(self, key: jax.Array) -> Params:
        return self.net.init(key, self._example[1])

    def augment(self, obs: jax.Array, key: jax.Array) -> jax.Array:
        return random_shift(obs, key, self.shift)

    def features(self, params: Params, obs: jax.Array) -> jax.Array:
        return cast(jax.Array, self.net.apply(params, obs))


def random_shift(images: jax.Array, key: jax.Array, most: int) -> jax.Array:
    """Moves each (frames, height, width, 3) of a batch by whole pixels, -most to most each way, all
    its frames alike. Uncovered pixels repeat the edge."""
    batch, _, height, width, _ = images.shape
    offsets = jax.random.randint(key, (batch, 2), -most, most + 1)
    rows = jnp.clip(jnp.arange(height) + offsets[:, :1], 0, height - 1)
    columns = jnp.clip(jnp.arange(width) + offsets[:, 1:], 0, width - 1)
    return jax.vmap(lambda image, r, c: image[:, r][:, :, c])(images, rows, columns)


def make_encoder(config: PixelsConfig, obs_shape: tuple[int, ...], dtype: Any) -> Encoder:
    """The encoder of observations of `obs_shape`."""
    if len(obs_shape) == 1:
        return Identity(*obs_shape)
    return ImageEncoder(ConvNet(config.channels, dtype), obs_shape, config.shift)
