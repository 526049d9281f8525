"""`fpmd bench`: measures what a plan asks for, prints `name.metric value`, and writes JSON."""

import dataclasses
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from fpmd_mjx import config as configs
from fpmd_mjx import logs, memory
from fpmd_mjx.bench import latency, phases, startup, target
from fpmd_mjx.bench.plan import Cell, Plan
from fpmd_mjx.bench.timing import Measured, Quartiles, interleave, rates
from fpmd_mjx.display import console
from fpmd_mjx.program import make_program
from fpmd_mjx.train import use_compile_cache

Metrics = Mapping[str, Quartiles | float]

IN_OWN_PROCESS: dict[str, Callable[[Cell], Metrics]] = {
    "startup": startup.startup,
    "memory": startup.memory,
    "target": target.reach,
}


def run(plan: Plan, out: Path | None) -> None:
    """Measures every benchmark of every cell; `plan.rounds` counts for those that can take turns.

    Prints medians as they are found. out: where the JSON goes, which has the quartiles. All cells
    take turns with each other, and so are on the device at the same time.
    """
    results = Results(plan, out)
    # While this process has a GPU's memory, no other can measure on it: they come first.
    for name in plan.benchmarks:
        if name in IN_OWN_PROCESS:
            for cell in plan.cells:
                results.add(cell, IN_OWN_PROCESS[name](cell))
    names = tuple(name for name in plan.benchmarks if name in phases.PHASES)
    use_compile_cache()
    if names:
        _phases(plan, names, results)
    if "latency" in plan.benchmarks:
        _latency(plan, results)
    results.write()


class Results:
    """What was found so far."""

    def __init__(self, plan: Plan, out: Path | None) -> None:
        self._metrics: dict[str, dict[str, Quartiles | float]] = {c.label: {} for c in plan.cells}
        self._plan, self._out = plan, out

    def add(self, cell: Cell, metrics: Metrics) -> None:
        """Prints and keeps."""
        self._metrics[cell.label].update(metrics)
        suffix = f"[{cell.label}]" if cell.label else ""
        for name, value in metrics.items():
            shown = value.median if isinstance(value, Quartiles) else value
            print(f"{name}{suffix} {shown:.6g}", flush=True)

    def write(self) -> None:
        """The file, where one is asked for. Looks at the device."""
        if self._out is not None:
            self._out.parent.mkdir(parents=True, exist_ok=True)
            logs.write_json(self._out, self.content())

    def content(self) -> dict[str, Any]:
        """The results and what they were measured with, ready for JSON."""
        return {
            "command": shlex.join(["fpmd", *sys.argv[1:]]),
            **logs.provenance(),
            "rounds": self._plan.rounds,
            "cells": [
                {
                    "label": cell.label,
                    "config": yaml.safe_load(configs.to_yaml(cell.config)),
                    "target": cell.target,
                    "metrics": {
                        name: dataclasses.asdict(value) if isinstance(value, Quartiles) else value
                        for name, value in self._metrics[cell.label].items()
                    },
                }
                for cell in self._plan.cells
            ],
        }


def _phases(plan: Plan, names: tuple[str, ...], results: Results) -> None:
    programs = [make_program(cell.config) for cell in plan.cells]
    left = memory.limit()
    for program in programs if phases.trains(names) else ():
        planned = memory.plan(program)
        memory.check(program.config, planned, left)
        left -= sum(planned.values())
    measured: list[Measured] = []
    for cell, program in zip(plan.cells, programs, strict=True):
        console.print(f"compiling {cell.config.task.name} {cell.label}", markup=False)
        workload = phases.Workload(program, names)
        measured += [workload.phase(name) for name in names]
    seconds = interleave(measured, plan.rounds)
    for i, cell in enumerate(plan.cells):
        ours = slice(i * len(names), (i + 1) * len(names))
        for each, times in zip(measured[ours], seconds[ours], strict=True):
            results.add(cell, rates(each, times))
        results.add(cell, phases.derived(dict(zip(names, seconds[ours], strict=True))))


def _latency(plan: Plan, results: Results) -> None:
    chunks: list[list[latency.Latency]] = []
    for cell in plan.cells:
        console.print(f"compiling policies of {cell.config.task.name} {cell.label}", markup=False)
        found, calls = latency.measurements(make_program(cell.config))
        chunks.append(found)
        results.add(cell, calls)
    seconds = interleave([chunk for found in chunks for chunk in found], plan.rounds)
    for cell, found in zip(plan.cells, chunks, strict=True):
        results.add(cell, latency.results(found, seconds[: len(found)]))
        seconds = seconds[len(found) :]
