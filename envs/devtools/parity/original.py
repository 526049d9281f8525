"""Episodes of the original simulators, with all of the state that a port needs."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any, TypeVar

import jax
import numpy as np

from ...base import Env
from ...originals import RealEnv
from .controllers import Policy

S = TypeVar("S", bound="Starts")


@dataclasses.dataclass(frozen=True)
class Starts:
    """Everything that a control step of the original depends on, (n, ...) each.

    Attributes:
        qpos, qvel, act, warmstart: the physics.
        task: the port's `State.task`, a tree of (n, ...) arrays or None.
        obs: the observation.
    """

    qpos: np.ndarray
    qvel: np.ndarray
    act: np.ndarray
    warmstart: np.ndarray
    task: Any
    obs: np.ndarray

    def take(self: S, rows: np.ndarray) -> S:
        """Returns some rows."""
        fields = [field.name for field in dataclasses.fields(self)]
        return type(self)(
            **{x: jax.tree.map(lambda leaf: leaf[rows], getattr(self, x)) for x in fields}
        )


@dataclasses.dataclass(frozen=True)
class Steps(Starts):
    """Control steps of the original, (n, ...) each, in order; episodes follow one another.

    Attributes:
        action: as it was sent.
        next_qpos, next_qvel, next_obs, reward, terminated, truncated: after the step.
        episode, t: number of the episode, and of the step in it, from 0.
        contacts: number of contacts.
    """

    action: np.ndarray
    next_qpos: np.ndarray
    next_qvel: np.ndarray
    next_obs: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    episode: np.ndarray
    t: np.ndarray
    contacts: np.ndarray

    def __len__(self) -> int:
        return len(self.reward)

    def sample(self, count: int) -> Steps:
        """Returns `count` evenly spaced steps, and the last one of each episode."""
        spread = np.linspace(0, len(self) - 1, min(count, len(self))).astype(int)
        last = np.flatnonzero(np.diff(self.episode, append=-1))
        return self.take(np.union1d(spread, last))


def start_of(env: Env, real: RealEnv, obs: np.ndarray) -> dict[str, Any]:
    """Returns the state of the original now, unbatched, by the names in `Starts`."""
    return {
        "qpos": real.qpos,
        "qvel": real.qvel,
        "act": real.act,
        "warmstart": real.data.qacc_warmstart.copy(),
        # A copy, because it may be a view of the original's memory.
        "task": jax.tree.map(np.array, env.task_from_original(real.model, real.data)),
        "obs": obs,
    }


def stack(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Stacks rows to one tree of (n, ...) arrays."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)


def record(
    env: Env,
    real: RealEnv,
    played: Iterable[Policy],
    episodes: int,
    seed: int,
    longest: int | None = None,
) -> Steps:
    """Plays the original.

    Args:
        env: the port, for its `State.task`.
        real: the original.
        played: policies; the episodes take them in turn.
        episodes: number of episodes.
        seed: of the original's resets and of the policies.
        longest: steps after which an episode is cut short; None plays it to its end.
    """
    turns = itertools.cycle(played)
    rows = []
    for episode in range(episodes):
        policy, rng = next(turns), np.random.default_rng([seed, episode])
        obs = real.reset(seed if episode == 0 else None)
        t, over = 0, False
        while not over and t != longest:
            row = start_of(env, real, obs)
            action = policy(t, row["qpos"], row["qvel"], rng)
            obs, reward, terminated, truncated = real.step(action)
            row |= {
                "action": action,
                "next_qpos": real.qpos,
                "next_qvel": real.qvel,
                "next_obs": obs,
                "reward": reward,
                "terminated": terminated,
                "truncated": truncated,
                "episode": episode,
                "t": t,
                "contacts": real.data.ncon,
            }
            rows.append(row)
            t, over = t + 1, terminated or truncated
    return Steps(**stack(rows))
