"""Where episodes begin: the distribution, and what is observed there."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest

from envs.devtools.parity.compare import compare_resets, smallest_p
from envs.devtools.parity.port import BATCH
from envs.devtools.parity.tolerances import RESET_LEVEL
from envs.originals import dm_control_suite
from envs.physics.models import without_deprecation_notices

from .harness import Task, on_c

# Enough to see a wrong range; `fpmd tasks --parity` compares 2,000.
RESETS = 15 * BATCH
# Observation of a state without a step: only its rounding to float32 differs.
OBS_TOLERANCE = 1e-6
# A draw after 200 settling steps, as contacts amplify its rounding.
SETTLED_TOLERANCE = 1e-3


def test_distribution(task_on_c: Task) -> None:
    found = compare_resets(task_on_c.port, task_on_c.real, RESETS)
    assert found["p"] > RESET_LEVEL / found["tests"]


def test_distribution_test_can_fail() -> None:
    task = on_c("gym/Reacher-v5")
    first, second = task.port.resets(2 * RESETS, 0), task.port.resets(2 * RESETS, 1)
    wider, dependent = np.array(second.physics.qpos), np.array(second.physics.qpos)
    wider[:, 0] *= 1.5
    dependent[:, 1] = dependent[:, 0]
    for sample, passes in ((second.physics.qpos, True), (wider, False), (dependent, False)):
        p, tests = smallest_p(sample, first.physics.qpos)
        assert (p > RESET_LEVEL / tests) == passes


def test_samples_at_rest_differ_by_more_than_rounding() -> None:
    rest = np.full((50, 1), 0.3)
    assert smallest_p(rest + 1e-6, rest)[0] == 1.0
    assert smallest_p(rest + 1e-3, rest)[0] < 1e-6


def test_first_observation(task_on_c: Task) -> None:
    state = task_on_c.port.resets(BATCH, seed=1)
    assert not state.terminated.any()
    assert not state.reward.any()
    env, real = task_on_c.env, task_on_c.real
    real.reset()  # otherwise `set_state` would, and draw anew
    close = functools.partial(np.testing.assert_allclose, rtol=OBS_TOLERANCE, atol=OBS_TOLERANCE)
    for i in range(BATCH):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], state)
        # Where the original keeps what the task drew.
        for field, rows in env.moved(one).items():
            for element, row in rows.items():
                index = getattr(real.model, field.split("_")[0])(element).id
                getattr(real.model, field)[index] = row
        if env.spec.name == "dmc/point_mass_hard":  # in the tendons, which no picture shows
            real.model.wrap_prm[:] = np.ravel(one.task)
        close(one.obs, real.set_state(one.physics.qpos, one.physics.qvel, one.physics.act))
        remembered = jax.tree.leaves(env.task_from_original(real.model, real.data))
        for ours, theirs in zip(jax.tree.leaves(one.task), remembered, strict=True):
            close(ours, theirs)


def test_cheetah_settles_every_draw_as_the_original(monkeypatch: pytest.MonkeyPatch) -> None:
    with without_deprecation_notices():
        original = dm_control_suite().load("cheetah", "run")
    env = on_c("dmc/cheetah_run").env
    model = original.physics.model
    limited = np.asarray(model.jnt_limited, bool)
    low, high = np.asarray(model.jnt_range)[limited].T
    drawn = np.random.default_rng(0).uniform(low, high, (BATCH, len(low)))
    expected = []
    for angles in drawn:
        monkeypatch.setattr(
            original.task, "_random", type("Fixed", (), {"uniform": lambda *_, a=angles: a})()
        )
        original.reset()
        data = original.physics.data
        expected.append(np.concatenate([data.qpos, data.qvel]))

    qpos = np.tile(np.asarray(model.qpos0, np.float32), (BATCH, 1))
    qpos[:, limited] = drawn
    physics = jax.jit(jax.vmap(env.settle))(qpos).physics
    settled = np.hstack([physics.qpos, physics.qvel])
    np.testing.assert_allclose(settled, expected, rtol=0, atol=SETTLED_TOLERANCE)
