"""Rectified flow: x_t = t a + (1 - t) eps, from noise at t = 0 to data at t = 1.

Source: Liu et al., arXiv 2209.03003; its use as a policy: FPMD (arXiv 2507.23675), FPMD-R.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from fpmd_mjx.flows import Field


@dataclass(frozen=True)
class RectifiedFlow:
    """Regresses the velocity v(x_t, t) on the straight line's a - eps.

    time_power: 1 draws t uniformly, as released. A power above 1 draws small t more often, which
    lowers the noise in the gradient. The target a - eps has the variance Var(a) / (t^2 Var(a) +
    (1 - t)^2) given x_t: Var(a) at t = 0, where the one step is taken, and 1 at t = 1. All times
    share the network's weights, so they share this noise. The optimum does not depend on the power.
    """

    time_power: float = 1.0
    one_step_times: ClassVar[tuple[float, ...]] = (0.0,)

    def draw_times(self, key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, ...]:
        """t = u^time_power, u ~ U(0, 1): one array of `shape`."""
        u = jax.random.uniform(key, shape, jnp.float32)
        return (u if self.time_power == 1.0 else u**self.time_power,)

    def errors(
        self, field: Field, target: jax.Array, noise: jax.Array, times: tuple[jax.Array, ...]
    ) -> jax.Array:
        """|| v(x_t, t) - (a - eps) ||^2 for every sample: (..., d) -> (...,)."""
        (t,) = times
        x_t = t[..., None] * target + (1.0 - t[..., None]) * noise
        return jnp.sum(jnp.square(field(x_t, t) - (target - noise)), -1)

    def sample(self, field: Field, x: jax.Array, steps: int) -> jax.Array:
        """x at t = 0 -> x at t = 1 by `steps` Euler steps of equal size."""
        dt = 1.0 / steps

        def euler(x: jax.Array, t: jax.Array) -> tuple[jax.Array, None]:
            return x + dt * field(x, t), None

        times = jnp.arange(steps, dtype=jnp.float32) * dt
        if steps == 1:  # not worth a loop in the compiled program
            return euler(x, times[0])[0]
        return jax.lax.scan(euler, x, times)[0]
