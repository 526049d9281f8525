"""A seed of several in one program is the run of that seed alone."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from .conftest import VARIANTS, Toy, host
from .toy import build

EPOCHS = 3
# Batched matrix products may add in another order: float32 rounding, over two epochs of learning.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def alone() -> Toy:
    env, overrides = VARIANTS["plain"]
    return Toy.of(build(env, *overrides, "seeds=1"))


@pytest.fixture(scope="module")
def together(toys: Callable[[str], Toy]) -> tuple[Any, list[Any]]:
    toy = toys("plain")
    state, metrics = toy.run(EPOCHS)
    assert int(state.updates) > 0
    return host(state), metrics


@pytest.mark.parametrize("seed", [0, 3])
def test_a_seed_beside_others_is_the_seed_alone(
    alone: Toy, together: tuple[Any, list[Any]], seed: int
) -> None:
    ours, our_metrics = together
    state = alone.compiled.init(jnp.array([seed], jnp.uint32))
    theirs, their_metrics = alone.run(EPOCHS, state)
    pick = lambda tree: jax.tree.map(lambda x: x[seed], tree)  # noqa: E731
    one = lambda tree: jax.tree.map(lambda x: x[0], tree)  # noqa: E731
    parts = ("learner", "normalizer", "env", "key")
    pairs = [(pick(getattr(ours, name)), one(host(getattr(theirs, name)))) for name in parts]
    pairs += [(pick(ours.replay.rows), one(host(theirs.replay.rows)))]
    pairs += [(pick(a), one(b)) for a, b in zip(our_metrics, their_metrics, strict=True)]
    for ours_, theirs_ in pairs:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, TOLERANCE, TOLERANCE), ours_, theirs_
        )


def test_seeds_differ_from_each_other(together: tuple[Any, list[Any]]) -> None:
    state, metrics = together
    seeds = state.key.shape[0]
    random = (state.key, state.replay.rows.obs[:, :10], state.replay.rows.action[:, :10])
    kernels = [x for x in jax.tree.leaves(state.learner.actor) if x.ndim > 2]
    assert len(kernels) >= 2
    for x in (*random, *kernels, metrics[-1]["critic/loss"]):
        assert len({x[i].tobytes() for i in range(seeds)}) == seeds
