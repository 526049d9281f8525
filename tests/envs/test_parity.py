"""The ports against the original simulators, from the same states with the same actions.

MJX computes in float32 and MuJoCo in float64, and contacts and joint limits are stiff, so that
open-loop trajectories part exponentially whatever the port does. Whole episodes are therefore
compared step by step from the original's states; open loop is compared for as long as float32
permits.
"""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

import envs

from .harness import (
    BATCH,
    COMPILER_OPTIONS,
    Policy,
    Task,
    Transitions,
    load,
    record,
    uniform,
    waves,
)


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Largest absolute differences to the original; each some 5 times what was measured.

    Attributes:
        typical: observation after one step, in 9 of 10 steps.
        worst: observation after one step, in all steps: the moments when a contact or a joint
            limit is struck, where a rounded position changes the force most.
        reward: reward after one step.
        open_loop: observation after `open_loop_steps` steps.
        open_loop_reward: reward until then.
        open_loop_steps: control steps.
    """

    typical: float
    worst: float
    reward: float
    open_loop: float
    open_loop_reward: float
    open_loop_steps: int


BOUNDS = {
    # An unstable equilibrium: rounding grows about e-fold every 5 steps.
    "gym/InvertedPendulum": Bounds(2e-6, 5e-6, 0.0, 5e-4, 0.0, 50),
    # Strikes the elbow's limit at 20 rad/s; the fingertip, hence the reward, is not affected.
    "gym/Reacher": Bounds(5e-6, 5e-3, 5e-6, 1e-2, 5e-4, 50),
    # Contact-rich; 10 control steps are 50 physics steps. Later it is chaos: 10 rad/s by step 50.
    "gym/HalfCheetah": Bounds(2e-4, 5e-3, 5e-4, 2e-2, 2e-3, 10),
    # The pole winds up to 15 turns, where float32 resolves its angle to 4e-6 rad.
    "dmc/cartpole": Bounds(1e-5, 3e-5, 1e-5, 1e-4, 1e-5, 100),
    "dmc/cheetah": Bounds(2e-5, 5e-3, 5e-6, 1e-3, 1e-5, 50),
}
# One task for each of the models.
ONE_PER_MODEL = [
    "gym/InvertedPendulum-v5",
    "gym/Reacher-v5",
    "gym/HalfCheetah-v5",
    "dmc/cartpole_swingup",
    "dmc/cheetah_run",
]
STEPS = 1000
# The model's own solver limits are slow: that is why they were lowered.
SLOW_STEPS = 400


def bounds_of(task: Task) -> Bounds:
    return next(b for prefix, b in BOUNDS.items() if task.env.spec.name.startswith(prefix))


def balancing(t: int, obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Keeps gymnasium's inverted pendulum up for a whole episode, not quite quietly."""
    push = obs @ np.array([0.35, 6.0, 0.5, 1.0]) + 0.1 * rng.normal()
    return np.array([np.clip(push, -3, 3)], np.float32)


def policies(task: Task) -> dict[str, Policy]:
    # Beyond the action range, because what happens there is part of the task.
    chosen = {"uniform": uniform(task, 1.3), "waves": waves(task, seed=0, scale=1.2)}
    if "InvertedPendulum" in task.env.spec.name:
        chosen["balancing"] = balancing
    return chosen


def observation_error(port: envs.State, seen: Transitions) -> np.ndarray:
    """Returns the largest difference of each step, (n,)."""
    return np.abs(port.obs - seen.next_obs).max(axis=1)


def test_every_step_of_whole_episodes(task: Task) -> None:
    bounds = bounds_of(task)
    for seed, (name, policy) in enumerate(policies(task).items()):
        seen = record(task.real, policy, STEPS, seed)
        port = task.one_step(seen)
        error = observation_error(port, seen)
        assert np.quantile(error, 0.9) <= bounds.typical, name
        assert error.max() <= bounds.worst, name
        np.testing.assert_allclose(port.reward, seen.reward, rtol=0, atol=bounds.reward)
        np.testing.assert_array_equal(port.terminated, seen.terminated)
        # Not all of it is in the observation: the runners' horizontal position is not.
        np.testing.assert_allclose(
            port.physics.qpos, seen.next_qpos, rtol=1e-6, atol=bounds.worst * 0.05
        )


def test_open_loop(task: Task) -> None:
    bounds = bounds_of(task)
    steps = bounds.open_loop_steps
    is_pendulum = "InvertedPendulum" in task.env.spec.name
    seen = [
        record(
            task.real,
            balancing if is_pendulum else [uniform(task), waves(task, i)][i % 2],
            steps,
            100 + i,
        )
        for i in range(BATCH)
    ]
    assert not any(episode.terminated.any() for episode in seen)

    def across(field: str, t: int) -> np.ndarray:
        return np.stack([getattr(episode, field)[t] for episode in seen])

    state = task.state(across("qpos", 0), across("qvel", 0), across("obs", 0))
    for t in range(steps):
        state = task.step(state, across("action", t))
        message = f"step {t + 1}"
        np.testing.assert_allclose(
            state.obs, across("next_obs", t), rtol=0, atol=bounds.open_loop, err_msg=message
        )
        np.testing.assert_allclose(
            state.reward,
            across("reward", t),
            rtol=0,
            atol=bounds.open_loop_reward,
            err_msg=message,
        )


@pytest.mark.parametrize("version", [4, 5])
def test_inverted_pendulum_falls_when_the_original_does(version: int) -> None:
    task = load(f"gym/InvertedPendulum-v{version}")
    seen = record(task.real, uniform(task), STEPS, seed=7)
    # Otherwise the comparison of flags above would have compared nothing.
    assert seen.terminated.sum() > 50
    port = task.one_step(seen)
    np.testing.assert_array_equal(port.terminated, seen.terminated)
    np.testing.assert_array_equal(port.reward, seen.reward)
    assert set(port.reward[seen.terminated]) == ({1.0} if version == 4 else {0.0})


def test_inverted_pendulum_terminates_when_not_finite() -> None:
    task = load("gym/InvertedPendulum-v5")
    state = task.state(*(np.full((BATCH, n), np.nan) for n in (2, 2, 4)))
    assert np.asarray(task.step(state, np.zeros((BATCH, 1), np.float32)).terminated).all()


@pytest.mark.parametrize("name", ["dmc/cartpole_balance_sparse", "dmc/cartpole_swingup_sparse"])
def test_sparse_cartpole_pays_where_the_original_does(name: str) -> None:
    task = load(name)
    rng = np.random.default_rng(0)
    # Around the edges of both intervals that are paid for.
    starts = rng.uniform([-0.3, -0.13], [0.3, 0.13], (10 * BATCH, 2))
    rewards, rows = [], []
    for qpos in starts:
        obs = task.real.set_state(qpos, np.zeros(2))
        _, reward, _, _ = task.real.step(np.zeros(1))
        rewards.append(reward)
        rows.append((qpos, np.zeros(2), obs))
    assert 0.2 < np.mean(rewards) < 0.8
    for i in range(0, len(rows), BATCH):
        state = task.state(*(np.stack(column) for column in zip(*rows[i : i + BATCH], strict=True)))
        port = task.step(state, np.zeros((BATCH, 1), np.float32))
        np.testing.assert_array_equal(port.reward, rewards[i : i + BATCH])


@pytest.mark.parametrize("name", ["gym/HalfCheetah-v5", "dmc/cheetah_run"])
def test_runners_lose_no_precision_far_from_the_origin(name: str) -> None:
    task = load(name)
    seen = record(task.real, waves(task, seed=3), BATCH, seed=3)
    near = task.one_step(seen)
    far_qpos = seen.qpos + np.where(np.arange(seen.qpos.shape[1]) == 0, 1000.0, 0.0)
    far = task.one_step(dataclasses.replace(seen, qpos=far_qpos))
    np.testing.assert_array_equal(far.obs, near.obs)
    np.testing.assert_array_equal(far.reward, near.reward)
    np.testing.assert_allclose(far.physics.qpos[:, 0] - 1000, near.physics.qpos[:, 0], atol=2e-4)


@pytest.mark.parametrize("name", ONE_PER_MODEL)
def test_solver_limits_move_nothing(name: str) -> None:
    """The lowered limits are no further from the original than the model's own."""
    task = load(name)
    unlimited = envs.make(name, iterations=None, ls_iterations=None)
    assert unlimited.physics.model.opt.iterations > task.env.physics.model.opt.iterations
    step = jax.jit(jax.vmap(unlimited.step), compiler_options=COMPILER_OPTIONS)
    for seed, policy in enumerate(policies(task).values()):
        seen = record(task.real, policy, SLOW_STEPS, 50 + seed)
        lowered = observation_error(task.one_step(seen), seen)
        own = observation_error(task.one_step(seen, step), seen)
        # Rounding differs between two compiled programs, by the few ulps of the floor.
        assert lowered.max() <= 1.5 * own.max() + 1e-6
        assert np.quantile(lowered, 0.99) <= 1.5 * np.quantile(own, 0.99) + 1e-6
