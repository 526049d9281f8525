"""Batches of environments against a plain Python model of one environment at a time.

The toy is a counter in pure JAX. Every reset draws a `start`, which stays in the state, so that it
tells one reset state from another; `count` goes up by one a control step, and the reward is the
native action. It terminates where the count reaches `limit`, drawn at the reset, and turns into
`blown_up` where the action exceeds `BOOM`.
"""

import functools
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.base import PhysicsState, State, TaskSpec
from envs.wrappers import Outcome, Repeated, VectorEnv, VectorState, is_sound

LOW, HIGH = -1.0, 5.0  # native action range
BOOM = 4.9
EPISODE = 10


@dataclass(frozen=True)
class Toy:
    """obs: (start, count, limit); limits are drawn from 3 to 16."""

    episode_steps: int = EPISODE
    blown_up: float = float("nan")

    @property
    def spec(self) -> TaskSpec:
        low, high = np.array([LOW], np.float32), np.array([HIGH], np.float32)
        return TaskSpec("toy", 3, 1, low, high, self.episode_steps, 0.1)

    def reset(self, key: jax.Array) -> State:
        start_key, limit_key = jax.random.split(key)
        start = jax.random.uniform(start_key)
        limit = jax.random.randint(limit_key, (), 3, 17).astype(jnp.float32)
        return self._state(start, jnp.float32(0.0), limit, jnp.float32(0.0), jnp.asarray(False))

    def step(self, state: State, action: jax.Array) -> State:
        start, count, limit = state.obs[0], state.obs[1] + 1, state.obs[2]
        terminated = count >= limit
        count = jnp.where(action[0] > BOOM, self.blown_up, count)
        return self._state(start, count, limit, action[0], terminated)

    @staticmethod
    def _state(start: Any, count: Any, limit: Any, reward: Any, terminated: Any) -> State:
        obs = jnp.stack([start, count, limit])
        physics = PhysicsState(qpos=obs[:1], qvel=obs[1:2], qacc_warmstart=jnp.zeros(1))
        return State(physics, obs, reward, terminated)


TOY = Toy()
SEEDS, ENVS, POOL, REFRESH = 2, 7, 12, 5

# LLVM's passes cost more than they save in a program that runs for a second.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@functools.cache
def compiled(repeat: int = 1, envs: int = ENVS, toy: Toy = TOY) -> Any:
    vector = VectorEnv(Repeated(toy, repeat) if repeat > 1 else toy, envs, POOL, REFRESH)
    return vector, jit(vector.init), jit(vector.step), jit(vector.restock)


def keys(seeds: int = SEEDS, first: int = 0) -> jax.Array:
    return jax.random.split(jax.random.key(1), 300)[first : first + seeds]


def host(tree: Any) -> Any:
    return jax.tree.map(np.array, tree)


def native(action: np.ndarray) -> np.ndarray:
    return LOW + (np.clip(action, -1, 1).astype(np.float64) + 1) / 2 * (HIGH - LOW)


# ------------------------------------------------------------------------------ the plain model


@dataclass
class Model:
    """One environment; `pool` is the seed's, as a list that is dealt from the front."""

    obs: list[float]
    left: int  # steps to the time limit
    repeat: int
    whole: bool = False
    rewards: list[float] = field(default_factory=list)
    steps: int = 0

    def step(self, action: float) -> dict[str, Any]:
        start, count, limit = self.obs
        reward, terminated, broken = 0.0, False, False
        for _ in range(self.repeat):
            if terminated:
                break
            count += 1
            reward += action
            broken = broken or action > BOOM
            terminated = not broken and count >= limit
        self.obs = [start, count, limit]
        self.left -= 1
        self.steps += 1
        self.rewards.append(0.0 if broken else reward)
        truncated = not terminated and (broken or self.left <= 0)
        return {
            "reward": self.rewards[-1],
            "terminated": terminated,
            "truncated": truncated,
            "nonfinite": broken,
            "finished": (terminated or truncated) and self.whole,
            "ret": sum(self.rewards),
            "length": self.steps * self.repeat,
        }

    def restart(self, obs: list[float], steps: int) -> None:
        self.obs, self.left, self.whole, self.rewards, self.steps = obs, steps, True, [], 0


class Models:
    """All environments and the pools, in step with a VectorState."""

    def __init__(self, vector: VectorEnv, state: VectorState) -> None:
        self.vector = vector
        limit = vector.episode_steps
        self.envs = [
            [
                Model(obs.tolist(), limit - int(clock), vector.env.spec.action_repeat)
                for obs, clock in zip(*row, strict=True)
            ]
            for row in zip(state.env.obs, state.clock, strict=True)
        ]
        self.pools = state.pool.obs.tolist()
        self.dealt = [0] * len(self.pools)

    def step(self, action: np.ndarray) -> list[list[dict[str, Any]]]:
        outcomes = []
        for s, row in enumerate(self.envs):
            outcomes.append([])
            for e, env in enumerate(row):
                outcomes[s].append(env.step(float(native(action[s, e, 0]))))
                if outcomes[s][e]["terminated"] or outcomes[s][e]["truncated"]:
                    obs = self.pools[s][self.dealt[s] % len(self.pools[s])]
                    self.dealt[s] += 1
                    env.restart(obs, self.vector.episode_steps)
        return outcomes

    @property
    def obs(self) -> np.ndarray:
        return np.array([[env.obs for env in row] for row in self.envs], np.float32)


def actions(rng: np.random.Generator, seeds: int, envs: int, boom_share: float) -> np.ndarray:
    """Beyond [-1, 1] on both sides, but above BOOM only in `boom_share` of them."""
    calm = rng.uniform(-1.3, 0.9, (seeds, envs, 1))
    return np.where(rng.random(calm.shape) < boom_share, 1.3, calm).astype(np.float32)


def compare(models: Models, state: VectorState, outcome: Outcome, wanted: Any) -> None:
    for name in ("terminated", "truncated", "nonfinite", "finished"):
        got = np.array(getattr(outcome, name))
        np.testing.assert_array_equal(got, [[env[name] for env in row] for row in wanted], name)
    for name in ("reward", "ret"):
        got = np.array(getattr(outcome, name))
        exact = [[env[name] for env in row] for row in wanted]
        np.testing.assert_allclose(got, exact, rtol=1e-5, atol=1e-5, err_msg=name)
    for s, e in np.argwhere(outcome.finished):  # a first, shortened episode has no length
        assert outcome.length[s, e] == wanted[s][e]["length"]
    np.testing.assert_array_equal(state.env.obs, models.obs)


# ---------------------------------------------------------------------------------------- tests


@pytest.mark.parametrize("boom_share", [0.0, 0.1])
@pytest.mark.parametrize("repeat", [1, 3])
def test_episodes_equal_the_plain_model(repeat: int, boom_share: float) -> None:
    """Rewards, ends, returns, lengths, and which reset state follows an end."""
    vector, init, step, restock = compiled(repeat)
    state = host(init(keys()))
    models, rng = Models(vector, state), np.random.default_rng(0)
    seen = dict.fromkeys(("terminated", "truncated", "nonfinite", "finished"), 0)
    for t in range(200):
        if t % 25 == 24:
            state = host(restock(state, keys(first=t)))
            models.pools = state.pool.obs.tolist()
        action = actions(rng, SEEDS, ENVS, boom_share)
        wanted = models.step(action)
        state, outcome = host(step(state, action))
        compare(models, state, outcome, wanted)
        assert not np.any(outcome.terminated & outcome.truncated)
        for name in seen:
            seen[name] += int(getattr(outcome, name).sum())
    assert min(seen["terminated"], seen["truncated"], seen["finished"]) > 20
    assert (seen["nonfinite"] > 20) == (boom_share > 0)
    assert min(models.dealt) > 3 * POOL  # the pool went round


# The last is where C MuJoCo, too, gives a simulation up.
@pytest.mark.parametrize("blown_up", [np.nan, np.inf, -1.1e10])
def test_what_blows_up_is_reset_alone(blown_up: float) -> None:
    _, init, step, _ = compiled(toy=Toy(blown_up=blown_up))
    state = host(init(keys()))
    state.clock[:] = 0
    state.env.obs[..., 1:] = (0.0, 9.0)
    calm = np.zeros((SEEDS, ENVS, 1), np.float32)
    before, _ = host(step(state, calm))
    action = calm.copy()
    action[1, 2] = 1.0
    after, outcome = host(step(before, action))
    hit = np.zeros((SEEDS, ENVS), bool)
    hit[1, 2] = True
    for name in ("nonfinite", "truncated"):
        np.testing.assert_array_equal(getattr(outcome, name), hit)
    assert not np.any(outcome.terminated)
    np.testing.assert_array_equal(outcome.reward, np.where(hit, 0.0, 2.0))
    np.testing.assert_array_equal(outcome.ret, np.where(hit, 2.0, 4.0))
    np.testing.assert_array_equal(after.env.obs[1, 2], state.pool.obs[1, 0])
    np.testing.assert_array_equal(after.env.obs[~hit][:, 1], 2.0)
    np.testing.assert_array_equal(after.clock, np.where(hit, 0, 2))
    np.testing.assert_array_equal(after.dealt, [0, 1])
    assert np.all(is_sound(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), after.env)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.1e10, -1.1e10])
def test_every_number_of_a_state_is_looked_at(value: float) -> None:
    clean = host(jit(jax.vmap(Toy().reset))(jax.random.split(jax.random.key(0), 5)))
    assert np.all(is_sound(clean))
    leaves, structure = jax.tree.flatten(clean)
    for i, leaf in enumerate(leaves):  # the toy remembers nothing: these are all looked at
        if leaf.dtype == bool:
            continue
        broken = leaf.copy()
        broken.reshape(5, -1)[3, -1] = value
        state = jax.tree.unflatten(structure, [*leaves[:i], broken, *leaves[i + 1 :]])
        np.testing.assert_array_equal(is_sound(state), [True, True, True, False, True])


@pytest.mark.parametrize(("repeat", "steps"), [(1, EPISODE), (3, 4), (5, 2)])
def test_the_time_limit_is_in_control_steps(repeat: int, steps: int) -> None:
    spec = Repeated(Toy(), repeat).spec
    assert (spec.episode_steps, spec.action_repeat) == (steps, repeat)
    assert spec.control_dt == pytest.approx(repeat * Toy().spec.control_dt)
    assert VectorEnv(Repeated(Toy(), repeat), ENVS).episode_steps == steps


def test_clocks_start_desynchronised() -> None:
    envs = 400
    vector = VectorEnv(Toy(), envs)
    clock = np.array(jit(vector.init)(keys()).clock)
    assert clock.min() == 0
    assert clock.max() == EPISODE - 1
    for row in clock:  # 40 a step expected
        assert np.all(np.abs(np.bincount(row) - envs / EPISODE) < 5 * np.sqrt(envs / EPISODE))
    assert np.mean(clock[0] == clock[1]) < 0.2


def test_first_episodes_are_short_and_do_not_count() -> None:
    """Without terminations an environment is truncated when its clock runs out, then regularly."""
    _, init, step, _ = compiled(envs=50)
    state = host(init(keys()))
    state.env.obs[..., 2] = state.pool.obs[..., 2] = 1e6  # no terminations, at the pool's size too
    clock = state.clock
    for t in range(1, 3 * EPISODE):
        state, outcome = host(step(state, np.zeros((SEEDS, 50, 1), np.float32)))
        np.testing.assert_array_equal(outcome.truncated, (clock + t) % EPISODE == 0)
        np.testing.assert_array_equal(
            outcome.finished, outcome.truncated & (clock + t >= 2 * EPISODE)
        )
        np.testing.assert_array_equal(outcome.length[outcome.finished], EPISODE)
        np.testing.assert_allclose(outcome.ret[outcome.finished], EPISODE * 2.0)


def test_every_reset_state_is_drawn_on_its_own() -> None:
    _, init, _, restock = compiled()
    state = host(init(keys()))
    fresh = host(restock(state, keys(first=50)))
    starts = [state.env.obs[..., 0], state.pool.obs[..., 0], fresh.pool.obs[:, :REFRESH, 0]]
    drawn = np.concatenate([x.ravel() for x in starts])
    assert np.unique(drawn).size == drawn.size == SEEDS * (ENVS + POOL + REFRESH)


def test_a_start_that_blew_up_is_replaced() -> None:
    class Fragile(Toy):
        def reset(self, key: jax.Array) -> State:
            start = super().reset(key)
            blown_up = jnp.where(start.obs[0] < 0.5, jnp.nan, start.obs)
            return start.replace(obs=blown_up)

    states = host(jit(VectorEnv(Fragile(), ENVS).reset, static_argnums=1)(keys(), 40))
    assert np.isfinite(states.obs).all()
    for row in states.obs[..., 0]:
        assert 10 < np.unique(row).size < 30  # about half of them are sound


@dataclass(frozen=True)
class Forgetful(Toy):
    """The toy, which remembers a record that no number has set yet."""

    @staticmethod
    def _state(*args: Any) -> State:
        return Toy._state(*args).replace(task={"best": jnp.float32(-jnp.inf), "at": jnp.int32(0)})


def test_what_a_task_remembers_may_be_no_number() -> None:
    """Episodes and starts are those of the same task without a memory."""
    _, init, step, _ = compiled()
    _, init_too, step_too, _ = compiled(toy=Forgetful())
    states = [host(init(keys())), host(init_too(keys()))]
    rng = np.random.default_rng(2)
    for _ in range(30):
        action = actions(rng, SEEDS, ENVS, 0.1)
        (states[0], wanted), (states[1], found) = (
            host(each(state, action)) for each, state in zip((step, step_too), states, strict=True)
        )
        for name in ("reward", "terminated", "truncated", "finished", "nonfinite"):
            np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), name)
        np.testing.assert_array_equal(states[1].env.obs, states[0].env.obs)
        np.testing.assert_array_equal(states[1].pool.obs, states[0].pool.obs)


def test_starts_that_all_blew_up_stay_as_they_are_and_are_counted() -> None:
    """None stands in for the others: each is its own, and its first step says that it blew up."""

    class Broken(Toy):
        def reset(self, key: jax.Array) -> State:
            start = super().reset(key)
            qvel = jnp.full_like(start.physics.qvel, jnp.nan)
            return start.replace(physics=start.physics.replace(qvel=qvel))

        def step(self, state: State, action: jax.Array) -> State:
            after = super().step(state, action)
            return after.replace(reward=after.reward + state.physics.qvel[0])

    vector = VectorEnv(Broken(), ENVS, POOL, REFRESH)
    states = host(jit(vector.reset, static_argnums=1)(keys(), 20))
    assert np.unique(states.obs[..., 0]).size == SEEDS * 20
    start = jit(vector.init)(keys())
    _, outcome = host(jit(vector.step)(start, np.zeros((SEEDS, ENVS, 1), np.float32)))
    assert np.all(outcome.nonfinite)
    np.testing.assert_array_equal(outcome.reward, 0.0)


def test_restocking_replaces_the_oldest() -> None:
    _, init, _, restock = compiled()
    state = host(init(keys()))
    oldest_first = list(range(POOL))
    for first in range(10, 24, 2):
        after = host(restock(state, keys(first=first)))
        replaced, oldest_first = oldest_first[:REFRESH], oldest_first[REFRESH:]
        oldest_first += replaced
        for row in np.any(after.pool.obs != state.pool.obs, axis=-1):
            np.testing.assert_array_equal(np.flatnonzero(row), sorted(replaced))
        np.testing.assert_array_equal(after.pool.obs[..., :1], after.pool.physics.qpos)
        for a, b in zip(*map(jax.tree.leaves, (state.env, after.env)), strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(after.dealt, state.dealt)
        state = after


def test_a_seed_behaves_alone_as_beside_others() -> None:
    """Bit for bit: its own keys, its own pool."""
    seeds, rng = 3, np.random.default_rng(1)
    _, init, step, restock = compiled()
    together, alone = init(keys(seeds)), init(keys(1, first=1))
    for t in range(60):
        if t % 20 == 19:
            together = restock(together, keys(seeds, first=t))
            alone = restock(alone, keys(1, first=t + 1))
        action = actions(rng, seeds, ENVS, 0.05)
        together, outcome = step(together, action)
        alone, lonely = step(alone, action[1:2])
        for a, b in zip(*map(jax.tree.leaves, ((together, outcome), (alone, lonely))), strict=True):
            np.testing.assert_array_equal(a[1], b[0])


def test_the_physics_alone_does_not_reset() -> None:
    vector, init, _, _ = compiled()
    state = host(init(keys()))
    state.env.obs[..., 1:] = (8.0, 9.0)
    after = jit(vector.physics)(state.env, np.full((SEEDS, ENVS, 1), -5.0, np.float32))
    np.testing.assert_array_equal(after.obs[..., 1], 9.0)
    np.testing.assert_array_equal(after.reward, LOW)
    assert np.all(after.terminated)


def test_the_repeat_stops_at_a_termination() -> None:
    """Two of three control steps: two rewards, and the state in which the task ended."""
    vector, init, _, _ = compiled(3)
    state = host(init(keys()))
    state.env.obs[..., 1:] = (7.0, 9.0)
    state.env.obs[:, 0, 2] = 10.0  # ends with the third
    state.env.obs[:, 1, 2] = 11.0  # does not end
    after = host(jit(vector.physics)(state.env, np.full((SEEDS, ENVS, 1), 0.5, np.float32)))
    np.testing.assert_array_equal(after.obs[..., 1], np.tile([10.0, 10] + [9.0] * 5, (SEEDS, 1)))
    np.testing.assert_allclose(after.reward, np.tile([10.5, 10.5] + [7.0] * 5, (SEEDS, 1)))
    np.testing.assert_array_equal(after.terminated, np.tile([True, False] + [True] * 5, (SEEDS, 1)))
