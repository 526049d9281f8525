"""The set-up of a process, before slow imports, and the environment of the processes it starts."""

import ctypes
import gc
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # of Linux's prctl(2)

_PARENT = "FPMD_PARENT"
"""Environment variable with the process id of the parent."""


def collect_garbage_rarely() -> None:
    """Raises the threshold of Python's garbage collector.

    Imports and traces make millions of objects that stay. At the default threshold the collector
    visits them again and again, which takes a fifth of the time of a start.
    """
    gc.set_threshold(1_000_000)


def child_environment(**changes: str) -> dict[str, str]:
    """Returns the environment variables for a new process that imports the same packages.

    PYTHONPATH is the search path of this process, since packages may come from anywhere on it.

    Args:
        **changes: variables to add to those of this process.
    """
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    return {**os.environ, "PYTHONPATH": path, _PARENT: str(os.getpid()), **changes}


def has_parent() -> bool:
    """Whether this process was started with `child_environment`."""
    return _PARENT in os.environ


def end_with_parent() -> None:
    """Lets Linux kill this process as soon as its parent ends, so that it does not keep a device.

    Does nothing on other systems. For processes that are started with `child_environment`. Call it
    before anything slow.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(os.environ.get(_PARENT, os.getppid())):
            sys.exit("the process that started this one has ended")  # before the prctl
