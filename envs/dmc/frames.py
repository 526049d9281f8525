"""Vectors seen from a moving frame."""

from __future__ import annotations

import jax


def to_frame(vectors: jax.Array, frame: jax.Array) -> jax.Array:
    """Rotates world vectors (..., 3) into a frame, the columns of whose (3, 3) are its axes.

    Written as a sum because accelerators round matrix products to lower precision.
    """
    return (vectors[..., :, None] * frame).sum(axis=-2)
