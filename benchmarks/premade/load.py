"""Loads and runs, on a GPU, what `make.py` compiled without one. Prints a line for each file.

    python benchmarks/premade/load.py FOLDER

Needs JAX alone. The epoch runs on constant numbers: this is about loading and speed.
"""

import pickle
import subprocess
import sys
import time
from pathlib import Path

LIMIT = 60
"""Seconds for one file, after which its process is killed."""


def load(path: Path) -> str:
    """Runs a file's program three times; returns what happened."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.experimental import serialize_executable

    device = jax.devices()[0]
    record = pickle.loads(path.read_bytes())
    start = time.perf_counter()
    program = serialize_executable.deserialize_and_load(
        *record["program"], execution_devices=[device]
    )
    loaded = time.perf_counter() - start
    seconds = []
    for _ in range(3):
        arrays = [
            jnp.full(x.shape, 1e-3 if x.dtype == np.float32 else 0, x.dtype)
            for x in jax.tree.leaves(program.args_info[0])
        ]
        jax.block_until_ready(arrays)
        start = time.perf_counter()
        result = jax.block_until_ready(program(*arrays))
        seconds.append(round(time.perf_counter() - start, 4))
    text = f"{device.device_kind}: loaded in {loaded:.2f} s, runs of {seconds} s"
    if path.name.startswith("toy"):
        ours, theirs = (float(x.sum()) for x in (result[0], reference(*arrays)))
        text += f", sum {ours:.6g}, compiled here {theirs:.6g}"
    return f"{text}; compiling took {record['compile_cpu_seconds']:.0f} s of CPU"


def reference(x, w):  # type: ignore[no-untyped-def]
    """`make.py`'s toy, compiled on this device."""
    import jax
    import jax.numpy as jnp

    scan = jax.jit(
        lambda x, w: jax.lax.scan(lambda c, _: (jnp.tanh(c @ w) + 0.1, c.sum()), x, None, length=7)
    )
    return scan(x, w)[0]


if __name__ == "__main__":
    target = Path(sys.argv[1])
    if target.is_file():
        try:
            print(f"{target.name}: {load(target)}", flush=True)
        except Exception as error:  # which is the answer
            print(f"{target.name}: FAILED {type(error).__name__}: {str(error)[:400]}", flush=True)
    else:
        for path in sorted(target.glob("*.pkl"), reverse=True):  # the toys first
            try:  # each in its own process: a crash or a hang ends that one alone
                subprocess.run([sys.executable, __file__, str(path)], timeout=LIMIT, check=False)
            except subprocess.TimeoutExpired:
                print(f"{path.name}: FAILED, not done in {LIMIT} s", flush=True)
