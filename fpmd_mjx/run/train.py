"""The host loop: epochs of the compiled program, and what happens between them.

Python logs, evaluates, saves and stops here; everything else is `program.py`.
"""

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from fpmd_mjx.config.rules import validate
from fpmd_mjx.config.schema import Config
from fpmd_mjx.program import Program, make_program
from fpmd_mjx.report.text import clock
from fpmd_mjx.run import memory
from fpmd_mjx.run.compile import compile_program, use_compile_cache
from fpmd_mjx.run.display import Display
from fpmd_mjx.run.folder import checkpoints, claim_folder, complete
from fpmd_mjx.run.progress import Run
from fpmd_mjx.run.signals import Interrupted, stop_signals


def train(config: Config, display: Display | None = None) -> dict[str, Any]:
    """Trains to `env_steps`, from the latest checkpoint of the run folder if it has one.

    Returns the content of summary.json. A complete run stays as it is. Raises ConfigError before
    anything is compiled, and Interrupted after a signal, when everything is saved.
    """
    begin = time.monotonic()
    validate(config)
    with nullcontext(display) if display else Display() as shown:
        summary = complete(config)
        if summary is not None:
            shown.note(
                f"the run in {config.folder} is complete with {summary['env_steps']:,} env steps: "
                "raise env_steps to train it further, or choose another name=..."
            )
            return summary
        program = make_program(config)
        planned, available = memory.plan(program), memory.limit()
        memory.check(config, planned, available)
        folder = claim_folder(config)
        shown.note(f"{folder}\n{memory.describe(planned, available)}")
        return _train(program, folder, shown, begin)


def _train(program: Program, folder: Path, display: Display, begin: float) -> dict[str, Any]:
    config = program.config
    use_compile_cache()
    compiled = compile_program(program)
    display.note(f"compiled in {compiled.seconds:.1f} s")
    with checkpoints(config, folder) as saved, stop_signals() as stop:
        run = Run(program, compiled, folder, saved, begin)
        total = run.env_steps_at(config.epochs)
        display.begin(f"{config.task.name} {config.algorithm.name}", run.env_steps, total)
        while run.epoch < config.epochs:
            run.advance()
            display.update(run.env_steps, run.status())
            last = run.epoch == config.epochs
            run.save(due=last or bool(stop) or run.epoch % config.checkpoint.every == 0)
            if stop and not last:
                saved.wait()
                raise Interrupted(
                    stop[0],
                    f"stopped after {run.env_steps} of {total} env steps, all saved; the same "
                    f"command continues in {folder}",
                )
        summary = run.end()
    display.end()
    display.note(_outcome(summary))
    if stop:  # a suite must not go on to its next run
        raise Interrupted(stop[0], f"stopped; the run in {folder} is complete")
    return summary


def _outcome(summary: dict[str, Any]) -> str:
    """The result of a run as one line of text."""
    results = []
    for mode, score in summary["eval"].items():
        if score["env_steps"] != summary["env_steps"]:  # a mode of an earlier part of the run
            continue
        found = f"{mode} {score['mean']:.1f}"
        if score["ci95"]:
            found += f" (95% interval over seeds {score['ci95'][0]:.1f} to {score['ci95'][1]:.1f})"
        results.append(found)
    return (
        f"{', '.join(results)} after {summary['env_steps']:,} env steps and "
        f"{clock(summary['train_seconds'])} of training"
    )
