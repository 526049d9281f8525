"""What rounding explains, and that it explains no fault."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest

from envs.devtools.parity import rounding
from envs.devtools.parity.compare import Runs, errors, open_loop, scales
from envs.devtools.parity.controllers import policies
from envs.devtools.parity.on_c import on_c as put_on_c
from envs.devtools.parity.original import Steps, record
from envs.devtools.parity.port import BATCH, Port
from envs.devtools.parity.tolerances import TOLERANCE

from ...harness import Task, make, on_c

BALANCING = "gym/InvertedDoublePendulum-v5"


def recorded(task: Task, policy: str, longest: int) -> tuple[Steps, dict[str, np.ndarray]]:
    seen = record(
        task.env, task.real, [policies(task.env)[policy]], episodes=2, seed=3, longest=longest
    )
    return seen, scales(seen)


def heavier(name: str) -> Port:
    """The port on C MuJoCo, on a planet with 1 % more gravity."""
    env = copy.copy(make(name))
    env.physics = copy.copy(env.physics)
    env.physics.model = copy.copy(env.physics.model)
    env.physics.model.opt.gravity[2] *= 1.01
    return Port.of(put_on_c(env))


def test_a_pole_on_its_tip_falls_as_rounding_has_it() -> None:
    """The state of the port is in float32: open loop, nothing keeps its last digit small."""
    task = on_c(BALANCING)
    seen, scale = recorded(task, "balance", longest=200)
    runs = Runs.of(seen)
    found = open_loop(task.port, runs, scale)
    few = {what: np.where(np.arange(BATCH) < 3, error, 0.0) for what, error in found.items()}
    looked_into = rounding.open_loop(task.port, runs, few, scale, TOLERANCE)
    assert looked_into["beyond"] == looked_into["explained"] > 0


def test_a_wrong_force_is_not_explained() -> None:
    task, wrong = on_c(BALANCING), heavier(BALANCING)
    seen, scale = recorded(task, "uniform", longest=5 * BATCH)
    found = errors(wrong.one_step(seen), seen, scale)
    limit = 1e-4
    looked_into = rounding.one_step(wrong, task.real, seen, found, scale, limit)
    assert looked_into.pop("beyond") > len(seen) // 2
    assert looked_into == {"explained": 0, "exact": 0}
    # Not even by its own physics in float64, where the original's own are exact.
    some, always = np.arange(len(seen)) < 3, np.ones((1, len(seen)), bool)
    right, heavy = (port.env.physics for port in (task.port, wrong))
    once = rounding.exact_in_float64(right, [seen], always, some, scale, rounding.EXACT)
    assert once.tolist() == some.tolist()
    assert not rounding.exact_in_float64(heavy, [seen], always, some, scale, rounding.EXACT).any()


def test_a_run_is_exact_in_float64_to_its_end() -> None:
    task = on_c(BALANCING)
    seen, scale = recorded(task, "uniform", longest=BATCH)
    columns = [seen.take(np.array([t, 3 + t])) for t in range(3)]
    # The second run is another's from its second step on, which counts while it is under way.
    columns[1:] = [column.take(np.array([0, 0])) for column in columns[1:]]
    asked = np.ones(2, bool)
    for counts, exact in ((True, [True, False]), (False, [True, True])):
        under_way = np.array([[True, True], [True, counts], [True, counts]])
        found = rounding.exact_in_float64(
            task.env.physics, columns, under_way, asked, scale, rounding.EXACT_RUN
        )
        assert found.tolist() == exact


def test_a_fault_of_the_task_is_not_explained() -> None:
    """The twins have it, too."""
    task = on_c(BALANCING)
    seen, scale = recorded(task, "uniform", longest=BATCH)
    seen = dataclasses.replace(seen, next_obs=seen.next_obs + np.float32(0.01))
    found = errors(task.port.one_step(seen), seen, scale)
    looked_into = rounding.one_step(task.port, task.real, seen, found, scale, TOLERANCE)
    assert looked_into == {"beyond": len(seen), "explained": 0, "exact": 0}


def test_what_is_right_in_float64_is_exact() -> None:
    task = on_c(BALANCING)
    seen, scale = recorded(task, "uniform", longest=BATCH)
    found = {what: np.full(len(seen), 1.0) for what in rounding.JUDGED}
    looked_into = rounding.one_step(task.port, task.real, seen, found, scale, TOLERANCE)
    assert looked_into == dict.fromkeys(("beyond", "explained", "exact"), len(seen))


def test_no_more_steps_are_looked_into_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    task, most = on_c(BALANCING), 3
    seen, scale = recorded(task, "uniform", longest=BATCH)
    monkeypatch.setattr(rounding, "MOST", most)
    found = {what: np.full(len(seen), 1.0) for what in rounding.JUDGED}
    looked_into = rounding.one_step(task.port, task.real, seen, found, scale, TOLERANCE)
    assert looked_into == {"beyond": len(seen), "explained": most, "exact": most}
