"""`fpmd bench`: carries out a plan, prints lines of `name.metric value`, and writes JSON."""

import dataclasses
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from fpmd_mjx.bench import (
    ceilings,
    check,
    floor,
    kernels,
    latency,
    phases,
    profile,
    startup,
    target,
)
from fpmd_mjx.bench.peers import speed, time_to_return
from fpmd_mjx.bench.plan import Cell, Plan
from fpmd_mjx.bench.timing import Measured, Metric, Metrics, Quartiles, Table, interleave, rates
from fpmd_mjx.config import load as configs
from fpmd_mjx.program import make_program
from fpmd_mjx.report import records
from fpmd_mjx.run import memory, provenance
from fpmd_mjx.run.compile import use_compile_cache
from fpmd_mjx.run.display import console
from fpmd_mjx.run.signals import Interrupted

Seconds = list[list[float]]  # [measured][round]

IN_OWN_PROCESS: dict[str, Callable[[Cell], Metrics]] = {
    "startup": startup.startup,
    "memory": startup.memory,
    "kernels": kernels.kernels,
    "check": check.check,
}


def run(plan: Plan, out: Path | None) -> None:
    """Measures every benchmark of every cell, and prints medians as they come.

    out: file of the JSON with the quartiles. The phases and latencies of all cells take turns for
    `plan.rounds` rounds, so they are on the device together.

    Raises Interrupted at Ctrl-C, after it has printed and written the results so far.
    """
    results = Results(plan, out)
    try:
        _measure(plan, results)
    except KeyboardInterrupt:
        raise Interrupted(signal.SIGINT, results.interrupted()) from None
    results.write(complete=True)


def _measure(plan: Plan, results: "Results") -> None:
    # These come first: once this process holds a GPU's memory, no other can measure on it.
    for name in plan.benchmarks:
        if name in IN_OWN_PROCESS:
            for cell in plan.cells:
                results.add(cell, IN_OWN_PROCESS[name](cell))
    for cell in plan.cells:
        if "curve" in plan.benchmarks:
            target.curve(cell, plan.empty_caches, partial(results.add, cell))
        if "target" in plan.benchmarks:
            target.reach(cell, plan.empty_caches, partial(results.add, cell))
        if "peers-speed" in plan.benchmarks:
            speed.measure(cell, plan.rounds, plan.empty_caches, partial(results.add, cell))
        if "peers-return" in plan.benchmarks:
            time_to_return.measure(cell, plan.empty_caches, partial(results.add, cell))
    names = tuple(name for name in plan.benchmarks if name in phases.PHASES)
    use_compile_cache()
    if "ceilings" in plan.benchmarks:
        found = ceilings.ceilings()  # the same for all cells
        for cell in plan.cells:
            results.add(cell, found)
    if "floor" in plan.benchmarks:
        for cell in plan.cells:
            results.add(cell, floor.floor(make_program(cell.config)))
    if names:
        _phases(plan, names, results)
    if "latency" in plan.benchmarks:
        _latency(plan, results)
    if "profile" in plan.benchmarks:  # last: the profiler may leave its hooks behind
        for cell in plan.cells:
            results.add(cell, profile.profile(cell))


class Results:
    """The results so far, on disk as soon as they are there."""

    def __init__(self, plan: Plan, out: Path | None) -> None:
        self._metrics: dict[str, dict[str, Metric]] = {c.label: {} for c in plan.cells}
        self._open: dict[str, Metrics] = {c.label: {} for c in plan.cells}
        self._plan, self._out = plan, out
        self._versions, self._commit = provenance.versions(), provenance.commit()

    def add(self, cell: Cell, metrics: Metrics, final: bool = True) -> None:
        """Keeps metrics, and prints them if they are final. The next ones of the cell replace
        those that are not."""
        self._open[cell.label] = {} if final else metrics
        if final:
            self._metrics[cell.label].update(metrics)
        suffix = f"[{cell.label}]" if cell.label else ""
        for name, value in metrics.items() if final else ():
            if isinstance(value, Table):
                print(f"{name}{suffix}", *value.lines(), sep="\n  ", flush=True)
                continue
            shown = value.median if isinstance(value, Quartiles) else value
            print(f"{name}{suffix} {shown:.6g}", flush=True)
        if self._out is not None:
            self._write(self.content(complete=False))

    def _metrics_of(self, cell: Cell) -> Metrics:
        return {**self._metrics[cell.label], **self._open[cell.label]}

    def write(self, complete: bool) -> None:
        """Writes the file, if there is one, with the device's name. Takes a GPU's memory."""
        self._write(self.content(complete) | provenance.provenance())

    def _write(self, content: dict[str, Any]) -> None:
        if self._out is not None:
            self._out.parent.mkdir(parents=True, exist_ok=True)
            records.write_json(self._out, content)

    def interrupted(self) -> str:
        """Writes the results so far, and returns a message about it."""
        if not any(self._metrics.values()):
            return "bench interrupted before anything was measured"
        self.write(complete=False)
        where = "printed" if self._out is None else f"printed, and written to {self._out}"
        return f"bench interrupted; the results so far are {where}"

    def content(self, complete: bool) -> dict[str, Any]:
        """The results for JSON. complete: whether the plan was carried out to its end.

        Does not ask for the device, because that takes a GPU's memory from other processes.
        """
        return {
            "command": shlex.join(["fpmd", *sys.argv[1:]]),
            "device": None,
            "versions": self._versions,
            "commit": self._commit,
            "rounds": self._plan.rounds,
            "caches": "empty" if self._plan.empty_caches else "shared",
            "complete": complete,
            "cells": [
                {
                    "label": cell.label,
                    "config": yaml.safe_load(configs.to_yaml(cell.config)),
                    "target": cell.target,
                    "metrics": {
                        name: dataclasses.asdict(value)
                        if isinstance(value, Quartiles | Table)
                        else value
                        for name, value in self._metrics_of(cell).items()
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

    def add(seconds: Seconds) -> None:
        for i, cell in enumerate(plan.cells):
            ours = slice(i * len(names), (i + 1) * len(names))
            for each, times in zip(measured[ours], seconds[ours], strict=True):
                results.add(cell, rates(each, times))
            results.add(cell, phases.derived(dict(zip(names, seconds[ours], strict=True))))

    _take_turns(measured, plan.rounds, add)


def _latency(plan: Plan, results: Results) -> None:
    chunks: list[list[latency.Latency]] = []
    for cell in plan.cells:
        console.print(f"compiling policies of {cell.config.task.name} {cell.label}", markup=False)
        found, calls = latency.measurements(make_program(cell.config))
        chunks.append(found)
        results.add(cell, calls)

    def add(seconds: Seconds) -> None:
        for cell, found in zip(plan.cells, chunks, strict=True):
            results.add(cell, latency.results(found, seconds[: len(found)]))
            seconds = seconds[len(found) :]

    _take_turns([chunk for found in chunks for chunk in found], plan.rounds, add)


def _take_turns(measured: Sequence[Measured], rounds: int, add: Callable[[Seconds], None]) -> None:
    """Calls `add` at the end. After an interruption it has the rounds so far."""
    turns: list[list[float]] = []
    try:
        for seconds in interleave(measured, rounds):
            turns.append(seconds)
    finally:
        if turns:
            add([list(own) for own in zip(*turns, strict=True)])
