"""Other people's functions around our parts."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any


def with_globals(function: Callable[..., Any], **replaced: Any) -> Callable[..., Any]:
    """Returns a copy of `function` that finds `replaced` instead of its module's own."""
    return functools.wraps(function)(
        types.FunctionType(
            function.__code__, {**function.__globals__, **replaced}, function.__name__
        )
    )
