"""dm_control's `tolerance`: 1 inside an interval, falling off smoothly outside of it.

Tassa et al. 2018, https://arxiv.org/abs/1801.00690, section on rewards.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

_Shape = Callable[[jax.Array, float], jax.Array]


def _gaussian(x: jax.Array, edge: float) -> jax.Array:
    return jnp.exp(np.log(edge) * x**2)


def _hyperbolic(x: jax.Array, edge: float) -> jax.Array:
    # jnp.cosh overflows to inf far away, and 1 / inf is the right limit.
    return 1 / jnp.cosh(float(np.arccosh(1 / edge)) * x)


def _long_tail(x: jax.Array, edge: float) -> jax.Array:
    return 1 / ((1 / edge - 1) * x**2 + 1)


def _reciprocal(x: jax.Array, edge: float) -> jax.Array:
    return 1 / ((1 / edge - 1) * jnp.abs(x) + 1)


def _cosine(x: jax.Array, edge: float) -> jax.Array:
    phase = float(np.arccos(2 * edge - 1)) * x
    return jnp.where(jnp.abs(phase) < np.pi, (1 + jnp.cos(phase)) / 2, 0.0)


def _linear(x: jax.Array, edge: float) -> jax.Array:
    drop = (1 - edge) * x
    return jnp.where(jnp.abs(drop) < 1, 1 - drop, 0.0)


def _quadratic(x: jax.Array, edge: float) -> jax.Array:
    drop = (1 - edge) * x**2
    return jnp.where(drop < 1, 1 - drop, 0.0)


def _tanh_squared(x: jax.Array, edge: float) -> jax.Array:
    return 1 - jnp.tanh(float(np.arctanh(np.sqrt(1 - edge))) * x) ** 2


# Each maps (distance from the interval in margins, value one margin away) to [0, 1].
_SHAPES: dict[str, _Shape] = {
    "gaussian": _gaussian,
    "hyperbolic": _hyperbolic,
    "long_tail": _long_tail,
    "reciprocal": _reciprocal,
    "cosine": _cosine,
    "linear": _linear,
    "quadratic": _quadratic,
    "tanh_squared": _tanh_squared,
}
# These reach 0 at a finite distance, so that 0 is a possible value one margin away.
_COMPACT = frozenset({"cosine", "linear", "quadratic"})


def tolerance(
    x: ArrayLike,
    bounds: tuple[float, float] = (0.0, 0.0),
    margin: float = 0.0,
    sigmoid: str = "gaussian",
    value_at_margin: float = 0.1,
) -> jax.Array:
    """Scores how well `x` lies within `bounds`, elementwise.

    Args:
        x: any shape.
        bounds: inclusive interval that scores 1; either end may be infinite.
        margin: distance outside of the interval at which the score is `value_at_margin`; with
            0 everything outside scores 0.
        sigmoid: shape of the fall, one of the keys of `_SHAPES`.
        value_at_margin: in (0, 1); 0 too for cosine, linear and quadratic. Unused if margin is 0.

    Returns:
        float32 of the shape of `x`, in [0, 1].

    Raises:
        ValueError: if an argument is outside of its range, or the sigmoid is unknown.
    """
    lower, upper = bounds
    if lower > upper:
        raise ValueError(f"bounds must be (lower, upper) with lower <= upper, got {bounds}.")
    if margin < 0:
        raise ValueError(f"margin must not be negative, got {margin}.")
    x = jnp.asarray(x, jnp.float32)
    inside = (lower <= x) & (x <= upper)
    if margin == 0:
        return inside.astype(jnp.float32)
    if sigmoid not in _SHAPES:
        raise ValueError(f"sigmoid must be one of {sorted(_SHAPES)}, got {sigmoid!r}.")
    least_ok = value_at_margin >= 0 if sigmoid in _COMPACT else value_at_margin > 0
    if not (least_ok and value_at_margin < 1):
        raise ValueError(f"value_at_margin={value_at_margin} is out of range for {sigmoid!r}.")
    outside_by = jnp.where(x < lower, lower - x, x - upper) / margin
    return jnp.where(inside, 1.0, _SHAPES[sigmoid](outside_by, value_at_margin)).astype(jnp.float32)
