"""Parity of a port with its original: errors, episode ends, starts and returns.

`measure` plays the original, puts the port into its states, and compares the next states. `verdict`
compares the numbers with `tolerances`. `fpmd tasks --parity` does both for every task.

Relative error. The difference in each dimension is divided by a scale,

    |port - original| / max(1, rms),

where `rms` is the root mean square of that dimension of the original over all recorded episodes. So
a joint that turns at 20 rad/s may differ by more than a slow one, and values near zero have no
large errors. Dimensions that are usually below 1 in their unit (m, rad, m/s, rad/s, rewards) have
the tolerance in that unit. The error of a state is the largest of all dimensions. The error of a
task is the largest of all states.

Why steps and not trajectories. MJX computes in float32 and MuJoCo in float64. One step amplifies
rounding only a little. But contacts and joint limits are stiff, so trajectories with contacts
diverge exponentially in any port. So every task has its tolerance for single steps from the
original's states, and contact-poor tasks also for 50 steps. If a single step is beyond the
tolerance, `envs.devtools.parity.rounding` tests whether rounding explains it.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from ...base import Env
from ...originals import RealEnv
from ...registry import has_original, tasks
from . import rounding
from .compare import (
    Runs,
    compare_resets,
    compare_returns,
    different_flags,
    errors,
    open_loop,
    scales,
)
from .controllers import policies
from .on_c import converge, on_c
from .original import Steps, record
from .port import BATCH, Port
from .tolerances import (
    CONVERGED,
    EXCEPTIONS,
    MOST_BEYOND,
    MOST_EXPLAINED,
    RESET_LEVEL,
    TOLERANCE,
    tolerance,
)

EPISODES = 20  # whole episodes of the original
STATES = 2000  # steps that the port repeats, at most
RESETS = 2000
SECONDS = 40.0
"""Processor time for the resets of each simulator, and for the port's returns. It does not depend
on other processes. A task takes about two minutes on two cores."""

RECORDS = Path(__file__).with_name("measured.json")
"""Results by task, written by `fpmd tasks --parity`."""

CHECKS = ("one_step", "open_loop", "flags", "resets", "returns")


def comparable() -> list[str]:
    """Returns the names of the tasks that have an original to compare with."""
    return [name for name in tasks() if has_original(name)]


def measure(
    port: Port,
    real: RealEnv,
    *,
    episodes: int = EPISODES,
    states: int = STATES,
    resets: int = RESETS,
    seconds: float = SECONDS,
) -> dict[str, Any]:
    """Compares a port with its original.

    Args:
        port: the port.
        real: its original.
        episodes: episodes of the original to record, half of them with random actions.
        states: number of their steps for the port to repeat.
        resets: number of resets in each simulator.
        seconds: processor time after which the resets of a simulator, and the port's returns, are
            cut short.

    Returns:
        Numbers for `verdict` and for a table:
            states, contacts: steps repeated; share of the original's steps with a contact.
            paid: share of the original's steps with a reward other than 0.
            one_step: relative errors of each quantity, {"max", "p99"}.
            open_loop: the same over 50 steps, {"max", "median"} of the runs.
            rounding: explained errors of the steps, and of the runs if they have a tolerance; see
                `envs.devtools.parity.rounding`.
            released: for an original with converged collisions, {"beyond", "max"}: number of steps
                in which the released original is beyond the tolerance, and its largest error.
            flags: episodes, terminated episodes, steps that end in one simulator only.
            resets, returns: see `compare_resets` and `compare_returns`.
            seconds: wall-clock time of all of it.
    """
    begin = time.monotonic()
    env, played = port.env, policies(port.env)
    converged = env.spec.name.startswith(CONVERGED)
    if converged:
        converge(real.model)
    noise = played.pop("uniform")
    seen = record(
        env, real, [x for other in played.values() for x in (noise, other)], episodes, seed=0
    )
    sampled, scale = seen.sample(states), scales(seen)
    stepped = port.one_step(sampled)
    runs = Runs.of(seen)
    once, alone = errors(stepped, sampled, scale), open_loop(port, runs, scale)
    twins, allowed = Port.of(on_c(env, converged=converged)), tolerance(env.spec.name)
    explained = {"one_step": rounding.one_step(twins, real, sampled, once, scale, allowed.one_step)}
    if allowed.open_loop is not None:
        explained["open_loop"] = rounding.open_loop(twins, runs, alone, scale, allowed.open_loop)
    controller = "balance" if "balance" in played else "waves 0"
    return {
        "states": len(sampled),
        "contacts": float((seen.contacts > 0).mean()),
        "paid": float((seen.reward != 0).mean()),
        "one_step": {
            what: {"max": float(x.max()), "p99": float(np.quantile(x, 0.99))}
            for what, x in once.items()
        },
        "open_loop": {
            what: {"max": float(x.max()), "median": float(np.median(x))}
            for what, x in alone.items()
        },
        "released": _beyond_itself(env, sampled, scale) if converged else None,
        "rounding": explained,
        "flags": {
            "episodes": episodes,
            "terminated": int(seen.terminated.sum()),
            "different": different_flags(stepped, sampled, env.spec),
        },
        "resets": compare_resets(port, real, resets, seconds),
        "returns": {
            "controller": controller.split()[0],
            **compare_returns(port, real, played[controller], seconds),
        },
        "seconds": round(time.monotonic() - begin, 1),
    }


def _beyond_itself(env: Env, seen: Steps, scale: dict[str, np.ndarray]) -> dict[str, Any]:
    found = errors(Port.of(on_c(env)).one_step(seen), seen, scale)
    error = np.max([found[what] for what in rounding.JUDGED], axis=0)
    return {"beyond": int((error > TOLERANCE).sum()), "max": float(error.max())}


def measured() -> dict[str, dict[str, Any]]:
    """Returns the last results of `fpmd tasks --parity`, by task, with their provenance."""
    return json.loads(RECORDS.read_text()) if RECORDS.exists() else {}


def verdict(name: str, result: dict[str, Any]) -> dict[str, bool | None]:
    """Returns whether a measured task passes each of `CHECKS`; None for a check that it does not
    have."""

    def within(part: str, limit: float | None, most: int, at_all: int) -> bool | None:
        if limit is None:
            return None
        # An infinite error is stored as null. Rounding does not explain it.
        worst = [result[part][what]["max"] for what in rounding.JUDGED]
        if None in worst:
            return False
        if max(worst) <= limit:
            return True
        looked_into = result["rounding"][part]
        beyond = looked_into["beyond"]
        unproven = beyond - looked_into.get("exact", 0)
        return looked_into["explained"] == beyond <= at_all and unproven <= most

    allowed = tolerance(name)
    steps = result["states"]
    one_step = within(
        "one_step", allowed.one_step, int(MOST_EXPLAINED * steps), int(MOST_BEYOND * steps)
    )
    # Rounding explains a run only if its single steps are right.
    runs = BATCH if one_step else 0
    open_loop = within("open_loop", allowed.open_loop, runs, runs)
    # A return that is not finite is stored as null. As nan it fails each comparison.
    ours, theirs = (
        [np.nan if x is None else x for x in result["returns"][simulator]]
        for simulator in ("port", "original")
    )
    # If returns do not vary, their interval is narrower than their rounding error.
    slack = TOLERANCE * max(1.0, abs(theirs[0]))
    return {
        "one_step": one_step,
        "open_loop": open_loop,
        "flags": result["flags"]["different"] == 0,
        "resets": result["resets"]["p"] > RESET_LEVEL / result["resets"]["tests"],
        "returns": all(
            a[1] - slack <= b[0] <= a[2] + slack for a, b in ((ours, theirs), (theirs, ours))
        ),
    }


EXACT = "exact"
WITHIN = "within stated tolerance"


def status(name: str, result: dict[str, Any] | None) -> str:
    """Returns the state of a task.

    "exact": it passes all checks. "within stated tolerance": it passes them with a larger tolerance
    or against a changed original. "differs: " and the failed checks. "not measured".
    """
    if result is None:
        return "not measured"
    failed = [check for check, passed in verdict(name, result).items() if passed is False]
    if failed:
        return f"differs: {', '.join(failed)}"
    return WITHIN if name.startswith((*EXCEPTIONS, *CONVERGED)) else EXACT


def passed(name: str, result: dict[str, Any] | None) -> bool:
    """Returns whether a task is exact or within its stated tolerance."""
    return status(name, result) in (EXACT, WITHIN)
