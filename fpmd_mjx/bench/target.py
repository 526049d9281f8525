"""How long it takes to train a policy to a stated return."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any

from fpmd_mjx import config as configs
from fpmd_mjx.bench import fresh
from fpmd_mjx.bench.plan import Cell
from fpmd_mjx.bench.timing import Quartiles
from fpmd_mjx.display import clock, console

MORE_THAN = "more_than_"

Add = Callable[[Mapping[str, Quartiles | float]], None]
"""What takes metrics."""


def train(text: str, target: float) -> Iterator[fresh.Record]:
    """Trains until the mean one_step return over the seeds is `target`, or to the end of the run,
    and yields after every evaluation. text: the config as YAML."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from fpmd_mjx import evaluate
    from fpmd_mjx.program import make_program
    from fpmd_mjx.train import compile_program, eval_keys, seed_array, use_compile_cache

    config = configs.from_yaml(text)
    use_compile_cache()
    program = make_program(config)
    compiled = compile_program(program)
    seeds, seconds = seed_array(config), 0.0
    state = jax.block_until_ready(compiled.init(seeds))
    for epoch in range(1, config.epochs + 1):
        start = time.perf_counter()
        state, metrics = compiled.train_epoch(state)
        jax.block_until_ready((state, metrics))
        seconds += time.perf_counter() - start
        if epoch % config.eval.every and epoch < config.epochs:
            continue
        returns, _ = compiled.evaluate(program.policy(state), eval_keys(seeds, jnp.uint32(epoch)))
        env_steps = epoch * config.iterations_per_epoch * config.steps_per_iteration
        mean = evaluate.summarize(np.asarray(returns), env_steps)["mean"]
        yield {
            "return": mean,
            "reached": bool(mean >= target),
            "env_steps": env_steps,
            "updates": int(state.updates),
            "train_seconds": seconds,
            "compile_seconds": compiled.seconds,
        }
        if mean >= target:
            return


def reach(cell: Cell, empty_caches: bool, add: Add) -> None:
    """Training to the cell's target; arguments as of `timed`."""
    timed("target", cell, empty_caches, add, train, configs.to_yaml(cell.config), cell.target)


def timed(
    name: str,
    cell: Cell,
    empty_caches: bool,
    add: Add,
    function: Callable[..., Iterator[fresh.Record]],
    *arguments: Any,
) -> None:
    """Trains to the cell's target in a process of its own; hands `metrics` to `add` at the end, or,
    where it is interrupted, of the last evaluation until then.

    empty_caches: as of a `Plan`. function: yields a record after each evaluation. It is stopped
    where that is on target or beyond the cell's limit of wall seconds.
    """
    begin = time.perf_counter()
    record: fresh.Record = {}
    wall = 0.0
    with fresh.caches(empty_caches) as env:
        try:
            with closing(fresh.run(function, *arguments, env=env)) as records:
                for record in records:
                    wall = time.perf_counter() - begin
                    console.print(
                        f"{cell.config.task.name} {cell.label} {name} {record['return']:.1f} of "
                        f"{cell.target} after {record['env_steps']:,} env steps, {clock(wall)}",
                        markup=False,
                    )
                    if record["reached"] or (cell.limit is not None and wall > cell.limit):
                        break
        finally:
            if record:
                add(metrics(name, record, wall))


def metrics(name: str, record: fresh.Record, wall: float) -> dict[str, float]:
    """What the last evaluation tells. Where it is not on target, what was spent until then bounds
    what the target takes from below, and is named more_than_...; compilation takes what it takes.

    train_seconds holds neither compilation nor evaluation, train_and_compile_seconds no evaluation;
    wall_seconds is from the command until the target is known to be reached, and holds everything.
    reached: 1 or 0.
    """
    told = ("return", "reached", "compile_seconds")
    spent = {key: value for key, value in record.items() if key not in told}
    spent["train_and_compile_seconds"] = record["train_seconds"] + record["compile_seconds"]
    spent["wall_seconds"] = wall
    prefix = "" if record["reached"] else MORE_THAN
    return {
        f"{name}.return": record["return"],
        f"{name}.reached": float(record["reached"]),
        f"{name}.compile_seconds": record["compile_seconds"],
        **{f"{name}.{prefix}{key}": float(value) for key, value in spent.items()},
    }
