"""The device's time in training by kernel, as recorded by JAX's profiler."""

import dataclasses
import math
import re
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.profiler import ProfileData

from fpmd_mjx.algorithms.base import Metrics
from fpmd_mjx.bench import phases
from fpmd_mjx.bench.plan import Cell
from fpmd_mjx.bench.timing import Table
from fpmd_mjx.config.schema import Config
from fpmd_mjx.program import Program, Sums, TrainState, make_program
from fpmd_mjx.run import memory
from fpmd_mjx.run.display import console

ITERATIONS = 8
"""Iterations of the profiled chunk. The trace of a whole epoch would have millions of kernels."""

REPEATS = 3
"""Chunks without the profiler; the fastest counts."""

TOP = 20
NAME_LENGTH = 80
"""Rows of the table of kernels, and characters of a name."""

KINDS = {
    "copies": r"^mem(cpy|set)|^copy(\.\d+)?$",
    "warp": r"_cuda_kernel_(for|back)ward",
    "products": r"gemm|gemv|cutlass|nvjet|xmma|cublas|^dot|^ynn|cudnn|convolution|_fprop|_[dw]grad",
    "factorizations": r"potr|trsm|trsv|getr|geqr|syevd|cholesky|triangular|cusolver",
    "indexing": r"sort|gather|scatter|dynamic[-_](update[-_])?slice|topk|top_k",
    "fusions": r"fusion|wrapped_",
}
"""Kinds of kernels, by a pattern of their names. The first match counts; the rest are "other"."""

NO_WORK = r"^Memory(Alloc|Free|Residency)$"
"""CUPTI's events on streams that do not occupy the device."""

OPTIONS = {"xla_enable_command_buffers_during_profiling": True}
"""Without this option, XLA launches the kernels of CUDA graphs one by one while it is profiled.
CPUs ignore it."""


@dataclass(frozen=True)
class Event:
    """One kernel or copy on the device. start, end: nanoseconds; in_graph: whether it was launched
    as part of a CUDA graph."""

    name: str
    start: float
    end: float
    in_graph: bool = False

    @property
    def kind(self) -> str:
        """One of `KINDS`, or "other"."""
        found = (kind for kind, hint in KINDS.items() if re.search(hint, self.name, re.IGNORECASE))
        return next(found, "other")


def iterations(program: Program, state: TrainState) -> tuple[TrainState, tuple[Sums, Metrics]]:
    """The iterations of an epoch, without the work that an epoch does once. That work would have
    the largest share beside so few iterations."""

    def iteration(state: TrainState, _: None) -> tuple[TrainState, tuple[Sums, Metrics]]:
        state, episodes = program.collect(state)
        state, learning = program.learn(state)
        return state, (episodes, learning)

    return jax.lax.scan(iteration, state, None, program.config.iterations_per_epoch)


PARTS = {**phases.PARTS, "program": iterations}
"""(program, state) -> state, metrics; by the name in `part=NAME`."""


def profile(cell: Cell) -> dict[str, float | Table]:
    """Metrics of `fpmd bench profile`; nothing, and a message, where no kernels are recorded."""
    config = shortened(cell.config)
    program = make_program(config)
    memory.check(config, memory.plan(program), memory.limit())
    console.print(f"compiling {config.task.name} {cell.label} to profile", markup=False)
    workload = phases.Workload(program, (cell.part,), PARTS, OPTIONS)
    run = workload.phase(cell.part).run
    run()  # loads and allocates on first use
    seconds = min(timed(run) for _ in range(REPEATS))
    events, traced_seconds = trace(run)
    if not events:
        console.print(
            f"profile: JAX's profiler recorded no kernels on {jax.devices()[0].device_kind}. On a "
            "GPU it needs CUPTI (`pip install 'fpmd-mjx[gpu]'`) and a driver that permits "
            "profiling.",
            markup=False,
        )
        return {}
    found = aggregate(
        events,
        vector_steps=ITERATIONS * config.learn.collect_steps if cell.part != "learn" else 0,
        updates=ITERATIONS * config.learn.updates if cell.part == "learn" else 0,
    )
    found = {"seconds": seconds, "tracing_slowdown": traced_seconds / seconds, **found}
    return {f"profile.{name}": value for name, value in found.items()}


def shortened(config: Config) -> Config:
    """`config` with ITERATIONS iterations in an epoch."""
    return dataclasses.replace(config, epoch_steps=ITERATIONS * config.steps_per_iteration)


def timed(run: Callable[[], None]) -> float:
    """Seconds of `run`."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def trace(run: Callable[[], None]) -> tuple[list[Event], float]:
    """The events on the device during `run`, and the seconds of `run`."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # no calls of Python, which would be most of the trace
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            seconds = timed(run)
        files = list(Path(folder).glob("**/*.xplane.pb"))
        return [
            event for file in files for event in events(ProfileData.from_file(str(file)))
        ], seconds


def events(data: ProfileData) -> list[Event]:
    """The kernels and copies of GPUs. Without a GPU: the operations that XLA runs on the CPU."""
    planes = list(data.planes)
    gpus = [plane for plane in planes if plane.name.startswith("/device:GPU:")]
    found: list[Event] = []
    for plane in gpus or [plane for plane in planes if plane.name == "/host:CPU"]:
        lines = list(plane.lines)
        # CUPTI's lines. Lines that a tool derives from them repeat the same work.
        streams = [line for line in lines if line.name.startswith("Stream #")]
        for line in streams or lines:
            recorded = _line(line)
            if gpus:
                found += (event for event, _ in recorded if not re.search(NO_WORK, event.name))
            else:
                found += innermost([event for event, stats in recorded if "hlo_op" in stats])
    return found


def _line(line: Any) -> list[tuple[Event, dict[str, Any]]]:
    """The events of a line of a profile, with the profiler's stats of each."""
    found = []
    with warnings.catch_warnings():
        # On Python 3.12 the first `stats` gives a deprecation warning. If warnings are errors, it
        # ends the process.
        warnings.simplefilter("ignore", DeprecationWarning)
        for event in line.events:
            stats = dict(event.stats)
            in_graph = "cuda_graph_id" in stats
            found.append((Event(event.name, event.start_ns, event.end_ns, in_graph), stats))
    return found


def innermost(events: Sequence[Event]) -> list[Event]:
    """The events of a thread that enclose no other. A loop on a CPU encloses its operations."""
    ordered = sorted(events, key=lambda event: (event.start, -event.end))
    next_starts = [*(event.start for event in ordered[1:]), math.inf]
    return [event for event, start in zip(ordered, next_starts, strict=False) if start >= event.end]


def aggregate(events: Sequence[Event], vector_steps: int, updates: int) -> dict[str, float | Table]:
    """Counts, shares and the table of the longest kernels of a chunk.

    vector_steps, updates: work of the chunk; either may be 0. busy_share: the share of the time
    from the first event to the last in which any stream runs something. Shares of kinds and of
    kernels are shares of the sum of the seconds of all events.
    """
    seconds: dict[str, float] = defaultdict(float)
    by_kind = dict.fromkeys((*KINDS, "other"), 0.0)
    counts: dict[str, int] = defaultdict(int)
    kinds: dict[str, str] = {}
    for event in events:
        kind = kinds.setdefault(event.name, event.kind)
        duration = (event.end - event.start) * 1e-9
        seconds[event.name] += duration
        by_kind[kind] += duration
        counts[event.name] += 1
    total = sum(seconds.values())
    kernels = [event for event in events if kinds[event.name] != "copies"]
    to_host = sum(event.name.startswith("MemcpyD2H") for event in events)
    busy = busy_seconds(events)
    span = (max(event.end for event in events) - min(event.start for event in events)) * 1e-9
    found: dict[str, float | Table] = {
        "busy_seconds": busy,
        "busy_share": busy / span,
        "kernels": len(kernels),
        "graph_kernels_share": sum(event.in_graph for event in kernels) / max(1, len(kernels)),
        "copies_to_host": to_host,
    }
    if vector_steps:
        found["kernels_per_vector_step"] = len(kernels) / vector_steps
        found["copies_to_host_per_vector_step"] = to_host / vector_steps
    if updates:
        found["kernels_per_update"] = len(kernels) / updates
    for kind, amount in by_kind.items():
        found[f"{kind}_share"] = amount / total
    top = sorted(seconds, key=lambda name: -seconds[name])[:TOP]
    found["top"] = Table(
        ("kernel", "kind", "count", "seconds", "share"),
        tuple(
            (_short(name), kinds[name], counts[name], seconds[name], seconds[name] / total)
            for name in top
        ),
    )
    return found


def busy_seconds(events: Sequence[Event]) -> float:
    """Seconds in which at least one of `events` runs."""
    busy = reached = 0.0
    for event in sorted(events, key=lambda event: event.start):
        busy += max(0.0, event.end - max(event.start, reached))
        reached = max(reached, event.end)
    return busy * 1e-9


def _short(name: str) -> str:
    return name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH - 3] + "..."
