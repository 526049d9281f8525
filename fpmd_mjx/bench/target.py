"""How long it takes to train a policy to a stated return."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from fpmd_mjx import config as configs
from fpmd_mjx.bench import fresh
from fpmd_mjx.bench.plan import Cell
from fpmd_mjx.display import clock, console


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


def reach(cell: Cell) -> dict[str, float]:
    """Training to the cell's target, with empty caches.

    train_seconds holds neither compilation nor evaluation; wall_seconds is from the command until
    the target is known to be reached, and holds everything. reached: 1, or 0 at the end of the run.
    """
    begin = time.perf_counter()
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        env = fresh.empty_caches(Path(folder))
        for record in fresh.run(train, configs.to_yaml(cell.config), cell.target, env=env):
            wall = time.perf_counter() - begin
            console.print(
                f"{cell.config.task.name} {cell.label} one_step {record['return']:.1f} of "
                f"{cell.target} after {record['env_steps']:,} env steps, {clock(wall)}"
            )
            found = {f"target.{name}": float(value) for name, value in record.items()}
            found["target.wall_seconds"] = wall
    return found
