"""Where episodes begin: the distribution, and what is observed there."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy import stats

from envs.models import without_deprecation_notices

from .harness import BATCH, Task, load

# Chance that a correct port fails, per task; seeds are fixed, so it is decided once.
LEVEL = 1e-3
RESETS = 1000
# The cheetah settles for 200 steps a reset; fewer resets keep the test short.
SLOW_RESETS = {"dmc/cheetah_run": 200}
# Differences below this are rounding: a settled cheetah, a target that never moves.
NOISE_FLOOR = 1e-6
# Observation of a state without a step: only its rounding to float32 differs.
RESET_OBS_TOLERANCE = 1e-6
# A draw after 200 settling steps: contacts amplify rounding, settling damps it.
SETTLED_TOLERANCE = 1e-3


def originals(task: Task, count: int) -> np.ndarray:
    """Returns (count, nq + nv) reset states of the original."""
    rows = []
    for i in range(count):
        task.real.reset(seed=0 if i == 0 else None)
        rows.append(np.concatenate([task.real.qpos, task.real.qvel]))
    return np.stack(rows)


def smallest_p(a: np.ndarray, b: np.ndarray) -> tuple[float, int]:
    """Two-sample KS over all columns and 10 random directions: (smallest p, number of tests).

    Directions see what single columns cannot: that draws of two columns are dependent.
    """
    scale = b.std(axis=0)
    moving = scale > NOISE_FLOOR
    still = np.broadcast_to(b[0, ~moving], a[:, ~moving].shape)
    np.testing.assert_allclose(a[:, ~moving], still, rtol=0, atol=NOISE_FLOOR)
    a, b = a[:, moving] / scale[moving], b[:, moving] / scale[moving]
    directions = np.random.default_rng(0).normal(size=(a.shape[1], 10))
    a, b = np.hstack([a, a @ directions]), np.hstack([b, b @ directions])
    return min(stats.ks_2samp(x, y).pvalue for x, y in zip(a.T, b.T, strict=True)), a.shape[1]


def test_distribution(task: Task) -> None:
    state = task.resets(SLOW_RESETS.get(task.env.spec.name, RESETS), seed=0)
    ported = np.hstack([state.physics.qpos, state.physics.qvel])
    p, tests = smallest_p(ported, originals(task, RESETS))
    assert p > LEVEL / tests
    assert not state.terminated.any()
    assert not state.reward.any()


def test_distribution_test_can_fail() -> None:
    task = load("gym/Reacher-v5")
    original = originals(task, RESETS)
    state = task.resets(RESETS, seed=0)
    ported = np.hstack([state.physics.qpos, state.physics.qvel])
    wider = ported.copy()
    wider[:, 0] *= 1.5
    dependent = ported.copy()
    dependent[:, 1] = dependent[:, 0]
    for wrong in (wider, dependent):
        p, tests = smallest_p(wrong, original)
        assert p < LEVEL / tests


def test_observation_of_a_reset(task: Task) -> None:
    state = task.resets(BATCH, seed=1)
    for i in range(BATCH):
        expected = task.real.set_state(state.physics.qpos[i], state.physics.qvel[i])
        np.testing.assert_allclose(state.obs[i], expected, rtol=0, atol=RESET_OBS_TOLERANCE)


def test_cheetah_settles_every_draw_as_the_original(monkeypatch: pytest.MonkeyPatch) -> None:
    from dm_control import suite

    with without_deprecation_notices():
        original = suite.load("cheetah", "run")
    env = load("dmc/cheetah_run").env
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
    physics = jax.vmap(env.settle)(qpos).physics
    settled = np.hstack([physics.qpos, physics.qvel])
    np.testing.assert_allclose(settled, expected, rtol=0, atol=SETTLED_TOLERANCE)
