"""What four seeds in one program cost, against four runs of one seed: run time and compilation.

    python benchmarks/seeds.py [key=value ...]

Epochs of both programs are interleaved; times are medians. Prints `name.metric value` lines.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import jax

from fpmd_mjx.config.load import load
from fpmd_mjx.program import make_program
from fpmd_mjx.report import records
from fpmd_mjx.run import provenance
from fpmd_mjx.run.compile import compile_program
from fpmd_mjx.seeds import seed_array

EPOCHS = 7
WARMUP = 2  # random actions, and the first epoch of updates


def main(overrides: list[str]) -> None:
    states, programs, seconds = {}, {}, {}
    for seeds in (1, 4):
        config = load([*overrides, f"seeds={seeds}", "env_steps=1000000", "epoch_steps=12800"])
        programs[seeds] = compile_program(make_program(config))
        states[seeds] = programs[seeds].init(seed_array(config))
        seconds[seeds] = []
    for _ in range(WARMUP + EPOCHS):
        for seeds, program in programs.items():
            start = time.perf_counter()
            states[seeds], metrics = program.train_epoch(states[seeds])
            jax.block_until_ready(metrics)
            seconds[seeds].append(time.perf_counter() - start)
    run = {seeds: statistics.median(times[WARMUP:]) for seeds, times in seconds.items()}
    compilation = {seeds: program.seconds for seeds, program in programs.items()}
    result = {
        "seeds.epoch_seconds_1": run[1],
        "seeds.epoch_seconds_4": run[4],
        "seeds.run_ratio": run[4] / (4 * run[1]),
        "seeds.compile_seconds_1": compilation[1],
        "seeds.compile_seconds_4": compilation[4],
        "seeds.compile_ratio": compilation[4] / (4 * compilation[1]),
    }
    for name, value in result.items():
        print(f"{name} {value:.3f}")
    command = f"python benchmarks/seeds.py {' '.join(overrides)}".strip()
    made = {"command": command, **provenance.provenance()}
    path = Path(__file__).parent / "seeds.json"
    records.write_json(path, {**made, "results": result})
    print(json.dumps(made))


if __name__ == "__main__":
    main(sys.argv[1:])
