"""Vectors in a moving frame."""

from __future__ import annotations

import jax


def to_frame(vectors: jax.Array, frame: jax.Array) -> jax.Array:
    """Rotates world vectors (..., 3) into a frame, (3, 3) with the axes as columns.

    It is a sum because accelerators round matrix products to lower precision.
    """
    return (vectors[..., :, None] * frame).sum(axis=-2)
