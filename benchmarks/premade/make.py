"""Compiles a training epoch for a GPU on a machine without one, and writes it to files.

    python benchmarks/premade/make.py FOLDER [key=value ...]

`load.py` tries the files on a GPU. Needs JAX's CUDA plugin in an environment of its own, as
`fpmd bench kernels` does: JAX_PLATFORMS=cpu JAX_SKIP_CUDA_CONSTRAINTS_CHECK=1.
"""

import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import serialize_executable, topologies
from jax.sharding import SingleDeviceSharding

from fpmd_mjx.bench.kernels import H200
from fpmd_mjx.config.load import load
from fpmd_mjx.program import make_program

SETTINGS = ["preset=fast", "task=dmc/cheetah_run", "task.impl=jax"]

PRODUCTS: dict[str, dict[str, Any]] = {
    "triton": {},
    "cublas": {"xla_gpu_enable_triton_gemm": False},
}
"""Compiler options. Triton's products are not tuned without a card, cuBLAS chooses when it runs."""


def toy(x: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A few products in a loop; `load.py` has the same."""
    return jax.lax.scan(lambda c, _: (jnp.tanh(c @ w) + 0.1, c.sum()), x, None, length=7)


def save(folder: Path, name: str, function: Callable[..., Any], shapes: list[Any]) -> None:
    """Writes NAME_PRODUCTS.pkl for each of PRODUCTS: the serialised program, its input and output
    trees, and the CPU seconds that compiling took."""
    lowered = jax.jit(function).lower(*shapes)
    for products, options in PRODUCTS.items():
        start = time.process_time()
        compiled = lowered.compile(options)
        seconds = time.process_time() - start
        program = serialize_executable.serialize(compiled)
        path = folder / f"{name}_{products}.pkl"
        path.write_bytes(pickle.dumps({"program": program, "compile_cpu_seconds": seconds}))
        print(f"{path.name}: {seconds:.1f} s of CPU, {len(program[0])} bytes", flush=True)


def main(folder: Path, settings: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    topology = topologies.get_topology_desc("cuda", "cuda", target_config=H200, topology="1x1x1")
    sharding = SingleDeviceSharding(topology.devices[0])

    def shape(*dims: int, dtype: Any = jnp.float32) -> Any:
        return jax.ShapeDtypeStruct(dims, dtype, sharding=sharding)

    save(folder, "toy", toy, [shape(256, 256)] * 2)

    # Plain arrays in, plain arrays out: load.py needs neither this package nor MuJoCo.
    program = make_program(load(settings))
    leaves, tree = jax.tree.flatten(program.traced_init.out_info)
    keys = [jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]

    def epoch(*arrays: jax.Array) -> list[jax.Array]:
        wrapped = [
            jax.random.wrap_key_data(x) if is_key else x
            for x, is_key in zip(arrays, keys, strict=True)
        ]
        out = jax.tree.leaves(program.train_epoch(tree.unflatten(wrapped)))
        return [
            jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
            for x in out
        ]

    shapes = [
        shape(*leaf.shape, 2, dtype=jnp.uint32) if is_key else shape(*leaf.shape, dtype=leaf.dtype)
        for leaf, is_key in zip(leaves, keys, strict=True)
    ]
    save(folder, "epoch", epoch, shapes)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or SETTINGS)
