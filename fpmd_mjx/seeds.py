"""The seed axis: what is written for one seed, mapped over the leading axis of its arguments."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fpmd_mjx.config.schema import Config


def over_seeds(function: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.vmap(function)`, where one seed alone is not batched.

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


_EVAL_STREAM = 0x45564C  # keeps the keys of evaluations apart from those of the program


def eval_keys(seeds: jax.Array, epoch: jax.Array) -> jax.Array:
    """Keys of the evaluation after `epoch`, (seeds,): a function of both alone."""

    def key(seed: jax.Array) -> jax.Array:
        stream = jax.random.fold_in(jax.random.key(seed), _EVAL_STREAM)
        return jax.random.fold_in(stream, epoch)

    return jax.vmap(key)(seeds)


def seed_list(config: Config) -> list[int]:
    return list(range(config.seed, config.seed + config.seeds))


def seed_array(config: Config) -> jax.Array:
    return jnp.asarray(seed_list(config), jnp.uint32)


def episode_keys(config: Config, seed: int) -> jax.Array:
    """Keys of fresh episodes, (seeds,); seed: of the episodes."""
    keys = jax.vmap(jax.random.key)(seed_array(config))
    return jax.vmap(partial(jax.random.fold_in, data=seed))(keys)
