"""The seed axis: maps functions of one seed over leading axes, and derives random keys."""

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fpmd_mjx.config.schema import Config


def over_seeds(function: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.vmap(function)`, except that one seed alone is not batched.

    A batch of one is not free: XLA drops its axis only after it has laid out the products, and
    the gradients of the weights stay transposed, which costs CPUs a tenth of an update.
    """
    mapped = jax.vmap(function)

    def call(*arguments: Any) -> Any:
        if jax.tree.leaves(arguments)[0].shape[0] != 1:
            return mapped(*arguments)
        result = function(*jax.tree.map(lambda x: x[0], arguments))
        return jax.tree.map(lambda x: x[None], result)

    return call


def split(keys: jax.Array, count: int) -> tuple[jax.Array, ...]:
    """`count` new keys for each seed: (seeds,) -> count arrays of (seeds,)."""
    new = jax.vmap(lambda key: jax.random.split(key, count))(keys)
    return tuple(new[:, i] for i in range(count))


class Stream(IntEnum):
    """Purposes of random numbers. Each has its own keys.

    Training splits its keys from the key of the seed itself. `split(key, n)[i]` equals
    `fold_in(key, i)`, so the numbers here are larger than any n that training splits into.
    """

    EVALUATION = 0x45564C  # during training; index: the epoch
    SCORING = 0x53434F52  # `fpmd eval` in MJX; index: its --seed
    SCORING_REAL = 0x5245414C  # `fpmd eval` in the original simulator; index: its --seed
    VIDEO = 0x564944  # `fpmd render`; index: its --seed
    CHECKPOINT_VIDEO = 0x43504B54  # at checkpoints; index: the epoch
    BENCHMARK = 0x424D4B  # `fpmd bench`


def stream_keys(stream: Stream, seeds: jax.Array, index: jax.Array | int) -> jax.Array:
    """Keys of one purpose, (seeds,): a function of `stream`, each of `seeds` and `index` alone."""

    def key(seed: jax.Array) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), stream), index)

    return jax.vmap(key)(seeds)


def reset_seeds(seeds: Sequence[int], seed: int, episodes: int) -> np.ndarray:
    """Seeds of the original simulators' resets: (seeds, episodes) uint32.

    seeds: of the training runs; seed: of the score. A hash of the seed of the run, the seed of the
    score and the number of the episode.
    """
    streams = [np.random.SeedSequence((of_run, seed)) for of_run in seeds]
    return np.stack([stream.generate_state(episodes, np.uint32) for stream in streams])


def seed_list(config: Config) -> list[int]:
    return list(range(config.seed, config.seed + config.seeds))


def seed_array(config: Config) -> jax.Array:
    return jnp.asarray(seed_list(config), jnp.uint32)
