"""Drives SBX, the JAX agents of Stable-Baselines3, on the original simulators."""

from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium
import numpy as np

from envs.originals import make_real
from fpmd_mjx.bench import fresh
from fpmd_mjx.bench.peers.clock import Clock
from fpmd_mjx.run.compile import use_compile_cache
from fpmd_mjx.seeds import reset_seeds

ALGORITHMS = {"sbx_crossq": "CrossQ", "sbx_sac": "SAC", "sbx_tqc": "TQC"}
"""SBX's classes, by the peer's name."""

ENV_STEPS = 1_000_000
"""Of a whole run, as customary for these agents on MuJoCo's tasks."""

EVALUATE_EVERY = 1_000
"""Env steps from one evaluation to the next: one episode of dm_control."""


def train(peer: str, task: str, episodes: int, seed: int, goal: float) -> Iterator[fresh.Record]:
    """Trains an agent of SBX with its published defaults, and yields after every evaluation.

    Args:
        peer: one of `ALGORITHMS`.
        task: a name such as dmc/cheetah_run or gym/Ant-v5.
        episodes: of an evaluation, with the deterministic action.
        seed: of the run.
        goal: mean return of an evaluation from which on a record is `reached`.

    Yields:
        Dicts of return; returns, of the seed, by mode; seeds; reached; env_steps; train_seconds,
        with the steps before the first update; compile_seconds; eval_seconds. Seconds are those so
        far.
    """
    use_compile_cache()
    clock = Clock()
    with clock.compilation():
        agent = make_agent(peer, make_env(task), seed)
        envs = [make_env(task) for _ in range(episodes)]
        for evaluation in range(1, ENV_STEPS // EVALUATE_EVERY + 1):
            with clock.time("train"):
                agent.learn(EVALUATE_EVERY, reset_num_timesteps=False)
            with clock.time("eval"):
                mean = evaluate(agent, envs, reset_seeds([seed], evaluation, episodes)[0])
            yield {
                "return": mean,
                "returns": {"mean_action": [mean]},
                "seeds": [seed],
                "reached": mean >= goal,
                "env_steps": evaluation * EVALUATE_EVERY,
                **{f"{what}_seconds": x for what, x in clock.seconds.items()},
            }


def make_agent(peer: str, env: gymnasium.Env, seed: int) -> Any:
    """An agent with the defaults of its class."""
    import sbx

    return getattr(sbx, ALGORITHMS[peer])("MlpPolicy", env, seed=seed)


def make_env(task: str) -> gymnasium.Env:
    """The original simulator of a task, as gymnasium or dm_control make it."""
    if task.startswith("gym/"):
        return gymnasium.make(task.removeprefix("gym/"))
    return DmControl(task)


def evaluate(agent: Any, envs: Sequence[gymnasium.Env], seeds: Sequence[int]) -> float:
    """The mean return of one episode of each environment, which advance together.

    seeds: of their resets.
    """
    obs = np.stack([env.reset(seed=int(n))[0] for env, n in zip(envs, seeds, strict=True)])
    returns, alive = np.zeros(len(envs)), np.ones(len(envs), bool)
    while alive.any():
        actions, _ = agent.predict(obs, deterministic=True)
        for i, env in enumerate(envs):
            if alive[i]:
                obs[i], reward, terminated, truncated, _ = env.step(actions[i])
                returns[i] += reward
                alive[i] = not (terminated or truncated)
    return float(returns.mean())


class DmControl(gymnasium.Env):
    """A task of dm_control with flat observations. The time limit truncates an episode.

    Actions are in native units: Stable-Baselines3 itself rescales them from [-1, 1].
    """

    def __init__(self, task: str) -> None:
        self._original = make_real(task)
        low, high = self._original.model.actuator_ctrlrange.astype(np.float32).T
        self.action_space = gymnasium.spaces.Box(low, high)
        shape = self._original.reset().shape
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, shape)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        return self._original.reset(seed), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return *self._original.step(action), {}
