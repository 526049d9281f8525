"""The guarded Adam against optax's own, and against numbers that would stay in its state."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fpmd_mjx.nn.optim import guarded_adam, skipped

from ..conftest import host

PARAMS = {"a": np.ones((3, 2), np.float32), "b": np.zeros(5, np.float32)}


def gradient_of(i: int) -> dict[str, jax.Array]:
    return jax.tree.map(
        lambda x: jnp.asarray(x + np.arange(x.size).reshape(x.shape) ** i, jnp.float32), PARAMS
    )


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan, 1e20, -1e30])
def test_it_is_adam_of_each_layer_but_for_updates_that_would_spoil_it(bad: float) -> None:
    """1e20 is finite, and its square, Adam's second moment, is not: with that in it, a parameter
    never moves again."""
    optimizer, adam = guarded_adam(1e-3), optax.adam(1e-3)
    state, expected = optimizer.init(PARAMS), adam.init(PARAMS)
    for i in range(4):
        gradient = gradient_of(i)
        if i == 2:  # one number of one layer
            gradient["b"] = gradient["b"].at[3].set(bad)
        step, after = optimizer.update(gradient, state, PARAMS)
        if i == 2:
            assert all((x == 0.0).all() for x in jax.tree.leaves(step))
            jax.tree.map(np.testing.assert_array_equal, host(after.inner), host(state.inner))
        else:
            wanted, expected = adam.update(gradient, expected, PARAMS)
            jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), step, wanted)
            assert all((np.asarray(x) != 0.0).any() for x in jax.tree.leaves(step))
        state = after
    assert int(skipped(state)) == 1
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(host(state)))
