"""Runs the cells of a campaign one after the other, within a time limit."""

import fcntl
import importlib.util
import math
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fpmd_mjx.bench import fresh
from fpmd_mjx.bench.campaign import cache, cells, command, table
from fpmd_mjx.bench.campaign.cells import Cell
from fpmd_mjx.bench.campaign.command import Ended
from fpmd_mjx.bench.campaign.parts import (
    missing_seeds,
    named,
    part_seconds,
    projection,
    seeds_at_once,
)
from fpmd_mjx.bench.campaign.store import Record, Status, Store, card_name, metrics, program_id
from fpmd_mjx.config.load import configs_dir
from fpmd_mjx.config.schema import ConfigError
from fpmd_mjx.report.text import clock
from fpmd_mjx.run import provenance
from fpmd_mjx.run.display import console
from fpmd_mjx.run.process import child_environment
from fpmd_mjx.run.signals import Interrupted

ROOT = configs_dir().parent if (configs_dir().parent / "pyproject.toml").exists() else Path()
"""The checkout, or the working directory if the package is installed without a checkout."""

RESULTS = ROOT / "benchmarks" / "gpu"
"""The folder of committed results, with a folder for each kind of card."""

_DISTRIBUTIONS = {"warp": "warp-lang", "mujoco_playground": "playground", "brax": "brax"}
"""Modules that some cells need, and the names of their packages in `provenance.versions`."""

INTERRUPTED = ("interrupted", "killed with its campaign", "the campaign's time was up")
"""Reasons of attempts that were stopped without an error."""

LOCKS = Path(tempfile.gettempdir())
"""The folder of the locks by which a campaign holds a card."""

PACKING = 15.0
"""Seconds to write the compile caches at the end of a campaign."""

CHILD = "fpmd_mjx"
"""The module that the measuring processes run, with the command line of `fpmd`."""


@dataclass(frozen=True)
class Options:
    """Options of a campaign.

    Attributes:
        out: folder of the results, with a folder for each card. None: `RESULTS`, or runs/rehearsal
            for a rehearsal.
        minutes: time after which the campaign ends. None: when everything is measured.
        only: names or globs of the cells to measure; empty: all.
        again: names or globs of cells to measure even if they have a result.
        rehearse: toy sizes, on any device.
        dry_run: print the cells that would be measured, and measure nothing.
        cache, keep_cache: see `cache.unpack` and `cache.pack`.
    """

    out: Path | None = None
    minutes: float | None = None
    only: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    rehearse: bool = False
    dry_run: bool = False
    cache: Path | None = None
    keep_cache: Path | None = None


def run_campaign(name: str, options: Options) -> int:
    """Measures the missing cells, prints a line for each, and returns the number of cells that
    failed or ended early.

    Raises ConfigError if nothing can be measured. Raises Interrupted at SIGINT or SIGTERM, after it
    has kept the results so far.
    """
    end = math.inf if options.minutes is None else time.monotonic() + 60.0 * options.minutes
    if options.keep_cache is not None:
        end -= PACKING
    campaign = cells.load(name, options.rehearse)
    wanted = cells.matching(campaign.cells, list(options.only or ["*"]))
    again = cells.matching(campaign.cells, list(options.again))
    if options.cache is not None:
        cache.unpack(options.cache)
    [found] = fresh.run(card, env={"XLA_PYTHON_CLIENT_PREALLOCATE": "false"})
    if found["platform"] != "gpu" and not (options.rehearse or options.dry_run):
        raise ConfigError(
            f"campaign {name} measures a GPU, and JAX finds only the {found['device']}: install "
            "fpmd-mjx[gpu], or add --rehearse to run every cell at toy size on the CPU."
        )
    folder = options.out or (Path("runs/rehearsal") if options.rehearse else RESULTS)
    where = card_name(found["device"])
    store = Store(folder / where, None if options.rehearse else RESULTS / where)
    runner = Runner(store, found, program_id(whole=options.rehearse), end)
    todo = [cell for cell in campaign.cells if cell.name in wanted]
    if options.dry_run:
        runner.announce(runner.queue(todo, again))
        return 0
    # A rehearsal may share its device, because its figures are not used.
    lock = store.folder / ".lock" if options.rehearse else LOCKS / f"fpmd-campaign-{where}.lock"
    with _alone(lock):
        runner.recover(campaign.cells)
        queue = runner.queue(todo, again)
        try:
            with _termination_interrupts():
                if options.rehearse:
                    runner.rehearse(queue, again)
                else:
                    runner.run(queue, again)
        except KeyboardInterrupt:
            raise Interrupted(
                signal.SIGINT, "campaign interrupted; the same command continues it"
            ) from None
        finally:
            if options.keep_cache is not None:
                cache.pack(options.keep_cache)
            table.write(campaign, folder)
            if folder.resolve() == RESULTS.resolve():
                table.write_pages(campaign, ROOT)
    return runner.failures


def write_tables(name: str) -> int:
    """Writes the tables of this checkout again, from the results in `RESULTS`."""
    campaign = cells.load(name)
    table.write(campaign, RESULTS)
    table.write_pages(campaign, ROOT)
    return 0


def card() -> Iterator[fresh.Record]:
    """Yields the device, its driver and the provenance. Runs in its own process, because asking for
    a GPU takes most of its memory."""
    import jax

    device = jax.local_devices()[0]
    yield {"platform": device.platform, "driver": driver(), **provenance.provenance()}


def driver() -> str | None:
    """Version of the NVIDIA driver; None without one."""
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        found = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        return None
    return found[0] if found else None


class Runner:
    """A running campaign. failures: number of cells so far that failed or ended early."""

    def __init__(self, store: Store, card: dict[str, Any], program: str, end: float) -> None:
        """card: the record of `card`; program: as of `program_id`; end: `time.monotonic()` at which
        to be done."""
        self.failures = 0
        self._stopping = False
        self._running: set[subprocess.Popen[bytes]] = set()
        self._store, self._program, self._end = store, program, end
        keys = ("device", "driver", "versions", "commit")
        self._provenance = {key: card[key] for key in keys}

    def recover(self, all_cells: tuple[Cell, ...]) -> None:
        """Keeps the results of a cell during which its campaign was killed."""
        for cell in all_cells:
            if results := self._store.written(cell):
                self._keep(cell, results, INTERRUPTED[1], 0.0)
                _say("found", cell, "measured in part by a campaign that was killed")

    def _keep(self, cell: Cell, results: list[dict[str, Any]], reason: str, seconds: float) -> None:
        """Keeps the results of a cell during which the campaign ended, beside the seeds that were
        complete before."""
        measured_with = {key: results[0][key] for key in ("versions", "commit")} if results else {}
        ours = all(self._provenance[key] == value for key, value in measured_with.items())
        record = self._record(cell, "partial" if results else "failed", reason, results, seconds)
        record.provenance = {**record.provenance, **measured_with}
        if not ours:
            record.program = "unknown"
        if cell.seeds:
            record.results, record.unfinished = [], results
            before = self._attempt(cell)
            if before:
                record = replace(before, reason=reason, unfinished=results)
        self._store.write(record)

    def queue(self, wanted: list[Cell], again: set[str]) -> list[Cell]:
        """The cells to measure, each group in the campaign's order.

        First come cells without a result, interrupted ones and those in `again`; then cells that
        failed or have a result of another program.
        """
        ranks = {cell.name: self._rank(cell, cell.name in again) for cell in wanted}
        for cell in wanted:
            if ranks[cell.name] is None:
                _say("there", cell, "measured before with this program")
        left = [cell for cell in wanted if ranks[cell.name] is not None]
        return sorted(left, key=lambda cell: ranks[cell.name] or 0)

    def _rank(self, cell: Cell, again: bool) -> int | None:
        complete, attempt = self._store.complete(cell.name), self._attempt(cell)
        if again or (attempt and (attempt.parts or str(attempt.reason).endswith(INTERRUPTED))):
            return 0
        if complete and self._is_current(cell, complete):
            return None
        return 1 if complete or self._store.open(cell.name) else 0

    def _attempt(self, cell: Cell) -> Record | None:
        """The last attempt, if it was not complete and had the current program and command."""
        attempt = self._store.open(cell.name)
        return attempt if attempt and self._is_current(cell, attempt) else None

    def _is_current(self, cell: Cell, record: Record) -> bool:
        """Whether a record has the current program, command and versions of the modules needed."""
        now, then = self._provenance["versions"], record.provenance["versions"]
        names = [_DISTRIBUTIONS.get(need, need) for need in cell.needs]
        return (
            record.program == self._program
            and record.command == _shown(cell)
            and all(now.get(name) == then.get(name) for name in names)
        )

    def announce(self, queue: list[Cell]) -> None:
        """Prints the cells that would be measured, and the estimated time."""
        for cell in queue:
            _say("would run", cell, f"about {self._estimate(cell):.0f} s: {_shown(cell)}")
        total = sum(map(self._estimate, queue))
        console.print(f"{len(queue)} cells, about {clock(total)}", markup=False)

    def run(self, queue: list[Cell], again: set[str]) -> None:
        """Measures the cells, and keeps each result as soon as it is there."""
        for cell in queue:
            self._run(cell, cell.name in again)

    def rehearse(self, queue: list[Cell], again: set[str]) -> None:
        """`run`, two cells at a time: their figures are not used, and tracing takes one core."""
        pool = ThreadPoolExecutor(2)
        try:
            for _ in pool.map(lambda cell: self._run(cell, cell.name in again), queue):
                pass
        except KeyboardInterrupt:
            self._stopping = True
            for process in tuple(self._running):
                os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _run(self, cell: Cell, again: bool) -> None:
        missing = [need for need in cell.needs if importlib.util.find_spec(need) is None]
        if missing:
            _say("skipped", cell, f"needs {', '.join(missing)}, not installed here")
        elif cell.seeds:
            self.failures += not self._run_seeds(cell, again)
        elif (estimate := self._estimate(cell)) > self._left:
            _say("no time", cell, f"about {estimate:.0f} s, {max(self._left, 0.0):.0f} s left")
        else:
            self.failures += not self._run_once(cell)

    @property
    def _left(self) -> float:
        """Seconds left for a command, which takes up to `GRACE` more if it must be stopped."""
        return self._end - command.GRACE - time.monotonic()

    def _estimate(self, cell: Cell) -> float:
        """Seconds of a whole cell: the time that it took before on this kind of card, even if it
        did not end, or else the cell's estimate."""
        complete, attempt = self._store.complete(cell.name), self._store.open(cell.name)
        known = complete.seconds if complete else cell.seconds
        return max(known, attempt.seconds if attempt else 0.0)

    def _run_once(self, cell: Cell) -> bool:
        """Runs a cell without parts. Returns whether the result is complete."""
        words = [self._limited(word) for word in cell.words]
        ended = self._command(cell, words)
        record = self._record(cell, ended.status, ended.reason, ended.results, ended.seconds)
        self._store.write(record)
        _tell(cell, ended)
        return ended.status == "measured"

    def _limited(self, word: str) -> str:
        """`word`; a `limit=SECONDS` is lowered to the time left."""
        key, _, value = word.partition("=")
        if key == "limit" and self._left - command.GRACE < float(value):
            return f"limit={max(self._left - command.GRACE, 1.0):.0f}"
        return word

    def _run_seeds(self, cell: Cell, again: bool) -> bool:
        """Trains the missing seeds, as many at a time as fit.

        A part that would exceed its limit ends early, and a smaller one follows. Returns False if a
        part failed.
        """
        attempt = None if again else self._attempt(cell)
        results = attempt.results if attempt else []
        parts = attempt.parts if attempt else []
        while missing := missing_seeds(cell.seeds, parts):
            within = min(cell.limit, self._left) - command.GRACE  # leaves time to end by itself
            count = seeds_at_once(cell, parts, len(missing), within)
            if count is None:
                _say("no time", cell, f"for {named(missing)} within {max(within, 0.0):.0f} s")
                return True
            ended = self._command(cell, [*cell.words, *_part(missing[0], count, within)])
            projected = projection(ended.results)
            whole = ended.status == "measured" and projected is None
            taken = part_seconds(ended, count, projected)
            if taken is not None:
                part = {"seed": missing[0], "seeds": count, "seconds": taken, "ended": whole}
                parts = [*parts, part]
            if whole:
                results = [*results, *ended.results]
            left = missing_seeds(cell.seeds, parts)
            reason = ended.reason
            if projected:
                reason = f"{named(missing[:count])} would take {projected:.0f} s"
            elif left and reason is None:
                reason = f"{named(left)} still to train"
            status: Status = "partial" if left and results else "failed" if left else "measured"
            seconds = sum(part["seconds"] for part in parts if part["ended"])
            unfinished = [] if whole else ended.results
            record = self._record(cell, status, reason, results, seconds, parts, unfinished)
            self._store.write(record)
            _tell(cell, replace(ended, status=status, reason=reason))
            if ended.status != "measured" and not (
                count > 1 and command.out_of_memory(ended.reason)
            ):
                return False
        return True

    def _command(self, cell: Cell, words: list[str]) -> Ended:
        """Runs `fpmd bench` for a cell, within its limit and the campaign's."""
        if self._stopping:
            raise KeyboardInterrupt
        self._store.folder.mkdir(parents=True, exist_ok=True)
        running = self._store.running(cell)
        running.unlink(missing_ok=True)
        arguments = [sys.executable, "-m", CHILD, "bench", *words]
        arguments += ["--rounds", str(cell.rounds), "--shared-caches", "--out", str(running)]
        limit = min(cell.limit, self._left)
        start = time.monotonic()
        _say("running", cell, shlex.join(words))
        log = self._store.folder / f"{cell.name}.log"
        env = child_environment(**cell.env)
        if "XLA_FLAGS" in cell.env:
            env["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {cell.env['XLA_FLAGS']}".strip()
        try:
            status, in_time = command.execute(arguments, env, log, limit, self._running)
            if self._stopping:
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            results = self._store.written(cell)
            self._keep(cell, results, INTERRUPTED[0], time.monotonic() - start)
            raise
        seconds = time.monotonic() - start
        results = self._store.written(cell)
        reason = None
        if not in_time:
            why = "its limit" if limit == cell.limit else INTERRUPTED[2]
            reason = f"stopped after {limit:.0f} s: {why}"
        elif status:
            reason = command.failure(status, log.read_text(errors="replace"))
        elif not results:
            reason = "the command ended without a result"
        device = self._provenance["device"]
        if results and results[0]["device"] not in (None, device):
            reason = f"it ran on the {results[0]['device']}, not on the {device}"
            results = []
        figures = [*cell.figures.values()]
        if reason is None and not any(table.figure(metrics(results), each) for each in figures):
            reason = f"none of its figures, such as {figures[0]}, is there"
        outcome: Status = "measured" if reason is None else "partial" if results else "failed"
        return Ended(outcome, reason, results, seconds)

    def _record(
        self,
        cell: Cell,
        status: Status,
        reason: str | None,
        results: list[dict[str, Any]],
        seconds: float,
        parts: list[dict[str, Any]] | None = None,
        unfinished: list[dict[str, Any]] | None = None,
    ) -> Record:
        return Record(
            cell=cell.name,
            status=status,
            reason=reason,
            program=self._program,
            command=_shown(cell),
            provenance=self._provenance,
            seconds=round(seconds, 1),
            results=results,
            parts=parts or [],
            unfinished=unfinished or [],
        )


def _part(seed: int, seeds: int, limit: float) -> list[str]:
    """The words that a part adds to those of its cell."""
    return [f"seed={seed}", f"seeds={seeds}", f"limit={limit:.0f}"]


def _shown(cell: Cell) -> str:
    """The command of a whole cell, as text."""
    env = [f"{key}={shlex.quote(value)}" for key, value in cell.env.items()]
    more = _part(0, cell.seeds, cell.limit) if cell.seeds else []
    words = shlex.join(
        ["fpmd", "bench", *cell.words, *more, "--rounds", str(cell.rounds), "--shared-caches"]
    )
    return " ".join([*env, words])


def _tell(cell: Cell, ended: Ended) -> None:
    reason = f": {ended.reason}" if ended.reason else ""
    _say(ended.status, cell, f"{ended.seconds:.0f} s{reason}")


def _say(what: str, cell: Cell, text: str) -> None:
    console.print(f"{what:9} {cell.name:32} {text}", markup=False, soft_wrap=True)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Holds a lock, because two campaigns on one card would disturb each other. path: its file.

    Raises ConfigError if another campaign holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another campaign has this card (its lock is {path}): wait until it has ended."
            ) from None
        yield


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    """Makes SIGTERM act like Ctrl-C."""

    def interrupt(signum: int, frame: Any) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
