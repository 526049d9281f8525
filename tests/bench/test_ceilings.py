"""The device's ceilings: how they are timed, on a clock that is told the time, and their order of
magnitude against NumPy."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fpmd_mjx.bench import ceilings
from fpmd_mjx.bench.kernels import hlo, loop_launches, waits

WITHIN = 8
"""Times as fast or slow: other libraries differ by up to 2, tests on the other core by up to 4."""


def test_a_size_grows_until_a_call_is_long_enough() -> None:
    tried = []

    def seconds(size: int) -> float:
        """Of a device that takes 30 us for the smallest call, and multiplies at 100 TFLOP/s."""
        tried.append(size)
        return 30e-6 + 2 * size**3 / 1e14

    assert ceilings.grow(seconds, 1024, 10**6, power=3) == 8192
    assert seconds(4096) < ceilings.LEAST_SECONDS < seconds(8192)
    # 51 us at 1024 for more than the arithmetic: what is skipped is too small for sure.
    assert tried[:-2] == [1024, 8192]


def test_a_size_does_not_grow_beyond_memory_nor_where_it_is_large_enough() -> None:
    assert ceilings.grow(lambda size: size / 1e6, 100, 3000, power=1) == 3000
    assert ceilings.grow(lambda size: size / 1e6, 100, 50, power=1) == 50
    assert ceilings.grow(lambda size: size / 1e6, 5001, 9000, power=1) == 5001


class Device:
    """Works off a queue of calls, each of `cost` seconds; to dispatch one takes `dispatch`."""

    def __init__(self, cost: float, dispatch: float, slow_turn: int | None = None) -> None:
        self.now = self.done = 0.0
        self.cost, self.dispatch = cost, dispatch
        self.calls = self.waits = 0
        self.slow_turn = slow_turn

    def clock(self) -> float:
        return self.now

    def call(self) -> "Device":
        self.calls += 1
        slow = 10 if self.waits == self.slow_turn else 1
        self.now += self.dispatch
        self.done = max(self.done, self.now) + slow * self.cost
        return self

    def wait(self) -> None:
        self.waits += 1
        self.now = max(self.now, self.done)


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings.jax, "block_until_ready", Device.wait)


@pytest.mark.usefixtures("waiting")
def test_dispatches_hide_behind_the_calls_before() -> None:
    device = Device(cost=5e-3, dispatch=1e-3)
    # Of 7 calls in 40 ms, which take 6 ms each alone, only the first one's dispatch is seen.
    assert ceilings.fastest(device.call, device.clock) == pytest.approx(5e-3 + 1e-3 / 7)
    assert device.calls == 2 + ceilings.REPEATS * 7


@pytest.mark.usefixtures("waiting")
def test_the_fastest_turn_counts_and_long_calls_are_few() -> None:
    device = Device(cost=1.0, dispatch=0.0, slow_turn=3)
    assert ceilings.fastest(device.call, device.clock) == pytest.approx(1.0)
    assert device.calls == 2 + ceilings.REPEATS
    short = Device(cost=1e-6, dispatch=0.0)
    ceilings.fastest(short.call, short.clock)
    assert short.calls == 2 + ceilings.REPEATS * ceilings.MOST_CALLS


def numpy_seconds(call: Callable[[], Any]) -> float:
    found = []
    for _ in range(4):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return min(found)


def test_a_product_runs_at_the_rate_of_numpy() -> None:
    x = np.random.default_rng(0).normal(size=(1024, 1024)).astype(np.float32)
    expected = 2 * 1024**3 / numpy_seconds(lambda: x @ x)
    assert expected / WITHIN < ceilings.product(jnp.float32, "highest") < expected * WITHIN


def test_a_copy_runs_at_the_rate_of_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "FIRST_BYTES", 2**26)
    x = np.ones(2**24, np.float32)
    y = np.zeros_like(x)
    expected = 2 * x.nbytes / numpy_seconds(lambda: np.negative(x, out=y))
    assert expected / WITHIN < ceilings.copy() < expected * WITHIN


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("bfloat16", 2)])
def test_a_small_device_is_measured_with_small_arrays(
    monkeypatch: pytest.MonkeyPatch, dtype: str, size: int
) -> None:
    shapes, seeds = [], []

    def random(shape: tuple[int, ...], dtype: Any, seed: int) -> jax.Array:
        shapes.append(shape)
        seeds.append(seed)
        return jnp.ones(shape, dtype)

    monkeypatch.setattr(ceilings, "_random", random)
    monkeypatch.setattr(ceilings.memory, "limit", lambda: 8 * 3 * size * 64**2)
    assert ceilings.product(dtype) > 0
    assert set(shapes) == {(64, 64)}
    assert set(seeds) == {0, 1}  # a square would do with half the memory traffic
    shapes.clear()
    assert ceilings.copy() > 0
    assert set(shapes) == {(64**2 * size // 4,)}


def test_data_is_random_and_the_operands_differ() -> None:
    x = np.asarray(ceilings._random((3, ceilings.RANDOM_NUMBERS), jnp.float32, 0))
    assert np.unique(x[0]).size > 0.9 * x.shape[1]
    assert abs(x.std() - 1) < 0.01
    assert (np.asarray(ceilings._random((8,), jnp.float32, 1)) != x[0, :8]).all()


def test_loops_stay_loops_of_dependent_kernels() -> None:
    """On a GPU, and on a CPU from JAX 0.11 on, each op is a kernel. Before, a CPU fuses them."""
    x = jnp.zeros(ceilings.TINY)
    for kernels in (1, ceilings.GRAPH_KERNELS):
        loop = ceilings.counted_loop(kernels)
        assert float(loop(x)[0]) == kernels * ceilings.ITERATIONS
        text = hlo(loop, x)
        assert loop_launches(text) in (2, kernels + 1)
        assert waits(text) == 0
    limit = jnp.float32(ceilings.ITERATIONS)
    assert float(ceilings.waiting_loop(x, limit)[0]) == ceilings.ITERATIONS
    text = hlo(ceilings.waiting_loop, x, limit)
    assert loop_launches(text) == 1
    assert waits(text) == 1


def test_what_only_a_gpu_has_is_left_out_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "product", lambda dtype, precision=None: 1.0)
    monkeypatch.setattr(ceilings, "copy", lambda: 2.0)
    everywhere = {
        "ceilings.product_float32_flops_per_second",
        "ceilings.product_bfloat16_flops_per_second",
        "ceilings.copy_bytes_per_second",
        "ceilings.dispatch_seconds",
        "ceilings.launch_seconds",
    }
    found = ceilings.ceilings()
    assert found.keys() == everywhere
    assert 0 < found["ceilings.launch_seconds"] < found["ceilings.dispatch_seconds"] < 0.1
    monkeypatch.setattr(ceilings.jax, "default_backend", lambda: "gpu")
    found = ceilings.ceilings()
    assert found.keys() - everywhere == {
        "ceilings.product_tf32_flops_per_second",
        "ceilings.product_default_flops_per_second",
        "ceilings.graph_launch_seconds",
        "ceilings.host_wait_seconds",
    }
    assert abs(found["ceilings.host_wait_seconds"]) < 1e-3
