"""How far rounding alone leads: the original from starts that float32 can hardly tell apart.

Whether two bodies touch in this physics step or in the next, a stiff contact, or a pole on its tip
can turn a difference in the last digit of float32 into a visible one, within a step. A port in
float32 cannot do better, and neither could the original. So where a port is further from the
original than it may be, the step is repeated on C MuJoCo in float64 from twins of its start, moved
by a few digits of float32, and what parts the twins from the start itself is what rounding does
there. An error of at most `FACTOR` times the largest of them is *explained*; any other is the
port's. A fault of the task around the physics cannot pass for rounding, because the twins share it
with the start that they are compared with.

Nor has a port to know better than the original where that depends on where its iterative searches
end: so it is also played again, from the very start, with other ends.

And digits may be lost within the step, where a force is a stiffness times a small difference of
large accelerations. So before all this MJX itself repeats such steps in float64, and if it then
ends within `EXACT` of where the original does in qpos and qvel, and the task on C MuJoCo is right
there, the port's error was float32's. So does it with runs of many steps, within `EXACT_RUN`.
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
"""Largest move of a twin, in float32's epsilon: a port rounds in each of a step's operations, its
twins on C MuJoCo at their starts alone. They are moved by anything from 1 to this."""
TURNS = 5
"""Batches of twins of a step; of a run there is one, which is moved before each step."""
FACTOR = 2.0
"""Twins are a sample of what rounding can do."""
MOST = 100
"""Steps of a task that are looked into; more that are beyond its tolerance are not explained."""
JUDGED = ("obs", "reward")
EXACT = 1e-5
"""Relative error of qpos and qvel after a step in float64: what the tolerances of the solvers leave
open. A fault would be as large as the error that is to be explained, 1e-3."""
EXACT_RUN = 1e-4
"""The same at any time in a run of many steps, in which it adds up."""


def one_step(
    twins: Port,
    real: RealEnv,
    seen: Steps,
    found: dict[str, np.ndarray],
    scale: dict[str, np.ndarray],
    limit: float,
) -> dict[str, int]:
    """Looks into steps whose observation or reward is wrong by more than `limit`.

    Args:
        twins: the port on C MuJoCo, see `envs.devtools.parity.on_c`.
        real: the original, with the settings that it was recorded with.
        seen: the steps, (n, ...).
        found: their `errors`, (n,) each.
        scale: the units of these errors.
        limit: the largest error that needs no explanation.

    Returns:
        beyond: how many steps are beyond the limit.
        explained: how many of these rounding explains.
        exact: of how many of these MJX is right in float64; they are explained, too.
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
    """The same for runs of many steps, whose twins are moved before each of them.

    Args are those of `one_step`, with the largest errors of each run, (BATCH,) each; returns
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
        # From the original's states the task on C MuJoCo must be right in every step.
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
    """Returns how far the original parts from itself if its searches end elsewhere.

    Args:
        real: the original, with the settings that it was recorded with.
        seen: the step, (1, ...).
        scale: the units of relative errors.
        limit: how far it may be from what was recorded when it is played again as it was.

    Returns:
        The largest relative difference of observation and reward; 0 if the original cannot be put
        back to where it was, as its task remembers more than the physics.
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
    """Returns whether MJX in float64 goes where the original does, (n,) bool.

    Args:
        physics: the port's, whose actions are its model's controls; with others no step is exact,
            nor with impl=warp, which has no float64.
        columns: the first steps of n runs, their second steps, and so on; (n, ...) each.
        under_way: (steps, n) bool, False after the original's episode has ended.
        asked: (n,) bool, of which runs; False is returned of others.
        scale: the units of relative errors.
        limit: the largest of qpos and qvel, at any time.
    """
    exact = asked & (physics.impl == "jax")
    if not exact.any():
        return exact
    # With the port's own solver limits: what lowered ones may cost is not rounding.
    model = physics.model
    carried = ("qpos", "qvel", "act", "qacc_warmstart")
    # Only what this thread traces inside is in float64.
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
    """JAX's own small functions, such as `tril`, are traced once for both precisions, which MJX's
    Runge-Kutta step does not survive. So nothing that was traced is kept, on either side."""
    jax.clear_caches()
    try:
        with jax.enable_x64(True):
            yield
    finally:
        jax.clear_caches()


def _right(twins: Port, seen: Steps, scale: dict[str, np.ndarray], limit: float) -> np.ndarray:
    """Returns of which steps the task on C MuJoCo is right, (n,) bool."""
    found = errors(twins.one_step(seen), seen, scale)
    return np.max([found[what] for what in JUDGED], axis=0) <= limit


def _beyond(found: dict[str, np.ndarray], limit: float) -> np.ndarray:
    return np.flatnonzero(np.max([found[what] for what in JUDGED], axis=0) > limit)


def _within(apart: dict[str, float], found: dict[str, np.ndarray], row: int, limit: float) -> bool:
    return all(found[what][row] <= max(limit, FACTOR * apart[what]) for what in JUDGED)


def _moved(state: State, rng: np.random.Generator) -> State:
    """Returns a batch with qpos, qvel and act moved by 1 to `ULPS` times float32's epsilon, of
    themselves or of 1 where they are smaller: positions and velocities add up to such numbers."""
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
    """Returns the largest relative difference of any twin."""
    ours, theirs = values_of(moved), values_of(plain)
    return {
        what: float(np.nan_to_num(np.abs(ours[what] - theirs[what]) / scale[what], nan=0.0).max())
        for what in JUDGED
    }
