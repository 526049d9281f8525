"""What a process of this program settles before it imports anything heavy."""

import ctypes
import gc
import signal
import sys

_PR_SET_PDEATHSIG = 1  # of Linux's prctl(2)


def collect_garbage_rarely() -> None:
    """For a process that imports and traces: both make objects by the million, which stay, and
    Python's collector would go through them again and again, for a fifth of the time of a start."""
    gc.set_threshold(1_000_000)


def end_with_parent() -> None:
    """Lets the system kill this process when the one that started it ends, however that ends: a
    process that nobody waits for would hold its device. Linux alone has this."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
