"""Seconds that are counted apart."""

import time

import jax
import jax.numpy as jnp
import pytest

from fpmd_mjx.bench.peers.clock import COMPILATION, Clock


def test_a_span_within_another_counts_once() -> None:
    clock = Clock()
    report = jax.monitoring.record_event_time_span
    with clock.compilation():
        report(f"{COMPILATION}trace", 1.0, 2.0)
        report(f"{COMPILATION}trace", 4.0, 4.5)
        report(f"{COMPILATION}trace", 3.0, 6.0)  # around the second one
        report("/jax/other", 3.0, 100.0)
        report(f"{COMPILATION}backend", 6.0, 7.0)
    report(f"{COMPILATION}backend", 7.0, 8.0)
    assert clock.seconds == {"compile": 5.0, "train": 0.0, "eval": 0.0}


def test_compilation_is_no_part_of_training() -> None:
    clock, nap = Clock(), 0.05

    def slow_to_trace(x: jax.Array) -> jax.Array:
        time.sleep(10 * nap)
        return x + 1

    step = jax.jit(slow_to_trace)
    with clock.compilation():
        for _ in range(2):
            with clock.time("train"):
                step(jnp.zeros(3)).block_until_ready()
                time.sleep(nap)
    assert clock.seconds["compile"] >= 10 * nap
    assert 2 * nap <= clock.seconds["train"] < 10 * nap
    assert clock.seconds["eval"] == 0.0


def test_an_interruption_ends_the_listening() -> None:
    clock = Clock()
    with pytest.raises(KeyboardInterrupt), clock.compilation():
        raise KeyboardInterrupt
    jax.monitoring.record_event_time_span(f"{COMPILATION}backend", 0.0, 1.0)
    assert clock.seconds["compile"] == 0.0
