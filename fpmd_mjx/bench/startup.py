"""Start-up time and memory of training, each measured in its own process."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fpmd_mjx.bench import fresh
from fpmd_mjx.bench.plan import Cell
from fpmd_mjx.config import load as configs


def start(text: str) -> Iterator[fresh.Record]:
    """Yields the seconds of compilation as soon as the first epoch can begin, and the memory of the
    epoch after it. text: the config as YAML."""
    import jax

    from fpmd_mjx.program import make_program
    from fpmd_mjx.run import memory
    from fpmd_mjx.run.compile import compile_program, use_compile_cache
    from fpmd_mjx.seeds import seed_array

    config = configs.from_yaml(text)
    use_compile_cache()
    program = make_program(config)
    compiled = compile_program(program)
    state = jax.block_until_ready(compiled.init(seed_array(config)))
    yield {"compile_seconds": compiled.seconds}
    jax.block_until_ready(compiled.train_epoch(state))
    yield memory.measured(compiled.train_epoch) | {"plan": memory.plan(program)}


def startup(cell: Cell) -> dict[str, float]:
    """Seconds from the command until the first epoch can begin, and those of compilation alone:
    with empty caches (cold), and with the caches that this filled (cached)."""
    text, found = configs.to_yaml(cell.config), {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("cold", "cached"):
            begin = time.perf_counter()
            process = fresh.run(start, text, env=fresh.empty_caches(Path(folder)))
            record = next(process)
            found[f"startup.{kind}_seconds"] = time.perf_counter() - begin
            found[f"startup.{kind}_compile_seconds"] = record["compile_seconds"]
            process.close()
    return found


def memory(cell: Cell) -> dict[str, float]:
    """Bytes of one training epoch and their ratio to the plan: by the compiler's analysis, and by
    the allocator's peak if the device reports it."""
    _, record = fresh.run(start, configs.to_yaml(cell.config))
    return memory_metrics(record)


def memory_metrics(record: dict[str, Any]) -> dict[str, float]:
    """Metrics of `fpmd bench memory`. record: the second one of `start`."""
    planned = record["plan"]
    total = sum(planned.values())
    found: dict[str, float] = {
        "memory.plan_bytes": total,
        "memory.program_bytes": record["program"],
        "memory.program_to_plan": record["program"] / total,
        "memory.plan_temporary_bytes": planned["batches"] + planned["activations"],
        "memory.temporary_bytes": record["temporary"],
    }
    if record["peak"] is not None:
        found["memory.peak_bytes"] = record["peak"]
        found["memory.peak_to_plan"] = record["peak"] / total
    return found
