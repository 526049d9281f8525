"""What each task's physics needs.

Solver limits should be the smallest that move nothing: MJX's solver waits for the slowest
simulation of a batch, and its line search always takes the time of its limit. `python -m envs.tune
TASK` measures them, and the sizes of warp's buffers, which are its own guess where none is given;
benchmarks/solver has its evidence. Where there is none, 8 and 12 are used, or 12 and 12 for the
dog, for which C MuJoCo takes 12, and for the quadruped, which 8 iterations leave wrong in one of
2,000 steps.
"""

from __future__ import annotations

from envs.physics import PhysicsOptions

# By the beginning of the task's name; the longest that fits counts.
_LIMITS: dict[str, PhysicsOptions] = {
    "dmc/acrobot": PhysicsOptions(contacts=8, constraints=8),  # nothing to solve
    "dmc/ball_in_cup": PhysicsOptions(iterations=5, ls_iterations=4, contacts=8, constraints=24),
    "dmc/cartpole": PhysicsOptions(iterations=8, ls_iterations=12, contacts=8, constraints=8),
    "dmc/cheetah": PhysicsOptions(iterations=8, ls_iterations=4, contacts=8, constraints=32),
    # MJX lacks colliders. Seen at most: 79 contacts and 214 constraints.
    "dmc/dog": PhysicsOptions(
        impl="warp", iterations=12, ls_iterations=12, contacts=160, constraints=400
    ),
    "dmc/finger": PhysicsOptions(iterations=4, ls_iterations=6, contacts=8, constraints=16),
    "dmc/fish": PhysicsOptions(contacts=8, constraints=8),  # nothing to solve
    "dmc/hopper": PhysicsOptions(iterations=6, ls_iterations=4, contacts=16, constraints=40),
    "dmc/humanoid": PhysicsOptions(iterations=12, ls_iterations=6, contacts=48, constraints=56),
    "dmc/manipulator": PhysicsOptions(iterations=8, ls_iterations=12),
    "dmc/pendulum": PhysicsOptions(contacts=8, constraints=8),  # nothing to solve
    "dmc/point_mass": PhysicsOptions(iterations=8, ls_iterations=12, contacts=8, constraints=8),
    "dmc/quadruped": PhysicsOptions(iterations=12, ls_iterations=12),
    "dmc/reacher": PhysicsOptions(iterations=2, ls_iterations=4, contacts=8, constraints=8),
    "dmc/stacker": PhysicsOptions(iterations=8, ls_iterations=12),
    "dmc/swimmer": PhysicsOptions(iterations=8, ls_iterations=12),
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
    "gym/Pusher": PhysicsOptions(iterations=8, ls_iterations=12),
    "gym/Reacher": PhysicsOptions(iterations=3, ls_iterations=4, contacts=8, constraints=8),
    "gym/Swimmer": PhysicsOptions(iterations=3, ls_iterations=4, contacts=8, constraints=8),
    "gym/Walker2d": PhysicsOptions(iterations=6, ls_iterations=6, contacts=16, constraints=40),
}


def limits_of(name: str) -> PhysicsOptions:
    """Returns the options of a task; what has none is left to the defaults of `Physics`."""
    known = [prefix for prefix in _LIMITS if name.startswith(prefix)]
    return _LIMITS[max(known, key=len)] if known else PhysicsOptions()


def backends(name: str) -> tuple[str, ...]:
    """Returns the values of `impl` that can simulate a task: all of our models load on warp, and
    on jax all for which `_LIMITS` does not name another."""
    only = limits_of(name).get("impl")
    return (only,) if only else ("jax", "warp")
