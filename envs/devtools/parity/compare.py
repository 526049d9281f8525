"""Differences between a port and its original: errors, episode ends, starts and returns."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from ...base import State, TaskSpec
from ...originals import RealEnv
from .controllers import Policy
from .original import Starts, Steps, stack, start_of
from .port import BATCH, Port

QUANTITIES = ("obs", "reward", "qpos", "qvel")
OPEN_LOOP_STEPS = 50
CONFIDENCE = 0.99
"""Level of the intervals of mean returns."""
# Starts are rounded to this, in the units of the observation: smaller differences are rounding
# errors. An accelerometer at rest is a sum of forces that are a thousand times as large.
ROUNDING = 1e-4
# Columns with a smaller standard deviation hardly vary. Divided by it, rounding errors would count.
_STILL = 1e-3


# -------------------------------------------------------------------------------------- errors


def values_of(state: State) -> dict[str, np.ndarray]:
    """Returns `QUANTITIES` of a port's states."""
    physics = state.physics
    values = map(np.asarray, (state.obs, state.reward, physics.qpos, physics.qvel))
    return dict(zip(QUANTITIES, values, strict=True))


def _of_original(seen: Steps) -> dict[str, np.ndarray]:
    values = (seen.next_obs, seen.reward, seen.next_qpos, seen.next_qvel)
    return dict(zip(QUANTITIES, values, strict=True))


def scales(seen: Steps) -> dict[str, np.ndarray]:
    """Returns the unit of the relative error of each dimension: (size,), and () of the reward."""
    return {
        what: np.maximum(1.0, np.sqrt(np.mean(np.square(values, dtype=np.float64), axis=0)))
        for what, values in _of_original(seen).items()
    }


def errors(port: State, seen: Steps, scale: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the relative error of each step, the largest of its dimensions: (n,) by quantity.

    The error of a port that is not finite is infinite.
    """
    ours, theirs, found = values_of(port), _of_original(seen), {}
    for what in QUANTITIES:
        error = np.abs(ours[what].astype(np.float64) - theirs[what]) / scale[what]
        found[what] = np.nan_to_num(error.reshape(len(seen), -1).max(axis=1), nan=np.inf)
    return found


@dataclasses.dataclass(frozen=True)
class Runs:
    """Runs of OPEN_LOOP_STEPS steps of the original, which the port repeats.

    Attributes:
        columns: their first steps, their second steps, and so on: (BATCH, ...) each.
        under_way: (OPEN_LOOP_STEPS, BATCH) bool, False after the original's episode has ended.
    """

    columns: list[Steps]
    under_way: np.ndarray

    @classmethod
    def of(cls, seen: Steps) -> Runs:
        """Returns `BATCH` runs. They begin at the start of a recorded episode and at a random step,
        in turn."""
        firsts = np.flatnonzero(seen.t == 0)
        ends = np.append(firsts[1:], len(seen))
        rng = np.random.default_rng(0)
        rows, under_way = [], []
        for run in range(BATCH):
            first, end = firsts[run % len(firsts)], ends[run % len(firsts)]
            # In pairs, because episodes alternate between noise and a scripted controller.
            anywhere = run // 2 % 2
            latest = max(first, end - OPEN_LOOP_STEPS)
            wanted = rng.integers(first, latest + 1) if anywhere else first
            wanted = wanted + np.arange(OPEN_LOOP_STEPS)
            rows.append(np.minimum(wanted, end - 1))
            under_way.append(wanted < end)
        columns = [seen.take(np.array(column)) for column in zip(*rows, strict=True)]
        return cls(columns, np.array(under_way).T)


def open_loop(port: Port, runs: Runs, scale: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the largest relative error in each of `BATCH` runs, (BATCH,) by quantity."""
    state, worst = port.at(runs.columns[0]), {what: np.zeros(BATCH) for what in QUANTITIES}
    for column, counts in zip(runs.columns, runs.under_way, strict=True):
        state = port.step(state, jnp.asarray(column.action))
        for what, error in errors(jax.device_get(state), column, scale).items():
            worst[what] = np.maximum(worst[what], np.where(counts, error, 0.0))
    return worst


# ---------------------------------------------------------------------------------------- ends


def different_flags(port: State, seen: Steps, spec: TaskSpec) -> int:
    """Returns the number of steps that terminate or truncate the episode in one simulator only.

    The port's time limit is that of `spec`. It counts only if the task did not end.
    """
    timeout = (seen.t + 1 >= spec.episode_steps) & ~port.terminated
    different = port.terminated != seen.terminated
    different |= timeout != (seen.truncated & ~seen.terminated)
    return int(different.sum())


# -------------------------------------------------------------------------------------- starts


def smallest_p(a: np.ndarray, b: np.ndarray) -> tuple[float, int]:
    """Compares samples (n, size) and (m, size) in every column and in 10 random directions.

    Directions show dependencies between columns. All values are rounded to `ROUNDING`, because the
    last digits of a body at rest are not a difference.

    Returns:
        The smallest p of two-sample Kolmogorov-Smirnov tests, and the number of tests.
    """
    spread = b.std(axis=0)
    unit = np.where(spread > _STILL, 1 / np.maximum(spread, _STILL), 0.0)
    directions = np.random.default_rng(0).normal(size=(a.shape[1], 10))
    a, b = (np.hstack([x, (x * unit) @ directions]) for x in (a, b))
    a, b = (np.round(x / ROUNDING) for x in (a, b))
    smallest = min(float(stats.ks_2samp(x, y).pvalue) for x, y in zip(a.T, b.T, strict=True))
    return smallest, a.shape[1]


def compare_resets(
    port: Port, real: RealEnv, count: int, seconds: float = np.inf
) -> dict[str, Any]:
    """Compares first observations, qpos and qvel of `count` episodes in each simulator, or of fewer
    after `seconds` of processor time.

    Returns:
        Numbers of episodes of "port" and "original", and `smallest_p` as "p" and "tests".
    """
    state = port.resets(count, seed=0, seconds=seconds)
    ours = np.hstack([state.obs, state.physics.qpos, state.physics.qvel])
    theirs: list[np.ndarray] = []
    begin = time.process_time()
    while len(theirs) < count and (not theirs or time.process_time() - begin < seconds):
        obs = real.reset(None if theirs else 0)
        theirs.append(np.concatenate([obs, real.qpos, real.qvel]))
    p, tests = smallest_p(ours, np.stack(theirs))
    return {"port": len(ours), "original": len(theirs), "p": p, "tests": tests}


# ------------------------------------------------------------------------------------- returns


def compare_returns(
    port: Port, real: RealEnv, policy: Policy, seconds: float = np.inf
) -> dict[str, Any]:
    """Plays BATCH episodes in both simulators, from the same starts, with the same noise.

    The port stops after `seconds` of processor time. Only its steps then count in both simulators.

    Returns:
        "episodes", "steps" that count, and [mean, low, high] of "port" and "original".
    """
    env, limit = port.env, port.env.spec.episode_steps
    starts, theirs = [], np.zeros((BATCH, limit))
    for episode in range(BATCH):
        obs, rng = real.reset(None if episode else 1), np.random.default_rng([1, episode])
        starts.append(start_of(env, real, obs))
        for t in range(limit):
            _, reward, terminated, truncated = real.step(policy(t, real.qpos, real.qvel, rng))
            theirs[episode, t] = reward
            if terminated or truncated:
                break

    state = port.at(Starts(**stack(starts)))
    ours, running = np.zeros((BATCH, limit)), np.ones(BATCH, bool)
    rngs = [np.random.default_rng([1, episode]) for episode in range(BATCH)]
    begin, t = 0.0, 0
    while t < limit and running.any() and (not begin or time.process_time() - begin < seconds):
        qpos, qvel = jax.device_get((state.physics.qpos, state.physics.qvel))
        action = np.stack([policy(t, *x) for x in zip(qpos, qvel, rngs, strict=True)])
        state = port.step(state, jnp.asarray(action))
        ours[:, t] = np.where(running, state.reward, 0.0)
        running &= ~np.asarray(state.terminated)
        begin, t = begin or time.process_time(), t + 1
    steps = t if running.any() else limit
    return {
        "episodes": BATCH,
        "steps": steps,
        "port": _interval(ours[:, :steps].sum(axis=1)),
        "original": _interval(theirs[:, :steps].sum(axis=1)),
    }


def _interval(returns: np.ndarray) -> list[float]:
    """Returns the mean and the ends of its Student t interval."""
    mean, n = returns.mean(), len(returns)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * returns.std(ddof=1) / np.sqrt(n)
    return [float(mean), float(mean - half), float(mean + half)]
