"""`tolerance` against dm_control's, over shapes, bounds and margins."""

from __future__ import annotations

import numpy as np
import pytest
from dm_control.utils import rewards as original

from envs.dmc import rewards

# Rounding of float32 in functions of size 1.
TOLERANCE = 2e-6
SIGMOIDS = [
    "gaussian",
    "hyperbolic",
    "long_tail",
    "reciprocal",
    "cosine",
    "linear",
    "quadratic",
    "tanh_squared",
]
# float32 values, so that both sides see the same number at the inclusive bounds.
GRID = np.unique(np.append(np.linspace(-20, 20, 801, dtype=np.float32), [0.25, -0.25, 1e3, -1e3]))
GRID = GRID.astype(np.float32)


@pytest.mark.parametrize("sigmoid", SIGMOIDS)
@pytest.mark.parametrize("bounds", [(0, 0), (-0.25, 0.25), (10, np.inf), (-np.inf, -1), (3, 5)])
@pytest.mark.parametrize("margin", [0, 0.5, 2, 10])
@pytest.mark.parametrize("value_at_margin", [0, 0.1, 0.9])
def test_equals_dm_control(
    sigmoid: str, bounds: tuple[float, float], margin: float, value_at_margin: float
) -> None:
    options = {"margin": margin, "sigmoid": sigmoid, "value_at_margin": value_at_margin}
    try:
        with np.errstate(over="ignore"):
            expected = original.tolerance(GRID.astype(np.float64), bounds, **options)
    except ValueError:
        with pytest.raises(ValueError, match="out of range"):
            rewards.tolerance(GRID, bounds, **options)
        return
    ported = rewards.tolerance(GRID, bounds, **options)
    assert ported.dtype == np.float32
    assert not ported.weak_type
    np.testing.assert_allclose(ported, expected, rtol=0, atol=TOLERANCE)


def test_rejects_what_it_cannot_mean() -> None:
    with pytest.raises(ValueError, match="lower <= upper"):
        rewards.tolerance(0.0, (1, 0))
    with pytest.raises(ValueError, match="negative"):
        rewards.tolerance(0.0, margin=-1)
    with pytest.raises(ValueError, match="must be one of"):
        rewards.tolerance(0.0, margin=1, sigmoid="gauss")
