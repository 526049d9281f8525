"""The device's ceilings: its fastest product and copy, and what a kernel, a call and a wait for the
host cost."""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fpmd_mjx.bench.kernels import hlo, loop_launches
from fpmd_mjx.run import memory

LEAST_SECONDS = 5e-3
"""Of one call of a product or a copy: a hundred times what a dispatch costs."""

TURN_SECONDS = 0.04
MOST_CALLS = 8
"""A turn enqueues as many calls as take TURN_SECONDS, but no more than MOST_CALLS."""

REPEATS = 5
"""Turns of each measurement, of which the fastest counts."""

FIRST_WIDTH = 1024
FIRST_BYTES = 2**28
"""Where products and copies begin to grow: more than the caches hold."""

MEMORY_SHARE = 1 / 8
"""Of the device's memory, at most, for the arrays of one measurement."""

RANDOM_NUMBERS = 2**20
"""Longer data repeats these: drawing gigabytes would take a CPU minutes."""

ITERATIONS = 1000
TINY = (1024,)
"""Of a loop of tiny kernels, and the shape that they work on. XLA makes one kernel of a whole loop
over less on CPUs."""

DISPATCHES = 200

GRAPH_KERNELS = 16
"""In the body of a loop that XLA makes a CUDA graph of; it takes at least 5."""


def ceilings() -> dict[str, float]:
    """Metrics of `fpmd bench ceilings`, of the default device.

    product_*: FLOP/s of a square product, a multiplication and an addition counted as two.
    copy_bytes_per_second: bytes read and bytes written. launch_seconds: from one tiny kernel to the
    next. dispatch_seconds: a tiny jitted call and the wait for it.

    A CPU has no TF32 and no CUDA graphs, and is its own host: the following are of GPUs only.
    product_tf32_*; product_default_*, float32 as JAX multiplies it where no precision is given,
    TF32 on NVIDIA; graph_launch_seconds, from one tiny kernel of a CUDA graph to the next;
    host_wait_seconds, what an iteration takes longer if the host must read the loop's condition.
    """
    found = {
        "product_float32_flops_per_second": product(jnp.float32, "highest"),
        "product_bfloat16_flops_per_second": product(jnp.bfloat16),
        "copy_bytes_per_second": copy(),
        "dispatch_seconds": dispatch_seconds(),
        "launch_seconds": launch_seconds(1),
    }
    if jax.default_backend() == "gpu":
        found["product_tf32_flops_per_second"] = product(jnp.float32, "TF32_TF32_F32")
        found["product_default_flops_per_second"] = product(jnp.float32)
        found["graph_launch_seconds"] = launch_seconds(GRAPH_KERNELS)
        found["host_wait_seconds"] = host_wait_seconds()
    return {f"ceilings.{name}": value for name, value in found.items()}


def product(dtype: Any, precision: str | None = None) -> float:
    """FLOP/s of the product of two large square matrices; precision: as of `jnp.matmul`."""
    function = jax.jit(partial(jnp.matmul, precision=precision))

    def call(width: int) -> Callable[[], jax.Array]:
        return partial(function, *(_random((width, width), dtype, seed) for seed in (0, 1)))

    # Two arguments and the result.
    most = math.isqrt(int(MEMORY_SHARE * memory.limit()) // (3 * jnp.dtype(dtype).itemsize))
    width = grow(lambda width: _one_call(call(width)), FIRST_WIDTH, most, 3)
    return 2 * width**3 / fastest(call(width))


def copy() -> float:
    """Bytes per second, read and written, of a copy too large for the caches."""
    function = jax.jit(jnp.negative)

    def call(size: int) -> Callable[[], jax.Array]:
        return partial(function, _random((size // 4,), jnp.float32, 0))

    # The argument, the result, and that of the call before.
    most = int(MEMORY_SHARE * memory.limit()) // 3
    size = grow(lambda size: _one_call(call(size)), FIRST_BYTES, most, 1)
    return 2 * (size // 4 * 4) / fastest(call(size))


def grow(seconds: Callable[[int], float], size: int, most: int, power: int) -> int:
    """The size from `size` on, doubled as often as needed, at which a call takes LEAST_SECONDS, but
    no more than `most`. seconds: of a call, grows like size ** power."""
    size = min(size, most)
    while (missing := LEAST_SECONDS / seconds(size)) > 1 and size < most:
        # Skips sizes that are too small for sure: each one compiles.
        size = min(most, size * 2 ** math.ceil(math.log2(missing) / power))
    return size


def fastest(call: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of a call among several that are enqueued before the first of them is awaited: the
    fastest turn's mean. call: dispatches work, and returns its result."""
    calls = max(1, min(MOST_CALLS, math.ceil(TURN_SECONDS / _one_call(call, clock))))
    turns = []
    for _ in range(REPEATS):
        start = clock()
        for _ in range(calls):
            result = call()
        jax.block_until_ready(result)  # a device works its queue off in order
        turns.append(clock() - start)
    return min(turns) / calls


def _one_call(call: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of a call that nothing runs beside."""
    jax.block_until_ready(call())  # compiles
    start = clock()
    jax.block_until_ready(call())
    return clock() - start


@partial(jax.jit, static_argnums=(0, 1))
def _random(shape: tuple[int, ...], dtype: Any, seed: int) -> jax.Array:
    size = math.prod(shape)
    numbers = jax.random.normal(jax.random.key(seed), (RANDOM_NUMBERS,), dtype)
    repeated = jnp.broadcast_to(numbers, (-(-size // RANDOM_NUMBERS), RANDOM_NUMBERS))
    return repeated.reshape(-1)[:size].reshape(shape)


def dispatch_seconds() -> float:
    """Of a tiny jitted call from Python and the wait for its result."""
    function, x = jax.jit(_tiny), jnp.zeros(())

    def calls() -> jax.Array:
        for _ in range(DISPATCHES):
            result = jax.block_until_ready(function(x))
        return result

    return fastest(calls) / DISPATCHES


def launch_seconds(kernels: int) -> float:
    """Seconds from one tiny kernel to the next, of those in the body of a loop of known length.
    kernels: that depend on each other; XLA adds what counts the iterations."""
    function, x = counted_loop(kernels), jnp.zeros(TINY)
    launches = loop_launches(hlo(function, x))
    return fastest(partial(function, x)) / (ITERATIONS * launches)


def host_wait_seconds() -> float:
    """What an iteration takes longer where the loop's condition depends on data.

    Either loop launches two kernels in an iteration, the second of which counts or compares.
    """
    x, limit = jnp.zeros(TINY), jnp.float32(ITERATIONS)
    counted, waiting = partial(counted_loop(1), x), partial(waiting_loop, x, limit)
    return (fastest(waiting) - fastest(counted)) / ITERATIONS


def counted_loop(kernels: int) -> Any:
    """A jitted function of a vector: ITERATIONS iterations, known when it is compiled."""

    def body(_: Any, x: jax.Array) -> jax.Array:
        for _ in range(kernels):
            # Without the barrier they would be one kernel on a GPU, as they are on a CPU.
            x = jax.lax.optimization_barrier(_tiny(x))
        return x

    return jax.jit(lambda x: jax.lax.fori_loop(0, ITERATIONS, body, x))


@jax.jit
def waiting_loop(x: jax.Array, limit: jax.Array) -> jax.Array:
    """Iterates while x[0], raised by 1 each time, is below `limit`."""
    return jax.lax.while_loop(lambda x: x[0] < limit, _tiny, x)


def _tiny(x: jax.Array) -> jax.Array:
    return x + 1.0
