"""The encoder of images and the random shift against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate

from fpmd_mjx.config.schema import PixelsConfig
from fpmd_mjx.nn.encoders import Conv, ConvNet, ImageEncoder, make_encoder, random_shift

IMAGES = (2, 21, 24, 3)
"""An odd and an even side."""


def images(count: int) -> jax.Array:
    return jax.random.bits(jax.random.key(0), (count, *IMAGES), jnp.uint8)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("way", ["__call__", "_convolved", "_multiplied"])
def test_a_convolution_is_that_of_scipy(stride: int, way: str) -> None:
    x = jax.random.normal(jax.random.key(1), (2, 9, 12, 5))
    layer = Conv(4, stride)
    params = layer.init(jax.random.key(2), x)
    kernel = np.asarray(params["params"]["kernel"])
    wanted = np.stack(
        [
            np.stack([correlate(one, kernel[..., f], "valid")[..., 0] for f in range(4)], -1)
            for one in np.asarray(x)
        ]
    )[:, ::stride, ::stride]
    found = layer.apply(params, x) if way == "__call__" else getattr(layer, way)(x, kernel)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_features_are_four_layers_of_the_scaled_images() -> None:
    encoder = make_encoder(PixelsConfig(channels=4), IMAGES, jnp.float32)
    params = encoder.init(jax.random.key(1))
    seen = images(3)
    # Frames are channels, oldest first.
    x = np.concatenate([seen[:, 0], seen[:, 1]], -1) / 255 - 0.5
    for i, stride in enumerate((2, 1, 1, 1)):
        layer = params["params"][f"Conv_{i}"]
        x = np.stack(
            [
                np.stack(
                    [correlate(one, layer["kernel"][..., f], "valid")[..., 0] for f in range(4)], -1
                )
                for one in x
            ]
        )[:, ::stride, ::stride]
        x = np.maximum(x + np.asarray(layer["bias"]), 0)
    found = encoder.features(params, seen)
    np.testing.assert_allclose(found, x.reshape(3, -1), atol=1e-5)
    assert found.shape[-1] == encoder.size
    assert found.dtype == jnp.float32


def test_the_released_encoder() -> None:
    encoder = make_encoder(PixelsConfig(), (3, 84, 84, 3), jnp.float32)
    assert encoder.size == 32 * 35 * 35
    kernels = [
        x.shape
        for x in jax.tree.leaves(jax.eval_shape(encoder.init, jax.random.key(0)))
        if x.ndim > 1
    ]
    assert kernels == [(3, 3, 9, 32), *[(3, 3, 32, 32)] * 3]


def test_bfloat16_is_close_and_comes_out_as_float32() -> None:
    nets = [ConvNet(4, dtype) for dtype in (jnp.float32, jnp.bfloat16)]
    params = nets[0].init(jax.random.key(0), images(1))
    wanted, found = (net.apply(params, images(2)) for net in nets)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, wanted, atol=0.05)
    assert not np.array_equal(found, wanted)


def test_vectors_are_their_own_features() -> None:
    encoder = make_encoder(PixelsConfig(), (7,), jnp.float32)
    obs = jnp.ones((2, 7))
    assert encoder.size == 7
    assert jax.tree.leaves(encoder.init(jax.random.key(0))) == []
    assert encoder.features({}, encoder.augment(obs, jax.random.key(1))) is obs


def test_a_shift_is_a_window_of_the_image_with_repeated_edges() -> None:
    most, seen = 2, np.asarray(images(400))
    found = np.asarray(random_shift(jnp.asarray(seen), jax.random.key(3), most))
    padding = ((0, 0), (most, most), (most, most), (0, 0))
    height, width = IMAGES[1:3]
    counts = np.zeros((5, 5), int)
    for one, shifted in zip(seen, found, strict=True):
        padded = np.pad(one, padding, "edge")
        matches = [
            (i, j)
            for i in range(5)
            for j in range(5)
            if np.array_equal(padded[:, i : i + height, j : j + width], shifted)
        ]
        assert len(matches) == 1  # all frames by the same way
        counts[matches[0]] += 1
    assert counts.min() > 0  # 16 expected of each
    assert counts.max() < 40


def test_views_differ_from_update_to_update_and_not_without_a_shift() -> None:
    encoder = ImageEncoder(ConvNet(4), IMAGES, shift=4)
    seen = images(8)
    views = [encoder.augment(seen, jax.random.key(i)) for i in range(2)]
    assert not np.array_equal(*views)
    still = ImageEncoder(ConvNet(4), IMAGES, shift=0)
    np.testing.assert_array_equal(still.augment(seen, jax.random.key(0)), seen)
