"""The controllers of both simulators: noise, waves, and a regulator for tasks that it solves."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
from scipy import linalg

from ...base import TaskSpec

Policy = Callable[[int, np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
"""(step of the episode, qpos, qvel, random numbers) -> (action_size,) float32, native units."""

BALANCED = (
    "dmc/cartpole_balance",
    "dmc/point_mass_easy",
    "gym/InvertedDoublePendulum",
    "gym/InvertedPendulum",
)
"""Name prefixes of the tasks that `balance` solves: they reward the model's zero pose."""


def policies(env: Any) -> dict[str, Policy]:
    """Returns the controllers of a task by name: "uniform", and scripted ones."""
    chosen = {"uniform": uniform(env.spec)}
    chosen |= {f"waves {seed}": waves(env.spec, seed) for seed in range(3)}
    if env.spec.name.startswith(BALANCED):
        chosen["balance"] = balance(env)
    return chosen


def uniform(spec: TaskSpec, scale: float = 1.3) -> Policy:
    """Independent actions, uniform in `scale` times the range: tasks accept actions beyond it."""
    middle, reach = _middle_and_reach(spec)

    def act(t: int, qpos: np.ndarray, qvel: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return (middle + scale * reach * rng.uniform(-1, 1, len(reach))).astype(np.float32)

    return act


def waves(spec: TaskSpec, seed: int, scale: float = 1.2) -> Policy:
    """A sine of 0.5 to 3 Hz for each action, which makes bodies fast."""
    draw = np.random.default_rng(seed)
    middle, reach = _middle_and_reach(spec)
    frequency, phase = draw.uniform(0.5, 3.0, len(reach)), draw.uniform(0, 2 * np.pi, len(reach))

    def act(t: int, qpos: np.ndarray, qvel: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        angle = 2 * np.pi * frequency * t * spec.control_dt + phase
        return (middle + scale * reach * np.sin(angle)).astype(np.float32)

    return act


def balance(env: Any, noise: float = 0.05) -> Policy:
    """The linear quadratic regulator of the zero pose, plus noise of `noise` times the range."""
    middle, reach = _middle_and_reach(env.spec)
    model = copy.deepcopy(env.physics.model)
    # MuJoCo does not differentiate Runge-Kutta steps, and the gain need not be exact.
    model.opt.integrator = mujoco.mjtIntegrator.mjINT_EULER
    size, inputs = 2 * model.nv, model.nu
    once, push = np.zeros((size, size)), np.zeros((size, inputs))
    mujoco.mjd_transitionFD(model, mujoco.MjData(model), 1e-6, True, once, push, None, None)
    # One control step is several physics steps with the same control.
    powers = [np.linalg.matrix_power(once, k) for k in range(env.physics.substeps + 1)]
    a, b = powers[-1], np.sum(powers[:-1], axis=0) @ push
    cost = linalg.solve_discrete_are(a, b, np.eye(size), np.eye(inputs))
    gain = np.linalg.solve(np.eye(inputs) + b.T @ cost @ b, b.T @ cost @ a)

    def act(t: int, qpos: np.ndarray, qvel: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        wanted = -gain @ np.concatenate([qpos, qvel]) + noise * reach * rng.normal(size=inputs)
        return np.clip(wanted, middle - reach, middle + reach).astype(np.float32)

    return act


def _middle_and_reach(spec: TaskSpec) -> tuple[np.ndarray, np.ndarray]:
    """Returns the middle and half the width of the action range, (action_size,) each. An unlimited
    action has -1 to 1."""
    limited = np.isfinite(spec.action_low) & np.isfinite(spec.action_high)
    low = np.where(limited, spec.action_low, -1.0)
    high = np.where(limited, spec.action_high, 1.0)
    return (high + low) / 2, (high - low) / 2
