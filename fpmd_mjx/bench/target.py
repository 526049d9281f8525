"""The time to train a policy to a given return, and its learning curve."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, Protocol

from fpmd_mjx.bench import fresh
from fpmd_mjx.bench.plan import Cell
from fpmd_mjx.bench.timing import Metric, Table
from fpmd_mjx.config import load as configs
from fpmd_mjx.report.records import MORE_THAN
from fpmd_mjx.report.text import clock
from fpmd_mjx.run.display import console

SPENT = ("env_steps", "updates", "train_seconds", "eval_seconds", "wall_seconds")
"""Fields of a record that count from the start of its run."""

PROJECTED = "curve.projected_wall_seconds"
"""Metric of a run that ended early: the wall seconds that all of it would have taken."""


class Add(Protocol):
    """Takes metrics: keeps them, and shows them if they are final."""

    def __call__(self, metrics: Mapping[str, Metric], final: bool = True) -> None: ...


def train(text: str, target: float | None, modes: Sequence[str]) -> Iterator[fresh.Record]:
    """Trains until the mean return over the seeds is `target`, or to the end of the run.

    text: the config as YAML; target: None to train to the end; modes: of the evaluations, the
    target is a return in the first one. Yields a record after every epoch. That of an evaluation
    has `returns`, the mean return of each seed, by mode.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np

    from fpmd_mjx.algorithms.base import Mode
    from fpmd_mjx.program import make_program
    from fpmd_mjx.run.compile import compile_program, use_compile_cache
    from fpmd_mjx.seeds import Stream, seed_array, seed_list, stream_keys

    config = configs.from_yaml(text)
    parsed = [Mode.parse(mode) for mode in modes]
    config = replace(config, eval=replace(config.eval, modes=list(modes)))
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
        env_steps = epoch * config.iterations_per_epoch * config.steps_per_iteration
        if epoch % config.eval.every and epoch < config.epochs:
            yield {"env_steps": env_steps}
            continue
        policy = program.policy(state)
        keys = stream_keys(Stream.EVALUATION, seeds, jnp.uint32(epoch))
        returns = {
            str(mode): np.mean(
                np.asarray(compiled.evaluation(mode)(policy, keys).returns), 1
            ).tolist()
            for mode in parsed
        }
        mean = float(np.mean(returns[str(parsed[0])]))
        yield {
            "return": mean,
            "returns": returns,
            "seeds": seed_list(config),
            "reached": target is not None and mean >= target,
            "env_steps": env_steps,
            "updates": int(state.updates),
            "train_seconds": seconds,
            "compile_seconds": compiled.seconds,
        }
        if target is not None and mean >= target:
            return


def reach(cell: Cell, empty_caches: bool, add: Add) -> None:
    """Training to the cell's target; arguments as of `timed`."""
    arguments = (configs.to_yaml(cell.config), cell.target, cell.modes)
    timed("target", cell, empty_caches, add, train, *arguments)


def curve(cell: Cell, empty_caches: bool, add: Add) -> None:
    """Training to the end of the cell's run; arguments as of `timed`."""
    arguments = (configs.to_yaml(cell.config), None, cell.modes)
    timed("curve", cell, empty_caches, add, train, *arguments)


def timed(
    name: str,
    cell: Cell,
    empty_caches: bool,
    add: Add,
    function: Callable[..., Iterator[fresh.Record]],
    *arguments: Any,
) -> None:
    """Trains in a new process. Passes `metrics` to `add` after every evaluation, and as final at
    the end or after an interruption.

    empty_caches: as of a `Plan`. function: yields records like `train`, maybe with eval_seconds. It
    is stopped at an evaluation that reaches the target or exceeds the cell's limit of wall seconds.
    With `cell.whole`, it is stopped as soon as its pace shows that it will exceed the limit.
    """
    begin = time.perf_counter()
    records: list[fresh.Record] = []
    paces: list[tuple[float, float]] = []  # env steps and wall seconds after each epoch
    projected: float | None = None
    with fresh.caches(empty_caches) as env:
        try:
            with closing(fresh.run(function, *arguments, env=env)) as yielded:
                for record in yielded:
                    wall = time.perf_counter() - begin
                    paces.append((record["env_steps"], wall))
                    late = cell.limit is not None and wall > cell.limit
                    if cell.whole and cell.limit is not None:
                        total = wall_of_all(paces, cell.config.env_steps)
                        if total > cell.limit and record["env_steps"] < cell.config.env_steps:
                            projected = total
                    if "returns" in record:
                        records.append(record | {"wall_seconds": wall})
                        console.print(
                            f"{cell.config.task.name} {cell.label} {name} {record['return']:.1f} "
                            f"of {cell.target} after {record['env_steps']:,} env steps, "
                            f"{clock(wall)}",
                            markup=False,
                        )
                        add(metrics(name, records), final=False)
                        if record["reached"] or late:
                            break
                    if projected is not None:
                        break
        finally:
            if records:
                add(metrics(name, records))
            if projected is not None:
                add({PROJECTED: projected})


def wall_of_all(paces: Sequence[tuple[float, float]], env_steps: int) -> float:
    """Projected wall seconds of a run of `env_steps`: those so far, and the rest at the pace since
    the first epoch, which includes compilation. paces: (env steps, wall seconds) of each epoch."""
    (first_steps, first), (steps, now) = paces[0], paces[-1]
    if steps == first_steps:
        return now
    return now + (now - first) / (steps - first_steps) * max(env_steps - steps, 0)


def metrics(name: str, records: Sequence[fresh.Record]) -> dict[str, Metric]:
    """Metrics of the evaluations so far.

    If the last evaluation is below the target, the amounts spent so far are lower bounds, and their
    names begin with more_than_. compile_seconds is no bound. A curve has no target and no bounds.

    train_seconds excludes compilation and evaluation; train_and_compile_seconds excludes
    evaluation; wall_seconds is from the command to the evaluation that reached the target. reached:
    1 or 0. last and best: mean return of each seed, by mode, at the last and at its best
    evaluation. curve: all evaluations.
    """
    last = records[-1]
    spent = {key: last[key] for key in SPENT if key in last}
    spent["train_and_compile_seconds"] = last["train_seconds"] + last["compile_seconds"]
    bound = MORE_THAN if name != "curve" and not last["reached"] else ""
    found: dict[str, Metric] = {f"{name}.return": last["return"]}
    if name != "curve":
        found[f"{name}.reached"] = float(last["reached"])
    found[f"{name}.compile_seconds"] = last["compile_seconds"]
    found |= {f"{name}.{bound}{key}": float(value) for key, value in spent.items()}
    columns = ["env_steps", "train_seconds", "wall_seconds"]
    rows = [[record[key] for key in columns] for record in records]
    for mode in last["returns"]:
        for i, seed in enumerate(last["seeds"]):
            columns.append(f"{mode}.seed_{seed}")
            for row, record in zip(rows, records, strict=True):
                row.append(record["returns"][mode][i])
    for i, column in enumerate(columns[3:], 3):
        found[f"{name}.last.{column}"] = rows[-1][i]
        found[f"{name}.best.{column}"] = max(row[i] for row in rows)
    return found | {f"{name}.curve": Table(tuple(columns), tuple(map(tuple, rows)))}
