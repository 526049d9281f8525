"""MeanFlow: x_t = (1 - t) a + t eps, from noise at t = 1 to data at t = 0.

The field is the average velocity u(x_t, r, t) over [r, t], so one call with r = 0, t = 1 carries
noise to data. Source: Geng et al., arXiv 2505.13447; as a policy: FPMD (arXiv 2507.23675), FPMD-M.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from fpmd_mjx.flows import Field


@dataclass(frozen=True)
class MeanFlow:
    """Regresses u on the MeanFlow identity u = v - (t - r) du/dt.

    equal_share: share of the training pairs with r = t. For these the loss is plain flow matching.
    """

    equal_share: float = 0.0
    one_step_times: ClassVar[tuple[float, ...]] = (0.0, 1.0)  # r, t

    def draw_times(self, key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, ...]:
        """(r, t), each of `shape`: two U(0, 1) draws in order, r = t in `equal_share` of them."""
        pair_key, equal_key = jax.random.split(key)
        low, high = jnp.sort(jax.random.uniform(pair_key, (2, *shape), jnp.float32), axis=0)
        equal = jax.random.uniform(equal_key, shape) < self.equal_share
        return jnp.where(equal, high, low), high

    def errors(
        self, field: Field, target: jax.Array, noise: jax.Array, times: tuple[jax.Array, ...]
    ) -> jax.Array:
        """|| u(x_t, r, t) - stop(v - (t - r) du/dt) ||^2 for every sample: (..., d) -> (...,).

        du/dt is the total derivative along the path: one jvp with the tangent (v, 0, 1).
        """
        r, t = times
        x_t = (1.0 - t[..., None]) * target + t[..., None] * noise
        velocity = noise - target
        u, du_dt = jax.jvp(field, (x_t, r, t), (velocity, jnp.zeros_like(r), jnp.ones_like(t)))
        u_target = jax.lax.stop_gradient(velocity - (t - r)[..., None] * du_dt)
        return jnp.sum(jnp.square(u - u_target), -1)

    def sample(self, field: Field, x: jax.Array, steps: int) -> jax.Array:
        """x at t = 1 -> x at t = 0 in `steps` jumps of equal length."""
        dt = 1.0 / steps

        def jump(x: jax.Array, t: jax.Array) -> tuple[jax.Array, None]:
            return x - dt * field(x, t - dt, t), None

        times = 1.0 - jnp.arange(steps, dtype=jnp.float32) * dt
        if steps == 1:  # not worth a loop in the compiled program
            return jump(x, times[0])[0]
        return jax.lax.scan(jump, x, times)[0]
