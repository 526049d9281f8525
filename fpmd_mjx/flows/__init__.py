"""Flow matching without reinforcement learning: interpolant, loss and sampler of each flow.

A `Field` is a network with everything but the sample and the times bound. Each flow has

- `draw_times(key, shape)`: the times of one training batch;
- `errors(field, target, noise, times)`: the per-sample regression error, unweighted;
- `sample(field, x, steps)`: the map from noise to data in `steps` network calls.

`sample(field, x, 1)` is the one-step policy.
"""

from collections.abc import Callable
from typing import Protocol

import jax

Field = Callable[..., jax.Array]
"""(x: (..., d), *times: (...,), or () where all are the same) -> velocity: (..., d)."""


class Flow(Protocol):
    """A flow of a policy. one_step_times: the times of the only network call in
    `sample(field, x, 1)`."""

    @property
    def one_step_times(self) -> tuple[float, ...]: ...

    def draw_times(self, key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, ...]: ...

    def errors(
        self, field: Field, target: jax.Array, noise: jax.Array, times: tuple[jax.Array, ...]
    ) -> jax.Array: ...

    def sample(self, field: Field, x: jax.Array, steps: int) -> jax.Array: ...
