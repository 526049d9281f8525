"""Seconds of compilation, training and evaluation, each counted apart."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax

COMPILATION = "/jax/core/compile/"
"""Prefix of the events in which JAX reports a trace, a lowering or a compilation."""


class Clock:
    """Seconds of compilation, training and evaluation."""

    def __init__(self) -> None:
        self.seconds = {"compile": 0.0, "train": 0.0, "eval": 0.0}

    @contextmanager
    def time(self, what: str) -> Iterator[None]:
        """Counts the seconds of a block as `what`, without those that count as compilation."""
        start, compiled = time.perf_counter(), self.seconds["compile"]
        yield
        within = self.seconds["compile"] - compiled
        self.seconds[what] += time.perf_counter() - start - within

    def compiled(self, function: Any, what: str) -> Callable[..., Any]:
        """`function`, jitted or mapped, compiled before the first call with each set of types. Its
        calls block and count as `what`."""
        executables: dict[Any, Any] = {}

        def call(*arguments: Any) -> Any:
            types = tuple(jax.typeof(leaf) for leaf in jax.tree.leaves(arguments))
            if types not in executables:
                with self.time("compile"):
                    executables[types] = function.lower(*arguments).compile()
            with self.time(what):
                return jax.block_until_ready(executables[types](*arguments))

        return call

    @contextmanager
    def compilation(self) -> Iterator[None]:
        """Counts all that JAX traces, lowers and compiles in a block, whoever calls it."""
        spans: list[tuple[float, float]] = []

        def add(event: str, start_time: float, end_time: float, **_: Any) -> None:
            if not event.startswith(COMPILATION):
                return
            # A trace within a trace is reported first, and is part of the outer one.
            while spans and spans[-1][0] >= start_time:
                start, end = spans.pop()
                self.seconds["compile"] -= end - start
            spans.append((start_time, end_time))
            self.seconds["compile"] += end_time - start_time

        jax.monitoring.register_event_time_span_listener(add)
        try:
            yield
        finally:
            jax.monitoring.unregister_event_time_span_listener(add)
