"""Functions of other packages with some of their globals replaced."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any


def with_globals(function: Callable[..., Any], **replaced: Any) -> Callable[..., Any]:
    """Returns a copy of `function` with the globals `replaced` in place of its module's."""
    return functools.wraps(function)(
        types.FunctionType(
            function.__code__, {**function.__globals__, **replaced}, function.__name__
        )
    )
