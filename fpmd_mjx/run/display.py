"""Progress for people: a bar on a terminal, a line an epoch elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from fpmd_mjx.report.text import clock


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leaves the error to the command line, as for any other output."""
        raise


console = _Console(stderr=True, highlight=False)


class Display:
    """The progress of one run, or of a suite of runs when `cells` is more than one.

    cells: runs to train; each `begin` starts the next one. The time left assumes the pace of this
    process so far. That of a suite includes compilation and scoring, and counts a run that has not
    begun as the mean of those before.
    """

    def __init__(self, cells: int = 1):
        self._cells = cells
        self._ended = 0
        self._opened = self._started = time.monotonic()
        self._name = ""
        self._total = 1
        self._first = 0
        self._task: TaskID | None = None
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[text]}"),
        )
        self._bar = Progress(*columns, console=console, transient=True)

    def __enter__(self) -> Self:
        if console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar.live.is_started:  # otherwise stopping prints an empty line
            self._bar.stop()

    def note(self, text: str) -> None:
        """Prints text that stays."""
        console.print(text, markup=False, soft_wrap=True)

    def begin(self, name: str, done: int, total: int) -> None:
        """Starts the next run, of `total` env steps. An earlier process did `done` of them."""
        self._started = time.monotonic()
        self._name, self._first, self._total = name, done, total
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(self._title(), total=total, completed=done, text="")

    def update(self, done: int, text: str) -> None:
        """Shows `done` env steps of the run, `text` and the time left."""
        left = self._left(done)
        text = f"{text}  left {clock(left)}"
        if self._cells > 1:
            text += f", all {clock(self._all_left(left))}"
        assert self._task is not None
        self._bar.update(self._task, completed=done, text=text)
        if not console.is_terminal:
            self.note(f"{self._title()} {100 * done / self._total:3.0f}%  {text}")

    def end(self) -> None:
        """Ends the run."""
        self._ended += 1

    def _title(self) -> str:
        return f"[{self._ended + 1}/{self._cells}] {self._name}" if self._cells > 1 else self._name

    def _left(self, done: int) -> float:
        if done <= self._first:
            return 0.0
        spent = time.monotonic() - self._started
        return spent * (self._total - done) / (done - self._first)

    def _all_left(self, left: float) -> float:
        mean = (time.monotonic() - self._opened + left) / (self._ended + 1)
        return left + mean * (self._cells - self._ended - 1)
