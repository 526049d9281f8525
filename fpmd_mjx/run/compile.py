"""The executables of a run, and the compile cache."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from fpmd_mjx.algorithms.base import Mode
from fpmd_mjx.evaluation.rollout import rollout
from fpmd_mjx.program import Program
from fpmd_mjx.seeds import Stream, stream_keys

LOAD_SECONDS = 3.0
"""A cached epoch loads within this many seconds; compiling one takes longer."""


@dataclass
class Compiled:
    """The executables of a run, each traced and compiled once.

    evaluations: for each mode of `eval.modes`, a function that returns its executable. seconds:
    from the start of compilation until the first epoch can begin.
    """

    init: Any
    train_epoch: Any
    evaluations: Mapping[Mode, Callable[[], Any]]
    seconds: float

    def evaluation(self, mode: Mode) -> Any:
        """The executable (policy, keys) -> `Episodes`."""
        return self.evaluations[mode]()


def compile_program(program: Program) -> Compiled:
    """Traces and compiles ahead of time.

    XLA compiles without Python's lock, so the executables are built side by side. Loading from the
    cache takes that lock. The evaluations are then built at their first use, after the first epoch.
    """
    config = program.config
    start = time.monotonic()
    seeds = jax.ShapeDtypeStruct((config.seeds,), jnp.uint32)
    state = program.traced_init.out_info
    keys_of = partial(stream_keys, Stream.EVALUATION)
    keys = jax.eval_shape(keys_of, seeds, jax.ShapeDtypeStruct((), jnp.uint32))
    options: Any = program.compiler_options
    pool = ThreadPoolExecutor()
    # Each is compiled while the next one is traced.
    init = pool.submit(program.traced_init.lower().compile, options)
    train_epoch = pool.submit(
        jax.jit(program.train_epoch, donate_argnums=0).lower(state).compile, options
    )

    @cache
    def evaluation(mode: Mode) -> jax.stages.Compiled:
        evaluate = partial(rollout, program, mode, config.eval.episodes)
        return jax.jit(evaluate).lower(program.policy(state), keys).compile(options)

    modes = [Mode.parse(mode) for mode in config.eval.modes]
    cached, _ = wait([train_epoch], timeout=LOAD_SECONDS)
    if not cached:
        for mode in modes:
            evaluation(mode)
    executables = init.result(), train_epoch.result()
    evaluations = {mode: partial(evaluation, mode) for mode in modes}
    return Compiled(*executables, evaluations, time.monotonic() - start)


def compile_cache() -> Path:
    """The folder of JAX's compile cache: the user's choice, or ours."""
    chosen = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    return Path(chosen or Path.home() / ".cache" / "fpmd_mjx" / "xla")


def use_compile_cache() -> None:
    """Keeps compiled programs on disk between processes."""
    jax.config.update("jax_compilation_cache_dir", str(compile_cache()))
