"""The ring on the device against a replay that is lists of episodes in plain Python.

Every row carries (seed, env, time) in its observation, so a drawn transition says which row it is,
and all that it holds must equal what the episodes say of that row. As images, observations are
what an agent that keeps the last `frames` of them saw.
"""

import dataclasses
import functools
import random
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from fpmd_mjx.data import replay
from fpmd_mjx.data.replay import Batch, Replay, Rows
from fpmd_mjx.program import SEED_AXES

SEEDS, ENVS, CAPACITY, GAMMA = 2, 3, 16, 0.9
DRAWS = (4, 256)  # (updates, batch): 21 draws for every row of a full ring

insert = jax.jit(jax.vmap(replay.insert, in_axes=(SEED_AXES, 0), out_axes=SEED_AXES))


@functools.cache
def sampler(n_step: int, frames: int) -> Any:
    def sample(ring: Replay, key: jax.Array) -> Batch:
        return replay.sample(ring, key, DRAWS, n_step, GAMMA, frames)

    return jax.jit(jax.vmap(sample, in_axes=(SEED_AXES, 0)))


# ----------------------------------------------------------------------------- the plain replay


@dataclass
class Step:
    time: int
    reward: float


@dataclass
class Episode:
    steps: list[Step] = field(default_factory=list)
    end: str = ""  # "", "terminated" or "truncated"


@dataclass(frozen=True)
class Expected:
    """What a transition that starts at some row must hold; next_seen: None if it has none."""

    seen: list[int]
    reward: float
    discount: float
    next_seen: list[int] | None


@dataclass
class PlainReplay:
    """All that ever happened to one environment."""

    episodes: list[Episode] = field(default_factory=lambda: [Episode()])
    now: int = 0

    def add(self, reward: float, end: str) -> None:
        self.episodes[-1].steps.append(Step(self.now, reward))
        self.now += 1
        if end:
            self.episodes[-1].end = end
            self.episodes.append(Episode())

    def transitions(self, n_step: int, frames: int) -> dict[int, Expected | None]:
        """By the time of its first row: every transition that may be drawn; None where the row
        must be masked."""
        allowed = range(max(0, self.now - CAPACITY) + frames - 1, self.now - n_step)
        found: dict[int, Expected | None] = {}
        for episode in self.episodes:
            for i, step in enumerate(episode.steps):
                if step.time in allowed:
                    found[step.time] = self._transition(episode, i, n_step, frames)
        assert sorted(found) == list(allowed)
        return found

    @staticmethod
    def _transition(episode: Episode, i: int, n_step: int, frames: int) -> Expected | None:
        def seen(i: int) -> list[int]:
            """Times of the last images, the first of the episode again before it began."""
            return [episode.steps[max(i - age, 0)].time for age in reversed(range(frames))]

        ahead = episode.steps[i:]
        if episode.end == "terminated" and len(ahead) <= n_step:
            reward = sum(GAMMA**k * step.reward for k, step in enumerate(ahead))
            return Expected(seen(i), reward, 0.0, None)
        # as far as there is an observation of this episode to bootstrap from
        k = min(n_step, len(ahead) - 1)
        if k == 0:
            return None
        reward = sum(GAMMA**j * step.reward for j, step in enumerate(ahead[:k]))
        return Expected(seen(i), reward, GAMMA**k, seen(i + k))


class Pair:
    """The ring and the plain replays, fed with the same random rows; frames: 0 for vectors."""

    def __init__(self, seed: int, end_share: float, frames: int = 0) -> None:
        self.images, self.frames = frames > 0, max(frames, 1)
        shape = (frames, 1, 2, 3) if self.images else (3,)
        one = replay.empty(CAPACITY, ENVS, shape, 2)
        tiled = jax.tree.map(lambda x: jnp.broadcast_to(x, (SEEDS, *x.shape)), one.rows)
        self.ring = one.replace(rows=tiled)
        self.plain = [[PlainReplay() for _ in range(ENVS)] for _ in range(SEEDS)]
        self.random = random.Random(seed)
        self.end_share = end_share
        self.time = 0

    def step(self) -> None:
        shape = (SEEDS, ENVS)
        obs = np.zeros((*shape, 3), np.float32)
        image = np.zeros((*shape, 1, 2, 3), np.uint8)
        action, reward = np.zeros((*shape, 2), np.float32), np.zeros(shape, np.float32)
        ends = np.full(shape, "", object)
        for s, e in np.ndindex(shape):
            obs[s, e] = (s, e, self.time)
            image[s, e] = [[(s, e, 0), (self.time // 256, self.time % 256, 0)]]
            action[s, e] = self.action(s, e, self.time)
            reward[s, e] = self.random.uniform(-1, 1)
            if self.random.random() < self.end_share:
                ends[s, e] = self.random.choice(["terminated", "truncated"])
            self.plain[s][e].add(float(reward[s, e]), ends[s, e])
        row = Rows(
            image if self.images else obs, action, reward, ends == "terminated", ends == "truncated"
        )
        self.ring = insert(self.ring, row)
        self.time += 1

    @staticmethod
    def action(seed: int, env: int, time: int) -> tuple[float, float]:
        return 0.5 * seed - 0.25 * env, 0.125 * (time % 31)

    def seen(self, obs: np.ndarray) -> tuple[int, int, list[int]]:
        """Seed, environment and times of an observation."""
        if not self.images:
            return int(obs[0]), int(obs[1]), [int(obs[2])]
        assert (obs[:, 0, 0] == obs[0, 0, 0]).all(), "images of two environments"
        times = obs[:, 0, 1].astype(int)
        return *obs[0, 0, 0, :2].tolist(), (256 * times[:, 0] + times[:, 1]).tolist()

    def draw(self, n_step: int) -> Batch:
        keys = jax.random.split(jax.random.key(self.time), SEEDS)
        return jax.tree.map(np.array, sampler(n_step, self.frames)(self.ring, keys))

    def check(self, n_step: int) -> None:
        batch = self.draw(n_step)
        assert batch.reward.shape == (SEEDS, *DRAWS)
        for s in range(SEEDS):
            rows = jax.tree.map(lambda x, s=s: x[s].reshape(-1, *x.shape[3:]), batch)
            wanted = [env.transitions(n_step, self.frames) for env in self.plain[s]]
            seen = set()
            for i in range(rows.reward.size):
                seed, env, times = self.seen(rows.obs[i])
                time = times[-1]
                assert seed == s
                assert time in wanted[env], "a row that the ring no longer holds, or not yet"
                seen.add((env, time))
                assert tuple(rows.action[i]) == self.action(s, env, time)
                row = wanted[env][time]
                assert rows.mask[i] == (row is not None)
                if row is None:
                    continue
                assert times == row.seen
                # float32 sums of up to five rewards
                assert abs(rows.reward[i] - row.reward) < 1e-6
                assert abs(rows.discount[i] - row.discount) < 1e-6
                if row.next_seen is not None:
                    assert self.seen(rows.next_obs[i]) == (s, env, row.next_seen)
            assert seen == {(e, t) for e in range(ENVS) for t in wanted[e]}


# ---------------------------------------------------------------------------------------- tests


@pytest.mark.parametrize("n_step", [1, 3, 5])
@pytest.mark.parametrize("end_share", [0.0, 0.15, 0.6])
@pytest.mark.parametrize("frames", [0, 1, 3])
def test_samples_equal_the_plain_replay(n_step: int, end_share: float, frames: int) -> None:
    """From the first row that can be drawn, across the first wrap, to the third."""
    pair = Pair(n_step, end_share, frames)
    first = n_step + max(frames, 1)
    while pair.time < 3 * CAPACITY + 3:
        pair.step()
        turning = abs(pair.time - CAPACITY) <= 2
        if pair.time == first or turning or (pair.time > first and pair.time % 7 == 0):
            pair.check(n_step)


@pytest.mark.parametrize("frames", [0, 3])
def test_thousands_of_rows_later(frames: int) -> None:
    pair = Pair(0, 0.2, frames)
    for _ in range(1500):
        pair.step()
    for n_step in (1, 3, 5):
        pair.check(n_step)


def test_head_and_size() -> None:
    pair = Pair(seed=0, end_share=0.0)
    for count in range(2 * CAPACITY + 2):
        assert int(pair.ring.head) == count % CAPACITY
        assert int(pair.ring.size) == min(count, CAPACITY)
        pair.step()


def test_an_insert_changes_one_row() -> None:
    pair = Pair(seed=0, end_share=0.3)
    for _ in range(CAPACITY + 5):
        pair.step()
    before, head = jax.tree.map(np.array, pair.ring.rows), int(pair.ring.head)
    pair.step()
    after = jax.tree.map(np.array, pair.ring.rows)
    for name in (f.name for f in dataclasses.fields(Rows)):
        old, new = (np.delete(getattr(rows, name), head, axis=1) for rows in (before, after))
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(after.obs[:, head, :, 2], pair.time - 1)


def test_draws_are_uniform_and_independent_of_other_seeds() -> None:
    pair = Pair(seed=0, end_share=0.1)
    for _ in range(CAPACITY + 6):
        pair.step()
    times = np.stack([pair.draw(1).obs])[0].reshape(SEEDS, -1, 3)
    rows = [(seed[:, 1] * 1000 + seed[:, 2]).astype(int) for seed in times]
    for seed in rows:
        _, counts = np.unique(seed, return_counts=True)
        assert counts.size == ENVS * (CAPACITY - 1)
        assert scipy.stats.chisquare(counts).pvalue > 1e-3
    assert np.mean(rows[0] == rows[1]) < 0.1  # 1/45 by chance
    # environment and time of a draw are independent, and so are the draws of two updates
    table = np.histogram2d(times[0, :, 1], times[0, :, 2], bins=[ENVS, CAPACITY - 1])[0]
    assert scipy.stats.chi2_contingency(table).pvalue > 1e-3
    updates = rows[0].reshape(DRAWS)
    assert np.mean(updates[0] == updates[1]) < 0.1


def test_rows_keep_their_dtypes() -> None:
    ring = replay.empty(CAPACITY, ENVS, (3,), 2)
    row = Rows(
        obs=jnp.ones((ENVS, 3), jnp.bfloat16),
        action=jnp.ones((ENVS, 2), jnp.bfloat16),
        reward=jnp.ones(ENVS, jnp.int32),
        terminated=jnp.ones(ENVS, bool),
        truncated=jnp.zeros(ENVS, bool),
    )
    after = jax.jit(replay.insert)(ring, row)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype), ring
    )
