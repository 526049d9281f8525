"""Tasks by name: `make("dmc/cartpole_swingup")`."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterable
from typing import Unpack

from . import playground
from .base import Env
from .dmc.acrobot import Acrobot
from .dmc.ball_in_cup import BallInCupCatch
from .dmc.cartpole import Cartpole
from .dmc.cheetah import CheetahRun
from .dmc.dog import DogFetch, DogMove
from .dmc.finger import FingerSpin, FingerTurn
from .dmc.fish import FishSwim, FishUpright
from .dmc.hopper import Hopper as DmcHopper
from .dmc.humanoid import Humanoid as DmcHumanoid
from .dmc.humanoid_cmu import HumanoidCMU
from .dmc.manipulator import ManipulatorBring
from .dmc.pendulum import PendulumSwingup
from .dmc.point_mass import PointMass
from .dmc.quadruped import QuadrupedFetch, QuadrupedMove
from .dmc.reacher import Reacher as DmcReacher
from .dmc.stacker import Stacker
from .dmc.swimmer import Swimmer as DmcSwimmer
from .dmc.walker import Walker
from .gym.ant import Ant
from .gym.half_cheetah import HalfCheetah
from .gym.hopper import Hopper
from .gym.humanoid import Humanoid
from .gym.humanoid_standup import HumanoidStandup
from .gym.inverted_double_pendulum import InvertedDoublePendulum
from .gym.inverted_pendulum import InvertedPendulum
from .gym.pusher import Pusher
from .gym.reacher import Reacher
from .gym.swimmer import Swimmer
from .gym.walker2d import Walker2d
from .physics.limits import limits_of
from .physics.options import PhysicsOptions, UnsupportedModelError
from .playground import PREFIX

_TASKS: dict[str, Callable[..., Env]] = {
    "dmc/acrobot_swingup": functools.partial(Acrobot, sparse=False),
    "dmc/acrobot_swingup_sparse": functools.partial(Acrobot, sparse=True),
    "dmc/ball_in_cup_catch": BallInCupCatch,
    "dmc/cartpole_balance": functools.partial(Cartpole, swing_up=False, sparse=False),
    "dmc/cartpole_balance_sparse": functools.partial(Cartpole, swing_up=False, sparse=True),
    "dmc/cartpole_swingup": functools.partial(Cartpole, swing_up=True, sparse=False),
    "dmc/cartpole_swingup_sparse": functools.partial(Cartpole, swing_up=True, sparse=True),
    "dmc/cartpole_three_poles": functools.partial(Cartpole, swing_up=True, sparse=False, poles=3),
    "dmc/cartpole_two_poles": functools.partial(Cartpole, swing_up=True, sparse=False, poles=2),
    "dmc/cheetah_run": CheetahRun,
    "dmc/dog_fetch": DogFetch,
    "dmc/dog_run": functools.partial(DogMove, "run"),
    "dmc/dog_stand": functools.partial(DogMove, "stand"),
    "dmc/dog_trot": functools.partial(DogMove, "trot"),
    "dmc/dog_walk": functools.partial(DogMove, "walk"),
    "dmc/finger_spin": FingerSpin,
    "dmc/finger_turn_easy": functools.partial(FingerTurn, hard=False),
    "dmc/finger_turn_hard": functools.partial(FingerTurn, hard=True),
    "dmc/fish_swim": FishSwim,
    "dmc/fish_upright": FishUpright,
    "dmc/pendulum_swingup": PendulumSwingup,
    "dmc/point_mass_easy": functools.partial(PointMass, hard=False),
    "dmc/point_mass_hard": functools.partial(PointMass, hard=True),
    "dmc/reacher_easy": functools.partial(DmcReacher, hard=False),
    "dmc/reacher_hard": functools.partial(DmcReacher, hard=True),
    "dmc/swimmer_swimmer15": functools.partial(DmcSwimmer, 15),
    "dmc/swimmer_swimmer6": functools.partial(DmcSwimmer, 6),
    "dmc/hopper_hop": functools.partial(DmcHopper, "hop"),
    "dmc/hopper_stand": functools.partial(DmcHopper, "stand"),
    "dmc/humanoid_CMU_run": functools.partial(HumanoidCMU, "run"),
    "dmc/humanoid_CMU_stand": functools.partial(HumanoidCMU, "stand"),
    "dmc/humanoid_CMU_walk": functools.partial(HumanoidCMU, "walk"),
    "dmc/humanoid_run": functools.partial(DmcHumanoid, "run"),
    "dmc/humanoid_run_pure_state": functools.partial(DmcHumanoid, "run_pure_state"),
    "dmc/humanoid_stand": functools.partial(DmcHumanoid, "stand"),
    "dmc/humanoid_walk": functools.partial(DmcHumanoid, "walk"),
    "dmc/manipulator_bring_ball": functools.partial(ManipulatorBring, "ball"),
    "dmc/manipulator_bring_peg": functools.partial(ManipulatorBring, "peg"),
    "dmc/quadruped_fetch": QuadrupedFetch,
    "dmc/quadruped_run": functools.partial(QuadrupedMove, "run"),
    "dmc/quadruped_walk": functools.partial(QuadrupedMove, "walk"),
    "dmc/stacker_stack_2": functools.partial(Stacker, 2),
    "dmc/stacker_stack_4": functools.partial(Stacker, 4),
    "dmc/walker_run": functools.partial(Walker, "run"),
    "dmc/walker_stand": functools.partial(Walker, "stand"),
    "dmc/walker_walk": functools.partial(Walker, "walk"),
    "gym/Ant-v4": functools.partial(Ant, 4),
    "gym/Ant-v5": functools.partial(Ant, 5),
    "gym/HalfCheetah-v4": functools.partial(HalfCheetah, 4),
    "gym/HalfCheetah-v5": functools.partial(HalfCheetah, 5),
    "gym/Hopper-v4": functools.partial(Hopper, 4),
    "gym/Hopper-v5": functools.partial(Hopper, 5),
    "gym/Humanoid-v4": functools.partial(Humanoid, 4),
    "gym/Humanoid-v5": functools.partial(Humanoid, 5),
    "gym/HumanoidStandup-v4": functools.partial(HumanoidStandup, 4),
    "gym/HumanoidStandup-v5": functools.partial(HumanoidStandup, 5),
    "gym/InvertedDoublePendulum-v4": functools.partial(InvertedDoublePendulum, 4),
    "gym/InvertedDoublePendulum-v5": functools.partial(InvertedDoublePendulum, 5),
    "gym/InvertedPendulum-v4": functools.partial(InvertedPendulum, 4),
    "gym/InvertedPendulum-v5": functools.partial(InvertedPendulum, 5),
    "gym/Pusher-v5": Pusher,
    "gym/Reacher-v4": functools.partial(Reacher, 4),
    "gym/Reacher-v5": functools.partial(Reacher, 5),
    "gym/Swimmer-v4": functools.partial(Swimmer, 4),
    "gym/Swimmer-v5": functools.partial(Swimmer, 5),
    "gym/Walker2d-v4": functools.partial(Walker2d, 4),
    "gym/Walker2d-v5": functools.partial(Walker2d, 5),
}
"""The built-in tasks, and those that `register` adds."""

_BUILT_IN = frozenset(_TASKS)

_INSERT = (
    "each of its episodes places the receptacle, which the prop and the arm touch, anew in the "
    "model, and all simulations share one model here"
)

_CANNOT = {
    "dmc/quadruped_escape": "each of its episodes has a terrain of its own. MJX-Warp holds one for "
    "all simulations, and MJX collides no terrain with the ellipsoid and the cylinders of this "
    "body, and lets no rangefinder see it",
    "dmc/manipulator_insert_ball": _INSERT,
    "dmc/manipulator_insert_peg": _INSERT,
    "dmc/lqr_lqr_2_1": "its model is drawn at random when it is built",
    "dmc/lqr_lqr_6_2": "its model is drawn at random when it is built",
}
"""The originals that no backend can simulate, and why."""


class UnknownTaskError(ValueError):
    """No task has the name that was asked for."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        """name: the requested name; known: the names that exist."""
        close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else "nothing has a similar name;"
        super().__init__(f"Unknown task {name!r}: {hint} `envs.tasks()` lists all names.")


class NoOriginalError(UnknownTaskError):
    """The task exists on MJX alone."""

    def __init__(self, name: str) -> None:
        ValueError.__init__(
            self, f"{name} has no original outside of MJX: it can be scored in MJX alone."
        )


def cannot() -> dict[str, str]:
    """Returns the tasks of the originals that are not here, and why."""
    return {name: why for name, why in _CANNOT.items() if name not in _TASKS}


def tasks() -> list[str]:
    """Returns the names of all tasks, sorted."""
    return sorted(_TASKS)


def _playground(name: str, **options: Unpack[PhysicsOptions]) -> Env:
    known = playground.names()
    if known and name not in known:
        raise UnknownTaskError(name, known)
    return playground.PlaygroundEnv(name.removeprefix(PREFIX), **options)


def register(name: str, factory: Callable[..., Env]) -> None:
    """Adds a task to `tasks` and `make`.

    Args:
        name: "<family>/<task>", which no other task has.
        factory: what `make` calls, with its options.

    Raises:
        ValueError: if the name is taken, has no family, or has that of Playground.
    """
    family, _, task = name.partition("/")
    if not family or not task:
        raise ValueError(f"{name!r} is no task name: write <family>/<task>, such as mine/puck.")
    if name.startswith(PREFIX):
        raise ValueError(
            f"{name} cannot be registered, because {PREFIX} is kept for the tasks of MuJoCo "
            f"Playground: choose another family, such as mine/{task}."
        )
    if name in _TASKS:
        raise ValueError(f"There is a task {name!r} already: choose another name.")
    _TASKS[name] = factory


def has_original(name: str) -> bool:
    """Whether `make_real` builds the original of a task: true for built-in tasks and for originals
    without a port, false for registered tasks."""
    return name in _BUILT_IN or name in cannot()


def make(name: str, **options: Unpack[PhysicsOptions]) -> Env:
    """Builds a task.

    Args:
        name: one of `tasks()`, or of `envs.playground.names()`.
        **options: how to simulate it, such as `impl="warp"`. They replace the measured options of
            the task in `envs.physics.limits`.

    Raises:
        UnknownTaskError: if there is no such task.
        UnsupportedModelError: if the backend, or any backend, cannot simulate the task's model, or
            lacks an option.
        ModuleNotFoundError: if impl=warp, or a task of Playground, is asked for and not installed.
    """
    if name.startswith(PREFIX):
        return _playground(name, **options)
    if name in cannot():
        raise UnsupportedModelError(
            f"{name} cannot be simulated by MJX: {_CANNOT[name]}. "
            "`envs.make_real` builds the original."
        )
    if name not in _TASKS:
        raise UnknownTaskError(name, _TASKS)
    return _TASKS[name](**{**limits_of(name), **options})
