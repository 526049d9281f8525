"""Stopping at a signal."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Interrupted(Exception):
    """A signal stopped the command; the message says what is kept. signum: the signal."""

    def __init__(self, signum: int, message: str):
        super().__init__(message)
        self.signum = signum


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """A list that receives the first SIGINT or SIGTERM. A second one acts as usual."""
    received: list[int] = []
    previous: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def handle(signum: int, frame: Any) -> None:
        received.append(signum)
        restore()

    for signum in (signal.SIGINT, signal.SIGTERM):
        previous[signum] = signal.signal(signum, handle)
    try:
        yield received
    finally:
        restore()
