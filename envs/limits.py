"""What each task's physics needs, as `python -m envs.tune` found it.

Solver limits are the smallest that move nothing: MJX's solver waits for the slowest simulation of
a batch, and its line search always takes the time of its limit. Buffers hold what was seen at
most, and half as much again. The evidence is in benchmarks/solver/.
"""

from __future__ import annotations

from envs.physics import PhysicsOptions

# By the beginning of the task's name; the longest that fits counts.
_LIMITS: dict[str, PhysicsOptions] = {
    "dmc/acrobot": PhysicsOptions(iterations=8, ls_iterations=12),
    "dmc/ball_in_cup": PhysicsOptions(iterations=8, ls_iterations=12),
    "dmc/cartpole": PhysicsOptions(iterations=8, ls_iterations=12),
    "dmc/cheetah": PhysicsOptions(iterations=8, ls_iterations=12),
    "dmc/dog": PhysicsOptions(impl="warp", iterations=12, ls_iterations=12),  # MJX lacks colliders
    "dmc/finger": PhysicsOptions(iterations=8, ls_iterations=12),
    "dmc/fish": PhysicsOptions(iterations=8, ls_iterations=12),
    "dmc/hopper": PhysicsOptions(iterations=8, ls_iterations=12),
    "dmc/humanoid": PhysicsOptions(iterations=8, ls_iterations=12),
    "dmc/manipulator": PhysicsOptions(iterations=8, ls_iterations=12),
    "dmc/pendulum": PhysicsOptions(iterations=8, ls_iterations=12),
    "dmc/point_mass": PhysicsOptions(iterations=8, ls_iterations=12),
    "dmc/quadruped": PhysicsOptions(iterations=8, ls_iterations=12),
    "dmc/reacher": PhysicsOptions(iterations=8, ls_iterations=12),
    "dmc/stacker": PhysicsOptions(iterations=8, ls_iterations=12),
    "dmc/swimmer": PhysicsOptions(iterations=8, ls_iterations=12),
    "dmc/walker": PhysicsOptions(iterations=8, ls_iterations=12),
    "gym/Ant": PhysicsOptions(iterations=8, ls_iterations=12),
    "gym/HalfCheetah": PhysicsOptions(iterations=8, ls_iterations=12),
    "gym/Hopper": PhysicsOptions(iterations=8, ls_iterations=12),
    "gym/Humanoid": PhysicsOptions(iterations=8, ls_iterations=12),
    "gym/InvertedDoublePendulum": PhysicsOptions(iterations=8, ls_iterations=12),
    "gym/InvertedPendulum": PhysicsOptions(iterations=8, ls_iterations=12),
    "gym/Pusher": PhysicsOptions(iterations=8, ls_iterations=12),
    "gym/Reacher": PhysicsOptions(iterations=8, ls_iterations=12),
    "gym/Swimmer": PhysicsOptions(iterations=8, ls_iterations=12),
    "gym/Walker2d": PhysicsOptions(iterations=8, ls_iterations=12),
}


def limits_of(name: str) -> PhysicsOptions:
    """Returns what was measured for a task; what was not is left to the defaults of `Physics`."""
    known = [prefix for prefix in _LIMITS if name.startswith(prefix)]
    return _LIMITS[max(known, key=len)] if known else PhysicsOptions()
