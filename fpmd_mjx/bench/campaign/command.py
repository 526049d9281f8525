"""One command of a campaign: its process, its end, and the reason for a failure."""

import os
import re
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpmd_mjx.bench.campaign.store import Status

GRACE = 15.0
"""Seconds that an interrupted command has to write its results."""

OUT_OF_MEMORY = (
    *("RESOURCE_EXHAUSTED", "out of memory", "Failed to allocate", "MemoryError", "bad_alloc"),
    "killed by SIGKILL",
)
"""Signs of too little memory in the messages of XLA, CUDA, Warp, Python, C++ and the system."""


@dataclass(frozen=True)
class Ended:
    """How a command ended; see `Record`."""

    status: Status
    reason: str | None
    results: list[dict[str, Any]]
    seconds: float


def execute(
    command: list[str],
    env: dict[str, str],
    log: Path,
    limit: float,
    running: set[subprocess.Popen[bytes]],
) -> tuple[int, bool]:
    """Runs a command to its end, or for `limit` seconds, with its output in `log`.

    Returns its exit code, and whether it ended in time. To stop a command, it is interrupted, so
    that it can write its results, and killed with all its processes `GRACE` seconds later. While it
    runs, `running` holds its process.
    """
    with (
        log.open("w") as output,
        subprocess.Popen(
            command,
            env=env,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        running.add(process)
        try:
            return process.wait(limit), True
        except subprocess.TimeoutExpired:
            _stop(process)
            return process.returncode, False
        except KeyboardInterrupt:
            _stop(process)
            raise
        finally:
            running.remove(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def failure(status: int, output: str) -> str:
    """The reason for a failure in one line. status: the exit code; output: the command's output."""
    stripped = (line.strip() for line in output.splitlines())
    frame = r"@ |\*\*\* |PC: "  # of a stack in C
    lines = [line for line in stripped if line and not re.match(frame, line)]
    errors = [line for line in lines if re.match(r"(fpmd|[\w.]*(Error|Exception))(:|$)", line)]
    # A child of the command prints its own error first, unless it is killed.
    own = [line for line in errors if "failed in its own process" not in line]
    if errors and errors[-1].endswith(f"status {-signal.SIGKILL}"):
        status = -signal.SIGKILL
    said = (own or lines or [""])[-1][:300]
    if status < 0:
        name = signal.Signals(-status).name
        hint = ", as the system does when memory is short" if status == -signal.SIGKILL else ""
        return f"killed by {name}{hint}" + (f"; last line: {said}" if said else "")
    return f"exit code {status}: {said}" if said else f"exit code {status}"


def out_of_memory(reason: str | None) -> bool:
    """Whether a command failed for lack of memory, judging by the reason of `failure`."""
    return reason is not None and any(sign in reason for sign in OUT_OF_MEMORY)
