"""Checks the program on this device: a run from start to score, a run continued from its
checkpoint, and an epoch run twice from the same state."""

import csv
import dataclasses
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fpmd_mjx.bench import fresh
from fpmd_mjx.bench.plan import Cell
from fpmd_mjx.config import load as configs
from fpmd_mjx.config.schema import Config

SMALLEST = float(np.finfo(np.float64).tiny)
"""Stands for a difference in bits between equal numbers, such as 0 and -0."""

SECONDS = ("train_seconds",)
"""Columns of metrics.csv with times, which differ from run to run."""


def check(cell: Cell) -> dict[str, float]:
    """Metrics of `fpmd bench check`, 1 for yes and 0 for no: see `run_twice` and `repeat`."""
    text = configs.to_yaml(cell.config)
    found: dict[str, float] = {}
    for function in (repeat, run_twice):
        for record in fresh.run(function, text):
            found |= {f"check.{name}": float(value) for name, value in record.items()}
    return found


def repeat(text: str) -> Iterator[fresh.Record]:
    """Runs the first epoch that learns twice from one state, and compares the resulting states.

    text: the config as YAML. Yields compile_seconds, of all that training needs; epoch_repeats,
    whether the states are the same bit for bit; epoch_differing_leaves, the number of leaves that
    differ; epoch_difference, the largest difference, relative to the largest number of its leaf.
    """
    import jax

    from fpmd_mjx.program import make_program
    from fpmd_mjx.run.compile import compile_program, use_compile_cache
    from fpmd_mjx.seeds import seed_array

    config = configs.from_yaml(text)
    use_compile_cache()
    program = make_program(config)
    compiled = compile_program(program)
    state = compiled.init(seed_array(config))
    while not program.ready(state):
        state, _ = compiled.train_epoch(state)
    # Each call gets its own copy, because it overwrites it.
    copies = [jax.tree.map(lambda x: x.copy(), state) for _ in range(2)]
    first, second = (host_copy(compiled.train_epoch(copy)[0]) for copy in copies)
    differences = [difference(a, b) for a, b in zip(first, second, strict=True)]
    yield {
        "compile_seconds": compiled.seconds,
        "epoch_repeats": not any(differences),
        "epoch_differing_leaves": sum(d > 0 for d in differences),
        "epoch_difference": max(differences),
    }


def host_copy(tree: Any) -> list[np.ndarray]:
    """The leaves as NumPy arrays, keys as their data."""
    import jax

    def copy(x: jax.Array) -> np.ndarray:
        is_key = jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
        return np.array(jax.random.key_data(x) if is_key else x)

    return [copy(leaf) for leaf in jax.tree.leaves(tree)]


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """0 if both hold the same bits, else their largest difference relative to their largest finite
    number, at least SMALLEST. Infinity if they differ in a number that is not finite."""
    if a.tobytes() == b.tobytes():
        return 0.0
    both = np.stack([a, b]).astype(np.float64)
    a, b = both
    differ = (a != b) & ~(np.isnan(a) & np.isnan(b))
    apart = np.max(np.abs(a[differ] - b[differ]), initial=0.0)
    largest = np.max(np.abs(both), where=np.isfinite(both), initial=SMALLEST)
    return max(float(apart / largest), SMALLEST) if np.isfinite(apart) else float("inf")


def run_twice(text: str) -> Iterator[fresh.Record]:
    """Trains two epochs in one run, and in a second run that continues after the first epoch.

    text: the config as YAML; its env_steps and run folder are replaced. Yields seconds, of the
    first run with loading and evaluations; resumes, whether the continued run has the same metrics
    and returns; score, the mean return of its policy in MJX; score_real, that of one episode a seed
    in the original simulator, if there is one.
    """
    import envs
    from fpmd_mjx.algorithms.base import Mode
    from fpmd_mjx.run.score import score_run
    from fpmd_mjx.run.train import train

    with tempfile.TemporaryDirectory() as folder:
        config = dataclasses.replace(configs.from_yaml(text), runs=folder)
        whole, continued = (dataclasses.replace(config, name=x) for x in ("whole", "continued"))
        start = time.perf_counter()
        train(_epochs(whole, 2))
        seconds = time.perf_counter() - start
        for epochs in (1, 2):
            train(_epochs(continued, epochs))
        record: fresh.Record = {
            "seconds": seconds,
            "resumes": _metrics(whole.folder) == _metrics(continued.folder),
        }
        simulators = ["mjx"] + ["mujoco"] * envs.has_original(config.task.name)
        for name, simulator in zip(("score", "score_real"), simulators, strict=False):
            # The program for this number of episodes is in the compile cache.
            episodes = config.eval.episodes if simulator == "mjx" else 1
            found = score_run(continued.folder, Mode("one_step"), simulator, episodes)
            record[name] = found["mean"]
        yield record


def _epochs(config: Config, epochs: int) -> Config:
    """`config` with the env steps of `epochs` epochs."""
    env_steps = epochs * config.iterations_per_epoch * config.steps_per_iteration
    return dataclasses.replace(config, env_steps=env_steps)


def _metrics(folder: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv without `SECONDS`."""
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in SECONDS} for row in rows]
