"""Trains every setting on every task of a yardstick, and compares them."""

import json
import os
import queue
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fpmd_mjx.bench import fresh, target
from fpmd_mjx.bench.agent import scores
from fpmd_mjx.bench.agent.scores import Curve, Curves
from fpmd_mjx.bench.agent.yardstick import Task, Yardstick
from fpmd_mjx.bench.campaign.store import program_id
from fpmd_mjx.config import load as configs
from fpmd_mjx.config.schema import Config
from fpmd_mjx.report.records import write_json
from fpmd_mjx.run import provenance
from fpmd_mjx.run.display import console
from fpmd_mjx.run.signals import Interrupted


@dataclass(frozen=True)
class Run:
    """One setting on one task, and the file of its result."""

    setting: str
    task: Task
    config: Config
    path: Path

    @property
    def label(self) -> str:
        return f"{self.setting} {self.task.name}"


def measure(
    yardstick: Yardstick, settings: Mapping[str, tuple[str, ...]], folder: Path, jobs: int
) -> list[str]:
    """Trains what has no result of this program in `folder` yet, then writes and prints the tables.

    jobs: runs side by side, each on its share of the cores, settings of the same task together.

    Returns the labels of the runs that failed; there are no tables then. Raises Interrupted at
    Ctrl-C. The results of all runs that ended stay.
    """
    program = program_id()
    runs = [
        Run(
            setting,
            task,
            yardstick.config(task, overrides),
            folder / setting / f"{task.name.replace('/', '_')}.json",
        )
        for task in yardstick.tasks
        for setting, overrides in settings.items()
    ]
    waiting: queue.SimpleQueue[Run] = queue.SimpleQueue()
    for run in runs:
        if stored(run, program) is None:
            waiting.put(run)
        else:
            console.print(f"{run.label}: measured before with this program", markup=False)
    failed: list[str] = []
    # Daemons, for an interrupt ends this process, and with it those that they wait for.
    workers = [
        threading.Thread(target=_work, args=(waiting, share, program, failed), daemon=True)
        for share in shares(jobs)
    ]
    for worker in workers:
        worker.start()
    try:
        while any(worker.is_alive() for worker in workers):
            workers[0].join(0.2)
            workers = workers[1:] + workers[:1]
    except KeyboardInterrupt:
        message = f"bench interrupted; the same command goes on from what is in {folder}"
        raise Interrupted(signal.SIGINT, message) from None
    if failed:
        console.print(
            f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}. The same command "
            "trains them again, and keeps the others.",
            markup=False,
        )
        return failed
    curves: dict[str, dict[str, Curve]] = {name: {} for name in settings}
    for run in runs:
        curves[run.setting][run.task.name] = _curve(run, program)
    _report(yardstick, settings, curves, folder)
    return []


def shares(jobs: int) -> list[list[int]]:
    """The cores of each of `jobs` processes."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    each = max(len(cores) // jobs, 1)
    return [cores[i * each % max(len(cores), 1) :][:each] for i in range(jobs)]


def stored(run: Run, program: str) -> dict[str, Any] | None:
    """The result of a run that this program has ended before."""
    try:
        content: dict[str, Any] = json.loads(run.path.read_text())
        same = content["program"] == program and content["config"] == _plain(run.config)
    except (OSError, ValueError, KeyError, TypeError):  # no file, or not one of ours
        return None
    return content if same else None


def train(text: str, cores: list[int]) -> Iterator[fresh.Record]:
    """`bench.target.train` to the end of the run, on some cores. Each record names the device: the
    process that compares must not look at it, or would hold a GPU's memory."""
    if cores:
        os.sched_setaffinity(0, cores)
    for record in target.train(text, None, ["one_step"]):
        yield record | {"device": provenance.device()}


def _work(
    waiting: "queue.SimpleQueue[Run]", cores: list[int], program: str, failed: list[str]
) -> None:
    """Trains what waits, one run after the other."""
    while True:
        try:
            run = waiting.get_nowait()
        except queue.Empty:
            return
        try:
            _train(run, cores, program)
        except Exception as error:  # whatever it is, the other runs go on
            failed.append(run.label)
            console.print(f"{run.label} failed: {error}", markup=False)


def _train(run: Run, cores: list[int], program: str) -> None:
    records = []
    with closing(fresh.run(train, configs.to_yaml(run.config), cores)) as yielded:
        for record in yielded:
            records.append(record)
            console.print(
                f"{run.label} {record['return']:.1f} after {record['env_steps']:,} env steps, "
                f"{record['train_seconds']:.0f} s",
                markup=False,
            )
    run.path.parent.mkdir(parents=True, exist_ok=True)
    write_json(
        run.path,
        {
            "command": shlex.join(["fpmd", *sys.argv[1:]]),
            "program": program,
            "cores": len(cores),
            "config": _plain(run.config),
            "records": records,
            "device": records[-1]["device"],
            "versions": provenance.versions(),
            "commit": provenance.commit(),
        },
    )


def _curve(run: Run, program: str) -> Curve:
    content = stored(run, program)
    assert content is not None
    return Curve.of(run.task, content["records"])


def _plain(config: Config) -> Any:
    return yaml.safe_load(configs.to_yaml(config))


def _report(
    yardstick: Yardstick,
    settings: Mapping[str, tuple[str, ...]],
    curves: Mapping[str, Curves],
    folder: Path,
) -> None:
    """Prints the tables, and writes them beside the results."""
    tables = {"scores": scores.summary(curves)}
    for equal in ("env steps", "seconds") if len(settings) > 1 else ():
        tables[f"at equal {equal}"] = scores.differences(curves, equal)
    lines = [
        f"{yardstick.description}. Tasks: {len(yardstick.tasks)}, seeds: {yardstick.seeds}.",
        *(f"{name}: {shlex.join(overrides)}" for name, overrides in settings.items()),
    ]
    for name, table in tables.items():
        lines += ["", name, *(f"  {line}" for line in table.lines())]
    text = "\n".join(lines)
    (folder / "scores.txt").write_text(text + "\n")
    print(text)
