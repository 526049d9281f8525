"""Adam that skips an update if it would make its state not finite."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class Guarded(NamedTuple):
    """inner: the state of Adam; skipped: the number of skipped updates, scalar int32."""

    inner: optax.OptState
    skipped: jax.Array


def guarded_adam(lr: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    """Adam that skips and counts an update if the gradient, the new moments or the step are not
    finite.

    A finite gradient is not enough. The second moment holds its square, which overflows from 2e19
    on, and a parameter with an infinite second moment never moves again. `optax.apply_if_finite`
    checks the gradient alone, with a condition, and a GPU waits for the host at conditions.

    Adam sees all parameters as one vector: checking and stepping them is then a few kernels instead
    of several for each layer.
    """
    adam = optax.adam(lr)

    def init(params: Any) -> Guarded:
        return Guarded(adam.init(params), jnp.zeros((), jnp.int32))

    def update(gradient: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        step, inner = adam.update(gradient, state.inner, params)
        checked = [
            x for x in jax.tree.leaves((step, inner)) if jnp.issubdtype(x.dtype, jnp.inexact)
        ]
        # A gradient that is not finite leaves no moment finite.
        finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in checked]))
        inner = jax.tree.map(partial(jnp.where, finite), inner, state.inner)
        return jnp.where(finite, step, 0.0), Guarded(inner, state.skipped + ~finite)

    return optax.flatten(optax.GradientTransformation(init, update))


def skipped(*states: Any) -> jax.Array:
    """The updates that these optimizers skipped in all, scalar int32."""
    return sum((x.skipped for x in states), jnp.int32(0))
