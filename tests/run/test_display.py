"""Time left, with a clock that the test moves."""

import os
from types import SimpleNamespace

import pytest

from fpmd_mjx.report.text import clock
from fpmd_mjx.run import display
from fpmd_mjx.run.display import Display


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(display, "time", SimpleNamespace(monotonic=fake.monotonic))
    return fake


Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00:00"),
        (59.4, "0:00:59"),
        (59.6, "0:01:00"),
        (3661, "1:01:01"),
        (360000, "100:00:00"),
    ],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_the_time_left_of_a_run(time: Clock, capsys: Capture) -> None:
    with Display() as shown:
        shown.begin("task actor", 0, 400)
        time.now += 10
        shown.update(100, "one_step 3.0")
        time.now += 50  # slower: 60 s for 200 steps
        shown.update(200, "one_step 4.0")
    first, second = capsys.readouterr().err.splitlines()
    assert first == "task actor  25%  one_step 3.0  left 0:00:30"
    assert second == "task actor  50%  one_step 4.0  left 0:01:00"


def test_a_resumed_run_is_measured_by_what_this_process_did(time: Clock, capsys: Capture) -> None:
    with Display() as shown:
        shown.begin("task actor", 300, 400)
        time.now += 10
        shown.update(350, "x")
    assert capsys.readouterr().err == "task actor  88%  x  left 0:00:10\n"


def test_a_run_without_progress_does_not_divide_by_zero(time: Clock, capsys: Capture) -> None:
    with Display() as shown:
        shown.begin("task actor", 300, 400)
        shown.update(300, "x")
    assert capsys.readouterr().err.endswith("left 0:00:00\n")


def test_the_time_left_of_a_suite(time: Clock, capsys: Capture) -> None:
    with Display(cells=3) as shown:
        time.now += 5  # compiles
        shown.begin("first", 0, 100)
        time.now += 20
        shown.update(50, "x")  # 20 s more, then two runs of 45 s
        time.now += 40  # it ended after 65 s
        shown.end()
        time.now += 15  # scores the first and compiles the second
        shown.begin("second", 0, 100)
        time.now += 10
        shown.update(50, "x")  # 10 s more, then one run of (80 + 20) / 2
        time.now += 10
        shown.end()
        shown.begin("third", 0, 100)
        time.now += 5
        shown.update(50, "x")
    first, second, third = capsys.readouterr().err.splitlines()
    assert first == "[1/3] first  50%  x  left 0:00:20, all 0:01:50"
    assert second == "[2/3] second  50%  x  left 0:00:10, all 0:01:00"
    assert third == "[3/3] third  50%  x  left 0:00:05, all 0:00:05"


def test_a_closed_pipe_is_left_to_the_command_line() -> None:
    """rich would end the process itself, with another code."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as file:
        with pytest.raises(BrokenPipeError):
            display._Console(file=file).print("nobody reads this")
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)  # for what is still in the buffer


def test_notes_are_printed_as_they_are(capsys: Capture) -> None:
    text = "runs/[bold]name[/bold] " + "x" * 200
    with Display() as shown:
        shown.note(text)
    captured = capsys.readouterr()
    assert captured.err == text + "\n"
    assert captured.out == ""
