"""Finds the solver limits and buffer sizes of tasks:

    python -m envs.devtools.tune dmc/walker_walk gym/Ant-v5

C MuJoCo plays the task's model with random controls and with sine waves. From some of its states,
MJX takes one control step, first with the model's own solver limits and then with lower ones. The
tool finds the smallest limits that do not increase the distance to C MuJoCo, and chooses the next
larger ones, because other states may need more. MJX-Warp, if it is installed, counts the contacts
and constraints of the same states for its buffers. In the end the tool measures control steps per
second, in turns: with the complete model and its own limits, and with the chosen limits and without
the contacts of `envs.physics.contacts`.

It prints the line for `envs/physics/limits.py` and writes its evidence to a folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from ..base import PhysicsState
from ..originals import make_real
from ..physics.backend import Physics
from ..physics.contacts import complete_models
from ..physics.options import COMPILER_OPTIONS
from ..registry import make

_BATCH = 20  # small, because the batch waits for its slowest solver
_EPISODE = 200  # control steps from each start of the original
_ITERATIONS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 30)
_LS_ITERATIONS = (2, 4, 6, 8, 12, 16, 20, 30)
# Allowed factor and difference of the distance, because two programs round differently.
_SLACK, _FLOOR = 1.5, 1e-6
_ROOM = 1.5  # size of the buffers, relative to their largest use
_SIMULATIONS, _SCAN = 32, 8  # simulations that are timed together, and control steps of one call
_TURNS, _TURN_SECONDS = 5, 0.5


@dataclasses.dataclass(frozen=True)
class Seen:
    """Control steps of C MuJoCo, (n, ...) each, and the largest numbers of contacts and constraint
    rows in a physics step."""

    qpos: np.ndarray
    qvel: np.ndarray
    act: np.ndarray
    ctrl: np.ndarray
    next_qpos: np.ndarray
    next_qvel: np.ndarray
    contacts: int
    constraints: int


def play(name: str, physics: Physics, states: int, seed: int) -> Seen:
    """Plays C MuJoCo from the original's starts, and keeps every fifth control step.

    Args:
        name: the task of the starts.
        physics: its model, with its own solver limits.
        states: number of control steps to keep.
        seed: of starts and controls.
    """
    model, rng = physics.model, np.random.default_rng(seed)
    data, real = mujoco.MjData(model), make_real(name)
    limited = model.actuator_ctrllimited.astype(bool)
    low, high = np.where(limited, model.actuator_ctrlrange.T, [[-1.0], [1.0]])
    rows, contacts, constraints = [], 0, 0
    for t in range(5 * states):
        if t % _EPISODE == 0:
            real.reset(seed + t)
            mujoco.mj_resetData(model, data)
            data.qpos[:], data.qvel[:] = real.qpos, real.qvel
            if model.na:
                data.act[:] = real.act
            frequency, phase = rng.uniform(0.5, 3.0, model.nu), rng.uniform(0, 2 * np.pi, model.nu)
        # Episodes alternate between noise and waves.
        turn = np.sin(2 * np.pi * frequency * t * physics.control_dt + phase)
        share = (turn + 1) / 2 if t // _EPISODE % 2 else rng.uniform(size=model.nu)
        data.ctrl[:] = low + share * (high - low)
        before = [x.copy() for x in (data.qpos, data.qvel, data.act, data.ctrl)]
        for _ in range(physics.substeps):
            mujoco.mj_step(model, data)
            contacts, constraints = max(contacts, data.ncon), max(constraints, data.nefc)
        if t % 5 == 4:
            rows.append((*before, data.qpos.copy(), data.qvel.copy()))
    names = ("qpos", "qvel", "act", "ctrl", "next_qpos", "next_qvel")
    columns: dict[str, Any] = dict(zip(names, map(np.stack, zip(*rows, strict=True)), strict=True))
    return Seen(**columns, contacts=contacts, constraints=constraints)


def errors(physics: Physics, seen: Seen) -> np.ndarray:
    """Returns the largest difference of MJX and C MuJoCo in qpos and qvel after each step, (n,)."""
    step = jax.jit(
        jax.vmap(lambda state, ctrl: physics.step(state, ctrl, lambda data: None)[0]),
        compiler_options=COMPILER_OPTIONS,
    )
    found = []
    for start in range(0, len(seen.qpos), _BATCH):
        rows = np.minimum(np.arange(start, start + _BATCH), len(seen.qpos) - 1)
        after = step(_states(physics, seen, rows), jnp.asarray(seen.ctrl[rows], jnp.float32))
        distance = np.maximum(
            np.abs(after.qpos - seen.next_qpos[rows]).max(axis=1),
            np.abs(after.qvel - seen.next_qvel[rows]).max(axis=1),
        )
        found.append(np.nan_to_num(distance, nan=np.inf))
    return np.concatenate(found)[: len(seen.qpos)]


def smallest(candidates: Sequence[int], passes: Callable[[int], bool]) -> int | None:
    """Returns the first candidate that passes, or None. All candidates after it must pass, too."""
    low, high = 0, len(candidates)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(candidates[middle]) else (middle + 1, high)
    return candidates[low] if low < len(candidates) else None


def next_larger(candidates: Sequence[int], found: int | None) -> int | None:
    """Returns the candidate after `found`, or None if there is none."""
    if found is None or found == candidates[-1]:
        return None
    return candidates[candidates.index(found) + 1]


def cost(physics: Sequence[Physics], seen: Seen) -> list[float]:
    """Returns the control steps per second of several versions of a model: medians over turns,
    without compilation."""
    rows = np.linspace(0, len(seen.qpos) - 1, _SIMULATIONS).astype(int)
    ctrl = jnp.asarray(seen.ctrl[(rows + np.arange(_SCAN)[:, None]) % len(seen.ctrl)], jnp.float32)

    def compiled(one: Physics) -> Callable[[], None]:
        def step(states: PhysicsState, ctrl: jax.Array) -> tuple[PhysicsState, None]:
            return jax.vmap(lambda s, c: one.step(s, c, lambda data: None)[0])(states, ctrl), None

        run = jax.jit(
            lambda states, ctrl: jax.lax.scan(step, states, ctrl)[0],
            compiler_options=COMPILER_OPTIONS,
        )
        states = _states(one, seen, rows)
        return lambda: jax.block_until_ready(run(states, ctrl))

    calls = [compiled(one) for one in physics]
    for call in calls:
        call()
    rates: list[list[float]] = [[] for _ in calls]
    for _ in range(_TURNS):
        for call, found in zip(calls, rates, strict=True):
            begin, count = time.perf_counter(), 0
            while not count or time.perf_counter() - begin < _TURN_SECONDS:
                call()
                count += 1
            found.append(count * _SCAN * _SIMULATIONS / (time.perf_counter() - begin))
    return [float(np.median(found)) for found in rates]


def tune(name: str, states: int) -> dict[str, Any]:
    """Returns the evidence for one task, with its `limits` for `envs/physics/limits.py`."""
    begin = time.monotonic()
    own = _physics(name, iterations=None, ls_iterations=None)
    seen = play(name, own, states, seed=0)
    reference = errors(own, seen)
    tried: list[dict[str, Any]] = []

    def passes(iterations: int | None, ls_iterations: int | None) -> bool:
        options = {"iterations": iterations, "ls_iterations": ls_iterations}
        error = errors(_physics(name, **options), seen)
        tried.append({**options, **_summary(error)})
        print(name, tried[-1], flush=True)
        return all(
            tried[-1][what] <= _SLACK * limit + _FLOOR
            for what, limit in _summary(reference).items()
        )

    # None is the model's own limit, if no smaller one passed.
    iterations = smallest(_ITERATIONS, lambda count: passes(count, None))
    ls_iterations = smallest(_LS_ITERATIONS, lambda count: passes(iterations, count))
    limits: dict[str, Any] = {
        "iterations": next_larger(_ITERATIONS, iterations),
        "ls_iterations": next_larger(_LS_ITERATIONS, ls_iterations),
    }
    buffers = None
    if importlib.util.find_spec("warp") is not None:
        buffers = _buffers(own, seen)
        limits |= {
            what: 8 * max(1, int(np.ceil(_ROOM * most / 8))) for what, most in buffers.items()
        }
    with complete_models():
        before = _physics(name, iterations=None, ls_iterations=None)
    rates = cost([before, _physics(name, **limits)], seen)
    return {
        "task": name,
        "impl": own.impl,
        "limits": limits,
        "smallest": {"iterations": iterations, "ls_iterations": ls_iterations},
        "states": len(seen.qpos),
        "own": {
            "iterations": own.model.opt.iterations,
            "ls_iterations": own.model.opt.ls_iterations,
            **_summary(reference),
        },
        "tried": tried,
        "most_in_c": {"contacts": seen.contacts, "constraints": seen.constraints},
        "most_in_warp": buffers,
        "control_steps_per_second": {
            "before": round(rates[0]),
            "after": round(rates[1]),
            "simulations": _SIMULATIONS,
        },
        "seconds": round(time.monotonic() - begin),
        "device": f"{platform.machine()} {jax.devices()[0].device_kind}, {os.cpu_count()} cores",
        "versions": {package: version(package) for package in ("mujoco", "mujoco-mjx", "jax")},
    }


def _physics(name: str, **options: Any) -> Physics:
    env: Any = make(name, **options)
    return env.physics


def _states(physics: Physics, seen: Seen, rows: np.ndarray) -> PhysicsState:
    act = seen.act[rows] if physics.model.na else None
    return jax.vmap(physics.init)(seen.qpos[rows], seen.qvel[rows], act)


def _summary(error: np.ndarray) -> dict[str, float]:
    return {"p99": float(np.quantile(error, 0.99)), "max": float(error.max())}


def _buffers(own: Physics, seen: Seen) -> dict[str, int]:
    """Returns the largest use of warp's buffers by one simulation.

    Warp has more contacts than C MuJoCo, because it includes pairs that only come near each other.
    """
    from ..physics.warp import WarpSimulation

    warp = WarpSimulation(
        own.model,
        contacts=4 * seen.contacts + 64,
        constraints=2 * seen.constraints + 64,
        graph_mode=None,
        reads_forces=False,
    )
    usage = jax.jit(warp.usage)
    taken = [
        usage(jax.tree.map(lambda leaf: leaf[0], _states(own, seen, np.array([row]))))
        for row in range(len(seen.qpos))
    ]
    contacts, constraints = np.max(taken, axis=0)
    return {
        "contacts": int(max(contacts, seen.contacts)),
        "constraints": int(max(constraints, seen.constraints)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m envs.devtools.tune", description=__doc__)
    parser.add_argument("tasks", nargs="+", metavar="task")
    parser.add_argument("--states", type=int, default=400, help="states of C MuJoCo to step from")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/solver"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.tasks:
        evidence = tune(name, args.states)
        path = args.out / f"{name.replace('/', '_')}.json"
        path.write_text(json.dumps(evidence, indent=1) + "\n")
        line = ", ".join(f"{what}={value}" for what, value in evidence["limits"].items())
        print(f'    "{name}": PhysicsOptions({line}),', flush=True)


if __name__ == "__main__":
    main()
