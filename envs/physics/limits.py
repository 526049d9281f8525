"""The solver limits and warp's buffer sizes of each task.

Solver limits should be the smallest that do not change the motion: MJX's solver waits for the
slowest simulation of a batch, and its line search always takes the time of its limit.
`python -m envs.devtools.tune TASK` measures the limits and the buffer sizes, and benchmarks/solver
has its evidence. Warp guesses a buffer size if none is given.

There are three exceptions. The quadruped and the manipulator have more iterations than measured,
because some of 2,000 states in the parity test need them. Models without constraints use 8 and 12.
The limits and buffers of stacker and humanoid_CMU, and the buffers of manipulator_bring_peg, are
not measured but generous: bring_peg had at most 9 contacts and 28 constraints in 3,750 steps on C
MuJoCo.
"""

from __future__ import annotations

from typing import Unpack

from .options import PhysicsOptions


def _alike(domain: str, tasks: str, **options: Unpack[PhysicsOptions]) -> dict[str, PhysicsOptions]:
    """Returns the same options for each of the tasks, which are separated by spaces."""
    return {f"{domain}{task}": options for task in tasks.split()}


_LIMITS: dict[str, PhysicsOptions] = {
    # nothing to solve
    **_alike("dmc/acrobot_", "swingup swingup_sparse", contacts=8, constraints=8),
    **_alike(
        "dmc/ball_in_cup_", "catch", iterations=5, ls_iterations=4, contacts=8, constraints=24
    ),
    **_alike(
        "dmc/cartpole_",
        "balance balance_sparse swingup swingup_sparse three_poles two_poles",
        iterations=8,
        ls_iterations=12,
        contacts=8,
        constraints=8,
    ),
    **_alike("dmc/cheetah_", "run", iterations=8, ls_iterations=4, contacts=8, constraints=32),
    # impl=jax lacks colliders for some of its pairs of geoms.
    **_alike(
        "dmc/dog_",
        "fetch run stand trot walk",
        impl="warp",
        iterations=20,
        ls_iterations=6,
        contacts=120,
        constraints=600,
    ),
    **_alike(
        "dmc/finger_",
        "spin turn_easy turn_hard",
        iterations=4,
        ls_iterations=6,
        contacts=8,
        constraints=16,
    ),
    # nothing to solve
    **_alike("dmc/fish_", "swim upright", contacts=8, constraints=8),
    **_alike(
        "dmc/hopper_", "hop stand", iterations=6, ls_iterations=4, contacts=16, constraints=40
    ),
    **_alike(
        "dmc/humanoid_",
        "run run_pure_state stand walk",
        iterations=12,
        ls_iterations=6,
        contacts=48,
        constraints=56,
    ),
    # impl=jax would hold 4,684 rows of constraints for each simulation.
    **_alike(
        "dmc/humanoid_CMU_",
        "run stand walk",
        impl="warp",
        iterations=30,
        ls_iterations=20,
        contacts=200,
        constraints=600,
    ),
    **_alike(
        "dmc/manipulator_",
        "bring_ball",
        iterations=10,
        ls_iterations=12,
        contacts=16,
        constraints=40,
    ),
    **_alike(
        "dmc/manipulator_",
        "bring_peg",
        iterations=10,
        ls_iterations=12,
        contacts=24,
        constraints=56,
    ),
    # nothing to solve
    **_alike("dmc/pendulum_", "swingup", contacts=8, constraints=8),
    **_alike(
        "dmc/point_mass_", "easy hard", iterations=8, ls_iterations=12, contacts=8, constraints=8
    ),
    **_alike(
        "dmc/quadruped_",
        "fetch run walk",
        iterations=12,
        ls_iterations=6,
        contacts=24,
        constraints=32,
    ),
    **_alike("dmc/reacher_", "easy hard", iterations=2, ls_iterations=4, contacts=8, constraints=8),
    # impl=jax finds other contact points between boxes than C MuJoCo does. Velocities differ by up
    # to 14 rad/s after a step.
    **_alike(
        "dmc/stacker_",
        "stack_2 stack_4",
        impl="warp",
        iterations=20,
        ls_iterations=20,
        contacts=40,
        constraints=120,
    ),
    **_alike(
        "dmc/swimmer_", "swimmer15", iterations=3, ls_iterations=4, contacts=8, constraints=16
    ),
    **_alike("dmc/swimmer_", "swimmer6", iterations=3, ls_iterations=4, contacts=8, constraints=8),
    **_alike(
        "dmc/walker_", "run stand walk", iterations=10, ls_iterations=6, contacts=16, constraints=40
    ),
    **_alike("gym/Ant-", "v4 v5", iterations=8, ls_iterations=4, contacts=16, constraints=40),
    **_alike(
        "gym/HalfCheetah-", "v4 v5", iterations=5, ls_iterations=4, contacts=16, constraints=32
    ),
    **_alike("gym/Hopper-", "v4 v5", iterations=5, ls_iterations=4, contacts=16, constraints=32),
    **_alike("gym/Humanoid-", "v4 v5", iterations=10, ls_iterations=6, contacts=32, constraints=56),
    **_alike(
        "gym/HumanoidStandup-", "v4 v5", iterations=10, ls_iterations=6, contacts=32, constraints=56
    ),
    **_alike(
        "gym/InvertedDoublePendulum-",
        "v4 v5",
        iterations=3,
        ls_iterations=4,
        contacts=8,
        constraints=8,
    ),
    **_alike(
        "gym/InvertedPendulum-", "v4 v5", iterations=3, ls_iterations=4, contacts=8, constraints=8
    ),
    **_alike("gym/Pusher-", "v5", iterations=4, ls_iterations=4, contacts=16, constraints=16),
    **_alike("gym/Reacher-", "v4 v5", iterations=3, ls_iterations=4, contacts=8, constraints=8),
    **_alike("gym/Swimmer-", "v4 v5", iterations=3, ls_iterations=4, contacts=8, constraints=8),
    **_alike("gym/Walker2d-", "v4 v5", iterations=6, ls_iterations=6, contacts=16, constraints=40),
}
"""By the exact names of the built-in tasks, so that a registered task with a longer name has none
of them."""


def limits_of(name: str) -> PhysicsOptions:
    """Returns the options of a built-in task, and empty ones for any other task."""
    return _LIMITS.get(name, PhysicsOptions())


def backends(name: str) -> tuple[str, ...]:
    """Returns the values of `impl` that simulate a task as the original does: all that `_LIMITS`
    allows."""
    only = limits_of(name).get("impl")
    return (only,) if only else ("jax", "warp")
