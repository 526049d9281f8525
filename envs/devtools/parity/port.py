"""A port in small batches that compile once."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...base import State
from ...physics.options import COMPILER_OPTIONS
from .original import Starts, Steps

BATCH = 20
"""Simulations that step together. They are few, because a batch waits for its slowest solver. Their
number is fixed, so that a port compiles once."""


@dataclasses.dataclass(frozen=True)
class Port:
    """A port whose functions take batches of `BATCH`.

    Attributes:
        env: the port.
        step: (states, actions) -> states, compiled at the first call.
        reset: keys -> states, likewise.
    """

    env: Any
    step: Callable[[State, jax.Array], State]
    reset: Callable[[jax.Array], State]

    @classmethod
    def of(cls, env: Any) -> Port:
        """env: the port, from `envs.make`."""
        step, reset = (
            jax.jit(jax.vmap(function), compiler_options=COMPILER_OPTIONS)
            for function in (env.step, env.reset)
        )
        return cls(env, step, reset)

    def at(self, starts: Starts) -> State:
        """Returns states of the port, (BATCH, ...), from those of the original."""
        act = starts.act if starts.act.shape[1] else None
        physics = jax.vmap(self.env.physics.init)(starts.qpos, starts.qvel, act)
        return State(
            physics=physics.replace(qacc_warmstart=jnp.asarray(starts.warmstart, jnp.float32)),
            obs=jnp.asarray(starts.obs, jnp.float32),
            reward=jnp.zeros(BATCH, jnp.float32),
            terminated=jnp.zeros(BATCH, bool),
            task=jax.tree.map(jnp.asarray, starts.task),
        )

    def one_step(self, seen: Steps) -> State:
        """Returns the port's next state from each state of the original: (n, ...) NumPy arrays."""
        results: list[State] = []
        for start in range(0, len(seen), BATCH):
            # The last row is repeated to fill the batch.
            rows = seen.take(np.minimum(np.arange(start, start + BATCH), len(seen) - 1))
            results.append(jax.device_get(self.step(self.at(rows), jnp.asarray(rows.action))))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(seen)], *results)

    def resets(self, count: int, seed: int, seconds: float = np.inf) -> State:
        """Returns `count` reset states, (count, ...) NumPy arrays.

        There are fewer if `seconds` of processor time after the first batch do not suffice.
        """
        key, begin = jax.random.key(seed), 0.0
        results: list[State] = []
        while len(results) * BATCH < count:
            if results and time.process_time() - begin > seconds:
                break
            keys = jax.random.split(jax.random.fold_in(key, len(results)), BATCH)
            results.append(jax.device_get(self.reset(keys)))
            begin = begin or time.process_time()
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *results)
