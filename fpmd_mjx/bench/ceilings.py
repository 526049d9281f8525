"""The device's ceilings: its fastest matrix product and copy, and the cost of a kernel, of a call
and of a wait for the host."""

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
"""Least duration of one call of a product or a copy: a hundred times that of a dispatch."""

TURN_SECONDS = 0.04
MOST_CALLS = 8
"""A turn enqueues calls for TURN_SECONDS, but no more than MOST_CALLS."""

REPEATS = 5
"""Turns of each measurement; the fastest counts."""

FIRST_WIDTH = 1024
FIRST_BYTES = 2**28
"""The first sizes of products and copies, larger than the caches."""

MEMORY_SHARE = 1 / 8
"""Largest share of the device's memory for the arrays of one measurement."""

RANDOM_NUMBERS = 2**20
"""Longer data repeats these, because a CPU takes minutes to draw gigabytes."""

ITERATIONS = 1000
TINY = (1024,)
"""Iterations of a loop of tiny kernels, and the shape of their operand. On CPUs, XLA fuses a loop
over a smaller operand into one kernel."""

DISPATCHES = 200

GRAPH_KERNELS = 16
"""Kernels in the body of a loop that XLA turns into a CUDA graph. It does so from 5 kernels on."""


def ceilings() -> dict[str, float]:
    """Metrics of `fpmd bench ceilings`, of the default device.

    product_*: FLOP/s of a square product; a multiplication and an addition count as two.
    copy_bytes_per_second: bytes read and bytes written. launch_seconds: from one tiny kernel to the
    next. dispatch_seconds: a tiny jitted call and the wait for it.

    GPUs only: product_tf32_*; product_default_*, float32 at JAX's default precision, which is TF32
    on NVIDIA; graph_launch_seconds, from one tiny kernel of a CUDA graph to the next;
    host_wait_seconds, the additional time of an iteration if the host must read the loop's
    condition.
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
    """Bytes per second, read and written, of a copy that is too large for the caches."""
    function = jax.jit(jnp.negative)

    def call(size: int) -> Callable[[], jax.Array]:
        return partial(function, _random((size // 4,), jnp.float32, 0))

    # The argument, the result, and the result of the call before.
    most = int(MEMORY_SHARE * memory.limit()) // 3
    size = grow(lambda size: _one_call(call(size)), FIRST_BYTES, most, 1)
    return 2 * (size // 4 * 4) / fastest(call(size))


def grow(seconds: Callable[[int], float], size: int, most: int, power: int) -> int:
    """Doubles `size` until a call takes LEAST_SECONDS, and returns it; at most `most`.

    seconds: those of a call by its size. They grow like size ** power.
    """
    size = min(size, most)
    while (missing := LEAST_SECONDS / seconds(size)) > 1 and size < most:
        # Skips sizes that are surely too small, because each one compiles.
        size = min(most, size * 2 ** math.ceil(math.log2(missing) / power))
    return size


def fastest(call: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of a call among several that are enqueued together: the mean of the fastest turn.

    call: dispatches work and returns its result.
    """
    calls = max(1, min(MOST_CALLS, math.ceil(TURN_SECONDS / _one_call(call, clock))))
    turns = []
    for _ in range(REPEATS):
        start = clock()
        for _ in range(calls):
            result = call()
        jax.block_until_ready(result)  # a device runs its queue in order
        turns.append(clock() - start)
    return min(turns) / calls


def _one_call(call: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of a call alone."""
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
    """Seconds of a tiny jitted call from Python and the wait for its result."""
    function, x = jax.jit(_tiny), jnp.zeros(())

    def calls() -> jax.Array:
        for _ in range(DISPATCHES):
            result = jax.block_until_ready(function(x))
        return result

    return fastest(calls) / DISPATCHES


def launch_seconds(kernels: int) -> float:
    """Seconds from one tiny kernel to the next in a loop of known length.

    kernels: of the loop's body, each depends on the one before. XLA adds one that counts
    iterations.
    """
    function, x = counted_loop(kernels), jnp.zeros(TINY)
    launches = loop_launches(hlo(function, x))
    return fastest(partial(function, x)) / (ITERATIONS * launches)


def host_wait_seconds() -> float:
    """The additional seconds of an iteration if the loop's condition depends on data.

    Both loops launch two kernels in an iteration. The second one counts, or compares.
    """
    x, limit = jnp.zeros(TINY), jnp.float32(ITERATIONS)
    counted, waiting = partial(counted_loop(1), x), partial(waiting_loop, x, limit)
    return (fastest(waiting) - fastest(counted)) / ITERATIONS


def counted_loop(kernels: int) -> Any:
    """A jitted function of a vector: ITERATIONS iterations, known when it is compiled."""

    def body(_: Any, x: jax.Array) -> jax.Array:
        for _ in range(kernels):
            # Without the barrier, XLA would fuse them into one kernel.
            x = jax.lax.optimization_barrier(_tiny(x))
        return x

    return jax.jit(lambda x: jax.lax.fori_loop(0, ITERATIONS, body, x))


@jax.jit
def waiting_loop(x: jax.Array, limit: jax.Array) -> jax.Array:
    """Adds 1 to x while x[0] is below `limit`."""
    return jax.lax.while_loop(lambda x: x[0] < limit, _tiny, x)


def _tiny(x: jax.Array) -> jax.Array:
    return x + 1.0
