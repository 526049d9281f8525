"""The records of SBX's agents, with an agent of our own, and the simulators that they train on."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from envs.originals import dm_control_suite
from fpmd_mjx.bench.peers import sbx


class Line(gymnasium.Env):
    """Terminates after `length` steps. The rewards are the actions."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,))
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, length: int = 3) -> None:
        self.length = length
        self.seeds: list[int | None] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.seeds.append(seed)
        self.left = self.length
        return np.zeros(1, np.float32), {}

    def step(self, action: np.ndarray) -> Any:
        assert self.left > 0
        self.left -= 1
        return np.full(1, self.left, np.float32), action[0], self.left == 0, False, {}


class Agent:
    """Acts better after each call of `learn`, which takes 5 s; a call of `predict` takes 1 s."""

    def __init__(self) -> None:
        self.calls = 0
        self.now = 0.0

    def learn(self, total_timesteps: int, reset_num_timesteps: bool) -> None:
        assert (total_timesteps, reset_num_timesteps) == (sbx.EVALUATE_EVERY, False)
        self.calls += 1
        self.now += 5.0

    def predict(self, obs: np.ndarray, deterministic: bool) -> tuple[np.ndarray, None]:
        assert deterministic
        self.now += 1.0
        return np.full((len(obs), 1), self.calls, np.float32), None


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[Line]:
    """The environments that were made, for an agent of our own."""
    made: list[Line] = []

    def make_env(task: str) -> Line:
        assert task == "dmc/a"
        made.append(Line())
        return made[-1]

    agent = Agent()

    def make_agent(peer: str, env: Line, seed: int) -> Agent:
        assert (peer, env, seed) == ("sbx_sac", made[0], 3)
        return agent

    monkeypatch.setattr(sbx, "make_env", make_env)
    monkeypatch.setattr(sbx, "make_agent", make_agent)
    monkeypatch.setattr(sbx, "use_compile_cache", lambda: None)
    monkeypatch.setattr("time.perf_counter", lambda: agent.now)
    return made


def test_a_record_after_every_evaluation(
    lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sbx, "ENV_STEPS", 3 * sbx.EVALUATE_EVERY)
    found = list(sbx.train("sbx_sac", "dmc/a", 2, 3, 6.0))
    assert [x["env_steps"] for x in found] == [sbx.EVALUATE_EVERY * i for i in (1, 2, 3)]
    assert [(x["return"], x["reached"]) for x in found] == [(3.0, False), (6.0, True), (9.0, True)]
    assert found[0]["returns"] == {"mean_action": [3.0]}
    assert found[0]["seeds"] == [3]
    for i, record in enumerate(found, 1):
        assert record["train_seconds"] == 5.0 * i
        assert record["eval_seconds"] == 3.0 * i
        assert record["compile_seconds"] == 0.0
    assert len(lines) == 3
    starts = [*lines[1].seeds, *lines[2].seeds]
    assert len(set(starts)) == 6  # no two episodes of evaluations start alike


def test_an_evaluation_is_one_whole_episode_of_each() -> None:
    agent = Agent()
    agent.calls = 1
    assert sbx.evaluate(agent, [Line(2), Line(7), Line(3)], [0, 1, 2]) == 4.0


def test_the_time_limit_of_dm_control_truncates() -> None:
    env = sbx.make_env("dmc/pendulum_swingup")
    obs, _ = env.reset(seed=0)
    assert env.observation_space.contains(obs)
    steps = [env.step(env.action_space.sample()) for _ in range(1000)]
    assert [x[3] for x in steps] == [False] * 999 + [True]
    assert not any(x[2] for x in steps)
    first = [env.reset(seed=5)[0] for _ in range(2)]
    assert np.array_equal(*first)
    assert not np.array_equal(env.reset()[0], first[0])


@pytest.mark.parametrize("task", ["cheetah_run", "finger_spin", "quadruped_walk"])
def test_actions_have_the_bounds_of_dm_control(task: str) -> None:
    spec = dm_control_suite().load(*task.split("_")).action_spec()
    space = sbx.make_env(f"dmc/{task}").action_space
    assert space.shape == spec.shape
    assert np.array_equal(space.low, spec.minimum.astype(np.float32))
    assert np.array_equal(space.high, spec.maximum.astype(np.float32))


def test_tasks_of_gymnasium_are_its_own() -> None:
    env = sbx.make_env("gym/InvertedPendulum-v5")
    assert env.spec.id == "InvertedPendulum-v5"
    assert env.spec.max_episode_steps == 1000
