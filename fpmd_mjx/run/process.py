"""What a process of this program settles before it imports anything heavy, or starts another."""

import ctypes
import gc
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # of Linux's prctl(2)

_PARENT = "FPMD_PARENT"
"""Environment variable with the number of the process that started this one."""


def collect_garbage_rarely() -> None:
    """For a process that imports and traces: both make objects by the million, which stay, and
    Python's collector would go through them again and again, for a fifth of the time of a start."""
    gc.set_threshold(1_000_000)


def child_environment(**changes: str) -> dict[str, str]:
    """Returns the environment variables for a new process that imports the same packages.

    PYTHONPATH is the search path of this process, since packages may come from anywhere on it.

    Args:
        **changes: variables that the new process has beside those of this one.
    """
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    return {**os.environ, "PYTHONPATH": path, _PARENT: str(os.getpid()), **changes}


def has_parent() -> bool:
    """Whether this process was started with `child_environment`."""
    return _PARENT in os.environ


def end_with_parent() -> None:
    """Lets the system kill this process when the one that started it ends, however that ends: a
    process that nobody waits for would hold its device. Linux alone has this.

    For processes that are started with `child_environment`. Call it before anything slow.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(os.environ.get(_PARENT, os.getppid())):
            sys.exit("the process that started this one has ended")  # before the call
