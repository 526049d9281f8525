"""What a process of this program settles before it imports anything heavy."""

import gc


def collect_garbage_rarely() -> None:
    """For a process that imports and traces: both make objects by the million, which stay, and
    Python's collector would go through them again and again, for a fifth of the time of a start."""
    gc.set_threshold(1_000_000)
