"""Tests whether rounding explains a port's errors.

A difference in the last digit of float32 can become large within a step: two bodies touch in this
physics step or in the next one, a contact is stiff, or a pole stands on its tip. No port in float32
can avoid this. So if an error is beyond the tolerance, three tests follow.

1. MJX repeats the step in float64. Rounding explains the error if qpos and qvel are then within
   `EXACT` of the original's, and the task on C MuJoCo is right. Digits are also lost within a step,
   where a force is a stiffness times a small difference of large accelerations.
2. C MuJoCo repeats the step in float64 from twins of its start, which are moved by a few last
   digits of float32. The largest distance of the twins to the start's own result is the effect of
   rounding. Rounding explains an error of at most `FACTOR` times this distance. A fault of the task
   does not pass this test, because the twins have the same fault.
3. The original repeats the step from the same start, but its iterative searches end elsewhere. The
   distance to its own result counts like that of a twin.

Runs of many steps have the first two tests, with `EXACT_RUN` in place of `EXACT`.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from mujoco import mjx

from ...base import State
from ...originals import RealEnv
from ...physics.backend import Physics
from ...physics.fixes.collision import corrected_colliders
from ...physics.options import COMPILER_OPTIONS
from .compare import Runs, errors, values_of
from .on_c import searching_otherwise
from .original import Steps
from .port import BATCH, Port

ULPS = 10.0
"""Largest move of a twin, in units of float32's epsilon; the smallest is 1. It is more than 1
because a port rounds in each operation of a step, and its twins on C MuJoCo only at their
starts."""
TURNS = 5
"""Batches of twins of a step. A run has one batch, which is moved before each step."""
FACTOR = 2.0
"""Largest explained error, relative to the largest distance of a twin. It is more than 1 because
the twins are only a sample of the effects of rounding."""
MOST = 100
"""Steps of a task that are tested. Further steps beyond its tolerance count as not explained."""
JUDGED = ("obs", "reward")
EXACT = 1e-5
"""Largest relative error of qpos and qvel after a step in float64, from the tolerances of the
solvers. A fault would be as large as the error in question, 1e-3."""
EXACT_RUN = 1e-4
"""The same at any time in a run of many steps, where these errors add up."""


def one_step(
    twins: Port,
    real: RealEnv,
    seen: Steps,
    found: dict[str, np.ndarray],
    scale: dict[str, np.ndarray],
    limit: float,
) -> dict[str, int]:
    """Tests the steps in which the error of observation or reward is above `limit`.

    Args:
        twins: the port on C MuJoCo, see `envs.devtools.parity.on_c`.
        real: the original, with the settings that it was recorded with.
        seen: the steps, (n, ...).
        found: their `errors`, (n,) each.
        scale: the units of these errors.
        limit: the largest error that needs no explanation.

    Returns:
        beyond: number of steps beyond the limit.
        explained: number of these steps that rounding explains.
        exact: number of the explained steps in which MJX is right in float64.
    """
    rng = np.random.default_rng(0)

    def spread(row: int) -> dict[str, float]:
        rows = seen.take(np.full(BATCH, row))
        start, action = twins.at(rows), jnp.asarray(rows.action)
        plain = jax.device_get(twins.step(start, action))
        moved = [jax.device_get(twins.step(_moved(start, rng), action)) for _ in range(TURNS)]
        return _largest(_apart(plain, twin, scale) for twin in moved)

    beyond = _beyond(found, limit)
    looked_into = beyond[:MOST]
    exact = np.zeros(len(looked_into), bool)
    if len(looked_into):
        rows = seen.take(looked_into)
        right, always = _right(twins, rows, scale, limit), np.ones((1, len(rows)), bool)
        exact = exact_in_float64(twins.env.physics, [rows], always, right, scale, EXACT)
    explained = exact.copy()
    for i in np.flatnonzero(~exact):
        row = looked_into[i]
        explained[i] = _within(spread(row), found, row, limit) or _within(
            from_itself(real, seen.take(looked_into[i : i + 1]), scale, limit), found, row, limit
        )
    return {
        "beyond": len(beyond),
        "explained": int(explained.sum()),
        "exact": int(exact.sum()),
    }


def open_loop(
    twins: Port,
    runs: Runs,
    found: dict[str, np.ndarray],
    scale: dict[str, np.ndarray],
    limit: float,
) -> dict[str, int]:
    """Tests runs of many steps like `one_step`. Their twins are moved before each step.

    Args are those of `one_step`, with the largest errors of each run, (BATCH,) by quantity. Returns
    beyond and explained.
    """
    rng = np.random.default_rng(0)

    def spread(run: int) -> dict[str, float]:
        columns = [column.take(np.full(BATCH, run)) for column in runs.columns]
        plain = moved = twins.at(columns[0])
        apart = []
        for column, under_way in zip(columns, runs.under_way[:, run], strict=True):
            if under_way:
                action = jnp.asarray(column.action)
                plain, moved = twins.step(plain, action), twins.step(_moved(moved, rng), action)
                apart.append(_apart(jax.device_get(plain), jax.device_get(moved), scale))
        return _largest(apart)

    beyond = _beyond(found, limit)
    explained = np.array([_within(spread(run), found, run, limit) for run in beyond], bool)
    rest = beyond[~explained]
    if len(rest):
        # The task on C MuJoCo must be right in every step from the original's states.
        right = np.ones(len(rest), bool)
        for column, under_way in zip(runs.columns, runs.under_way, strict=True):
            right &= _right(twins, column.take(rest), scale, limit) | ~under_way[rest]
        columns = [column.take(rest) for column in runs.columns]
        explained[~explained] = exact_in_float64(
            twins.env.physics, columns, runs.under_way[:, rest], right, scale, EXACT_RUN
        )
    return {"beyond": len(beyond), "explained": int(explained.sum())}


def from_itself(
    real: RealEnv, seen: Steps, scale: dict[str, np.ndarray], limit: float
) -> dict[str, float]:
    """Returns the distance of the original to itself if its searches end elsewhere.

    Args:
        real: the original, with the settings that it was recorded with.
        seen: the step, (1, ...).
        scale: the units of relative errors.
        limit: largest distance to the recorded step when the original repeats it.

    Returns:
        The largest relative difference of observation and reward. 0 if the original does not repeat
        the recorded step, because its task stores more than the physics.
    """

    def again() -> dict[str, np.ndarray]:
        real.set_state(seen.qpos[0], seen.qvel[0], seen.act[0])
        real.data.qacc_warmstart[:] = seen.warmstart[0]
        obs, reward, *_ = real.step(seen.action[0])
        return {"obs": obs, "reward": np.asarray(reward)}

    def apart(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> dict[str, float]:
        return {x: float(np.max(np.abs(ours[x] - theirs[x]) / scale[x])) for x in JUDGED}

    same = again()
    with searching_otherwise(real.model):
        other = again()
    recorded = {"obs": seen.next_obs[0], "reward": seen.reward[0]}
    put_back = max(apart(same, recorded).values()) <= limit
    return apart(other, same) if put_back else dict.fromkeys(JUDGED, 0.0)


def exact_in_float64(
    physics: Physics,
    columns: Sequence[Steps],
    under_way: np.ndarray,
    asked: np.ndarray,
    scale: dict[str, np.ndarray],
    limit: float,
) -> np.ndarray:
    """Returns whether MJX in float64 follows the original, (n,) bool.

    Args:
        physics: the port's. If its controls are not the actions, no step is exact. With impl=warp,
            which has no float64, all are False.
        columns: the first steps of n runs, their second steps, and so on; (n, ...) each.
        under_way: (steps, n) bool, False after the original's episode has ended.
        asked: (n,) bool, the runs to test; the result is False for the others.
        scale: the units of relative errors.
        limit: the largest error of qpos and qvel, at any time.
    """
    exact = asked & (physics.impl == "jax")
    if not exact.any():
        return exact
    # The model has the port's own solver limits, because their effect is not rounding.
    model = physics.model
    carried = ("qpos", "qvel", "act", "qacc_warmstart")
    # Only this thread traces in float64.
    with _float64(), corrected_colliders():
        mjx_model, template = mjx.put_model(model, impl="jax"), mjx.make_data(model, impl="jax")

        def step(ctrl: Any, *start: Any) -> Any:
            def substep(state: Any, _: None) -> tuple[Any, None]:
                data = template.replace(ctrl=ctrl, **dict(zip(carried, state, strict=True)))
                data = mjx.step(mjx_model, data)
                return tuple(getattr(data, name) for name in carried), None

            return jax.lax.scan(substep, start, None, physics.substeps)[0]

        step = jax.jit(step, compiler_options=COMPILER_OPTIONS)
        for run in np.flatnonzero(exact):
            first = columns[0]
            state = tuple(
                jnp.asarray(getattr(first, name)[run], jnp.float64)
                for name in ("qpos", "qvel", "act", "warmstart")
            )
            for column, counts in zip(columns, under_way[:, run], strict=True):
                state = step(jnp.asarray(column.action[run], jnp.float64), *state)
                for i, what in enumerate(("qpos", "qvel")):
                    error = np.abs(state[i] - getattr(column, f"next_{what}")[run]) / scale[what]
                    exact[run] &= not counts or bool(error.max() <= limit)
    return exact


@contextlib.contextmanager
def _float64() -> Iterator[None]:
    """Enables float64 inside, and clears JAX's caches before and after.

    JAX traces its own small functions, such as `tril`, once for both precisions. MJX's Runge-Kutta
    step fails with the wrong one.
    """
    jax.clear_caches()
    try:
        with jax.enable_x64(True):
            yield
    finally:
        jax.clear_caches()


def _right(twins: Port, seen: Steps, scale: dict[str, np.ndarray], limit: float) -> np.ndarray:
    """Returns the steps in which the task on C MuJoCo is right, (n,) bool."""
    found = errors(twins.one_step(seen), seen, scale)
    return np.max([found[what] for what in JUDGED], axis=0) <= limit


def _beyond(found: dict[str, np.ndarray], limit: float) -> np.ndarray:
    return np.flatnonzero(np.max([found[what] for what in JUDGED], axis=0) > limit)


def _within(apart: dict[str, float], found: dict[str, np.ndarray], row: int, limit: float) -> bool:
    return all(found[what][row] <= max(limit, FACTOR * apart[what]) for what in JUDGED)


def _moved(state: State, rng: np.random.Generator) -> State:
    """Returns a batch with qpos, qvel and act moved by 1 to `ULPS` times float32's epsilon.

    The moves are relative to the values, or to 1 for smaller values, because sums of positions and
    of velocities are of that size.
    """
    far = np.geomspace(1.0, ULPS, BATCH)[:, None] * np.finfo(np.float32).eps

    def move(x: np.ndarray) -> jax.Array:
        step = far * np.maximum(1.0, np.abs(x))
        return jnp.asarray(x + step * rng.uniform(-1, 1, np.shape(x)), jnp.float32)

    physics = state.physics
    act = None if physics.act is None else move(np.asarray(physics.act))
    qpos, qvel = (move(np.asarray(x)) for x in (physics.qpos, physics.qvel))
    return state.replace(physics=physics.replace(qpos=qpos, qvel=qvel, act=act))


def _largest(apart: Iterable[dict[str, float]]) -> dict[str, float]:
    return functools.reduce(lambda a, b: {what: max(a[what], b[what]) for what in JUDGED}, apart)


def _apart(plain: State, moved: State, scale: dict[str, np.ndarray]) -> dict[str, float]:
    """Returns the largest relative difference of the twins, by quantity."""
    ours, theirs = values_of(moved), values_of(plain)
    return {
        what: float(np.nan_to_num(np.abs(ours[what] - theirs[what]) / scale[what], nan=0.0).max())
        for what in JUDGED
    }
