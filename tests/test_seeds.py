"""A seed of several in one program is the run of that seed alone."""

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fpmd_mjx import seeds as streams
from fpmd_mjx.algorithms.base import Mode
from fpmd_mjx.evaluation.rollout import rollout

from .conftest import QUICK, VARIANTS, Toy, host
from .toy import Corridor, build

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


# ------------------------------------------------------------------------- streams of random keys

Key = tuple[int, ...]


@contextmanager
def recorded() -> Iterator[list[Key]]:
    """Every key that `jax.random` derives in here, in compiled code too."""
    seen: list[Key] = []

    def note(data: Any) -> None:
        seen.extend(map(tuple, np.asarray(data).reshape(-1, np.shape(data)[-1]).tolist()))

    def noting(derive: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        @functools.wraps(derive)
        def call(*args: Any, **kwargs: Any) -> jax.Array:
            keys = derive(*args, **kwargs)
            jax.debug.callback(note, jax.random.key_data(keys))
            return keys

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("key", "split", "fold_in"):
            patch.setattr(jax.random, name, noting(getattr(jax.random, name)))
        yield seen
        jax.effects_barrier()


def test_no_key_is_used_twice_in_all_streams() -> None:
    """The first epochs of training, evaluations, scores and videos of two seeds."""
    program = build(Corridor(), "seeds=2", "num_envs=3", "epoch_steps=6", "warmup_steps=6")
    seeds = jnp.arange(2, dtype=jnp.uint32)
    with recorded() as seen:
        init = jax.jit(program.init, compiler_options=QUICK)
        epoch = jax.jit(program.train_epoch, compiler_options=QUICK)
        play = jax.jit(
            functools.partial(rollout, program, Mode("best_of_n"), 4), compiler_options=QUICK
        )
        state = init(seeds)
        for _ in range(4):
            state, _ = epoch(state)
        assert int(state.updates) > 0
        jax.effects_barrier()
        trained = len(seen)
        policy = program.policy(state)
        for stream in streams.Stream:
            for index in range(6):
                play(policy, streams.stream_keys(stream, seeds, jnp.uint32(index)))
        jax.effects_barrier()
    roots = {tuple(map(int, jax.random.key_data(jax.random.key(i)))) for i in range(2)}
    # A stream is derived anew for each of its indices, from the key of the seed.
    heads = {
        tuple(map(int, jax.random.key_data(jax.random.fold_in(jax.random.key(i), stream))))
        for i in range(2)
        for stream in streams.Stream
    }
    count = Counter(seen)
    assert {key for key, times in count.items() if times > 1} <= roots | heads
    assert trained > 300
    assert len(seen) - trained > 500


def test_a_stream_is_a_function_of_its_name_the_seed_and_the_index() -> None:
    at = lambda *x: jax.random.key_data(streams.stream_keys(*x)).tolist()  # noqa: E731
    seeds = jnp.array([3, 7], jnp.uint32)
    both = at(streams.Stream.SCORING, seeds, jnp.uint32(5))
    assert both == [at(streams.Stream.SCORING, seeds[i : i + 1], 5)[0] for i in (0, 1)]
    assert both == at(streams.Stream.SCORING, seeds, jnp.uint32(5))


def test_no_episode_of_the_real_simulator_begins_like_another() -> None:
    """Whatever the seed of the run, of the score, and the number of the episode."""
    drawn = np.stack([streams.reset_seeds(range(8), seed, 50) for seed in range(10)])
    assert drawn.shape == (10, 8, 50)
    assert len(np.unique(drawn)) == drawn.size
    assert drawn.min() >= 0
    assert drawn.max() < 2**32  # what gymnasium and dm_control take
    np.testing.assert_array_equal(drawn[3, 5:], streams.reset_seeds(range(5, 8), 3, 50))
    np.testing.assert_array_equal(drawn[3, :, :7], streams.reset_seeds(range(8), 3, 7))
