"""The solver limits and warp's buffer sizes of each task.

Solver limits should be the smallest that move nothing: MJX's solver waits for the slowest
simulation of a batch, and its line search always takes the time of its limit.
`python -m envs.devtools.tune TASK` measures the limits and the buffer sizes, and benchmarks/solver
has its evidence. Warp guesses a buffer size where none is given.

Three exceptions. The quadruped and the manipulator have more iterations than were measured: parity
over 2,000 states found some that needed them. Models without constraints use 8 and 12. The limits
and buffers of stacker and humanoid_CMU are not measured but generous.
"""

from __future__ import annotations

from .options import PhysicsOptions

# By the beginning of the task's name; the longest that fits counts.
_LIMITS: dict[str, PhysicsOptions] = {
    "dmc/acrobot": PhysicsOptions(contacts=8, constraints=8),  # nothing to solve
    "dmc/ball_in_cup": PhysicsOptions(iterations=5, ls_iterations=4, contacts=8, constraints=24),
    "dmc/cartpole": PhysicsOptions(iterations=8, ls_iterations=12, contacts=8, constraints=8),
    "dmc/cheetah": PhysicsOptions(iterations=8, ls_iterations=4, contacts=8, constraints=32),
    # MJX lacks colliders.
    "dmc/dog": PhysicsOptions(
        impl="warp", iterations=20, ls_iterations=6, contacts=120, constraints=600
    ),
    "dmc/finger": PhysicsOptions(iterations=4, ls_iterations=6, contacts=8, constraints=16),
    "dmc/fish": PhysicsOptions(contacts=8, constraints=8),  # nothing to solve
    "dmc/hopper": PhysicsOptions(iterations=6, ls_iterations=4, contacts=16, constraints=40),
    "dmc/humanoid": PhysicsOptions(iterations=12, ls_iterations=6, contacts=48, constraints=56),
    # MJX would hold 4,684 rows of constraints of each simulation.
    "dmc/humanoid_CMU": PhysicsOptions(
        impl="warp", iterations=30, ls_iterations=20, contacts=200, constraints=600
    ),
    "dmc/manipulator": PhysicsOptions(iterations=10, ls_iterations=12, contacts=16, constraints=40),
    "dmc/pendulum": PhysicsOptions(contacts=8, constraints=8),  # nothing to solve
    "dmc/point_mass": PhysicsOptions(iterations=8, ls_iterations=12, contacts=8, constraints=8),
    "dmc/quadruped": PhysicsOptions(iterations=12, ls_iterations=6, contacts=24, constraints=32),
    "dmc/reacher": PhysicsOptions(iterations=2, ls_iterations=4, contacts=8, constraints=8),
    # MJX's contacts of boxes are others than C MuJoCo's: after a step velocities are off by up to
    # 14 rad/s.
    "dmc/stacker": PhysicsOptions(
        impl="warp", iterations=20, ls_iterations=20, contacts=40, constraints=120
    ),
    "dmc/swimmer_swimmer15": PhysicsOptions(
        iterations=3, ls_iterations=4, contacts=8, constraints=16
    ),
    "dmc/swimmer_swimmer6": PhysicsOptions(
        iterations=3, ls_iterations=4, contacts=8, constraints=8
    ),
    "dmc/walker": PhysicsOptions(iterations=10, ls_iterations=6, contacts=16, constraints=40),
    "gym/Ant": PhysicsOptions(iterations=8, ls_iterations=4, contacts=16, constraints=40),
    "gym/HalfCheetah": PhysicsOptions(iterations=5, ls_iterations=4, contacts=16, constraints=32),
    "gym/Hopper": PhysicsOptions(iterations=5, ls_iterations=4, contacts=16, constraints=32),
    "gym/Humanoid": PhysicsOptions(iterations=10, ls_iterations=6, contacts=32, constraints=56),
    "gym/InvertedDoublePendulum": PhysicsOptions(
        iterations=3, ls_iterations=4, contacts=8, constraints=8
    ),
    "gym/InvertedPendulum": PhysicsOptions(
        iterations=3, ls_iterations=4, contacts=8, constraints=8
    ),
    "gym/Pusher": PhysicsOptions(iterations=4, ls_iterations=4, contacts=16, constraints=16),
    "gym/Reacher": PhysicsOptions(iterations=3, ls_iterations=4, contacts=8, constraints=8),
    "gym/Swimmer": PhysicsOptions(iterations=3, ls_iterations=4, contacts=8, constraints=8),
    "gym/Walker2d": PhysicsOptions(iterations=6, ls_iterations=6, contacts=16, constraints=40),
}


def limits_of(name: str) -> PhysicsOptions:
    """Returns the options of a task; what has none is left to the defaults of `Physics`."""
    known = [prefix for prefix in _LIMITS if name.startswith(prefix)]
    return _LIMITS[max(known, key=len)] if known else PhysicsOptions()


def backends(name: str) -> tuple[str, ...]:
    """Returns the values of `impl` that can simulate a task as the original does: warp can all of
    ours, and jax those for which `_LIMITS` does not name another."""
    only = limits_of(name).get("impl")
    return (only,) if only else ("jax", "warp")
