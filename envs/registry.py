"""Tasks by name: `make("dmc/cartpole_swingup")`."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterable
from typing import Unpack

from envs.base import Env
from envs.dmc.cartpole import Cartpole
from envs.dmc.cheetah import CheetahRun
from envs.gym.half_cheetah import HalfCheetah
from envs.gym.inverted_pendulum import InvertedPendulum
from envs.gym.reacher import Reacher
from envs.limits import limits_of
from envs.physics import PhysicsOptions

_TASKS: dict[str, Callable[..., Env]] = {
    "dmc/cartpole_balance": functools.partial(Cartpole, swing_up=False, sparse=False),
    "dmc/cartpole_balance_sparse": functools.partial(Cartpole, swing_up=False, sparse=True),
    "dmc/cartpole_swingup": functools.partial(Cartpole, swing_up=True, sparse=False),
    "dmc/cartpole_swingup_sparse": functools.partial(Cartpole, swing_up=True, sparse=True),
    "dmc/cheetah_run": CheetahRun,
    "gym/HalfCheetah-v4": functools.partial(HalfCheetah, 4),
    "gym/HalfCheetah-v5": functools.partial(HalfCheetah, 5),
    "gym/InvertedPendulum-v4": functools.partial(InvertedPendulum, 4),
    "gym/InvertedPendulum-v5": functools.partial(InvertedPendulum, 5),
    "gym/Reacher-v4": functools.partial(Reacher, 4),
    "gym/Reacher-v5": functools.partial(Reacher, 5),
}


class UnknownTaskError(ValueError):
    """No task has the name that was asked for."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        """Args are the name that was asked for and the names that exist."""
        close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else "nothing has a similar name;"
        super().__init__(f"Unknown task {name!r}: {hint} `envs.tasks()` lists all names.")


def tasks() -> list[str]:
    """Returns the names of all tasks, sorted."""
    return sorted(_TASKS)


def make(name: str, **options: Unpack[PhysicsOptions]) -> Env:
    """Builds a task.

    Args:
        name: one of `tasks()`.
        **options: how to simulate it, such as `impl="warp"`; instead of what was measured for
            the task, see `envs.limits`.

    Raises:
        UnknownTaskError: if there is no such task.
        UnsupportedModelError: if the backend cannot simulate the task's model.
        ModuleNotFoundError: if impl=warp is asked for and not installed.
    """
    if name not in _TASKS:
        raise UnknownTaskError(name, _TASKS)
    return _TASKS[name](**{**limits_of(name), **options})
