"""Batches of environments against a plain Python model of one environment at a time.

The toy is a counter in pure JAX. Every reset draws a `start`, which stays in the state, so that it
tells one reset state from another; `count` goes up by one a control step, and the reward is the
native action. It terminates where the count reaches `limit`, drawn at the reset, and turns into
`blown_up` where the action exceeds `BOOM`.
"""

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from envs.base import PhysicsState, State, TaskSpec
from envs.originals import RepeatedReal
from envs.wrappers import Outcome, Repeated, VectorEnv, VectorState, is_sound

from .harness import on_c

LOW, HIGH = -1.0, 5.0  # native action range
BOOM = 4.9
EPISODE = 10


@dataclass(frozen=True)
class Toy:
    """obs: (start, count, limit); limits are drawn from `limits`, without the last."""

    episode_steps: int = EPISODE
    limits: tuple[int, int] = (3, 17)
    blown_up: float = float("nan")

    @property
    def spec(self) -> TaskSpec:
        low, high = np.array([LOW], np.float32), np.array([HIGH], np.float32)
        return TaskSpec("toy", 3, 1, low, high, self.episode_steps, 0.1)

    def reset(self, key: jax.Array) -> State:
        start_key, limit_key = jax.random.split(key)
        start = jax.random.uniform(start_key)
        limit = jax.random.randint(limit_key, (), *self.limits).astype(jnp.float32)
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
def compiled(
    repeat: int = 1, envs: int = ENVS, toy: Toy = TOY, pool: int = POOL, refresh: int = REFRESH
) -> Any:
    vector = VectorEnv(Repeated(toy, repeat) if repeat > 1 else toy, envs, pool, refresh)
    return vector, jit(vector.init), jit(vector.step)


def keys(seeds: int = SEEDS, first: int = 0) -> jax.Array:
    return jax.random.split(jax.random.key(1), 300)[first : first + seeds]


def host(tree: Any) -> Any:
    """NumPy arrays of all but keys."""

    def array(leaf: Any) -> Any:
        return leaf if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else np.array(leaf)

    return jax.tree.map(array, tree)


def native(action: np.ndarray) -> np.ndarray:
    return LOW + (np.clip(action, -1, 1).astype(np.float64) + 1) / 2 * (HIGH - LOW)


# ------------------------------------------------------------------------------ the plain model


@dataclass
class Model:
    """One environment."""

    obs: list[float]
    left: int  # steps to the time limit
    repeat: int
    limit: int  # control steps
    played: int = 0  # control steps
    whole: bool = False
    rewards: list[float] = field(default_factory=list)
    steps: int = 0

    def step(self, action: float) -> dict[str, Any]:
        start, count, limit = self.obs
        reward, terminated, broken = 0.0, False, False
        for _ in range(self.repeat):
            if terminated or self.played == self.limit:
                break
            self.played += 1
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
            "length": min(self.steps * self.repeat, self.limit),
            "final_obs": self.obs,
        }

    def restart(self, obs: list[float], steps: int) -> None:
        self.obs, self.left, self.whole, self.rewards, self.steps = obs, steps, True, [], 0
        self.played = 0


class Models:
    """All environments, and the starts of each seed in their order."""

    def __init__(self, vector: VectorEnv, state: VectorState) -> None:
        self.vector = vector
        limit = vector.episode_steps
        self.envs = [
            [
                Model(obs.tolist(), limit - int(clock), vector.env.spec.action_repeat, EPISODE)
                for obs, clock in zip(*row, strict=True)
            ]
            for row in zip(state.env.obs, state.clock, strict=True)
        ]
        self.starts = [starts(vector, state.starts.keys[s : s + 1]) for s in range(len(self.envs))]
        self.begun = [0] * len(self.envs)

    def step(self, action: np.ndarray) -> list[list[dict[str, Any]]]:
        outcomes = []
        for s, row in enumerate(self.envs):
            outcomes.append([])
            for e, env in enumerate(row):
                outcomes[s].append(env.step(float(native(action[s, e, 0]))))
                if outcomes[s][e]["terminated"] or outcomes[s][e]["truncated"]:
                    self.begun[s] += 1
                    env.restart(next(self.starts[s]), self.vector.episode_steps)
        return outcomes

    @property
    def obs(self) -> np.ndarray:
        return np.array([[env.obs for env in row] for row in self.envs], np.float32)


def starts(vector: VectorEnv, key: jax.Array) -> Iterator[list[float]]:
    """Yields the observations of one seed's starts; key: (1,), as after `init`."""
    reset = jit(vector.reset, static_argnums=1)
    while True:
        split = jax.random.split(key[0])
        yield from host(reset(split[:1], vector.refresh)).obs[0].tolist()
        key = split[1:]


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
    final = np.array([[env["final_obs"] for env in row] for row in wanted], np.float32)
    sound = ~outcome.nonfinite
    np.testing.assert_array_equal(outcome.final_obs[sound], final[sound])
    assert not outcome.reused.any()


# ---------------------------------------------------------------------------------------- tests


@pytest.mark.parametrize("boom_share", [0.0, 0.1])
@pytest.mark.parametrize("repeat", [1, 3])
def test_episodes_equal_the_plain_model(repeat: int, boom_share: float) -> None:
    """Rewards, ends, returns, lengths, and which reset state follows an end."""
    vector, init, step = compiled(repeat)
    state = host(init(keys()))
    models, rng = Models(vector, state), np.random.default_rng(0)
    seen = dict.fromkeys(("terminated", "truncated", "nonfinite", "finished"), 0)
    for _ in range(200):
        action = actions(rng, SEEDS, ENVS, boom_share)
        wanted = models.step(action)
        state, outcome = host(step(state, action))
        compare(models, state, outcome, wanted)
        assert not np.any(outcome.terminated & outcome.truncated)
        for name in seen:
            seen[name] += int(getattr(outcome, name).sum())
    assert min(seen["terminated"], seen["truncated"], seen["finished"]) > 20
    assert (seen["nonfinite"] > 20) == (boom_share > 0)
    assert min(models.begun) > 3 * (POOL + REFRESH)  # the ring went round


# The last is where C MuJoCo, too, gives a simulation up.
@pytest.mark.parametrize("blown_up", [np.nan, np.inf, -1.1e10])
def test_what_blows_up_is_reset_alone(blown_up: float) -> None:
    vector, init, step = compiled(toy=Toy(blown_up=blown_up))
    state = host(init(keys()))
    next_start = next(starts(vector, state.starts.keys[1:]))
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
    np.testing.assert_array_equal(after.env.obs[1, 2], np.float32(next_start))
    np.testing.assert_array_equal(after.env.obs[~hit][:, 1], 2.0)
    np.testing.assert_array_equal(after.clock, np.where(hit, 0, 2))
    # The other seed draws along.
    np.testing.assert_array_equal(after.starts.ready, [REFRESH, REFRESH - 1])
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


def test_a_repeat_of_a_repeat_is_one_repeat() -> None:
    twice, once = Repeated(Repeated(Toy(), 2), 2), Repeated(Toy(), 4)
    assert twice.spec.control_steps(3) == once.spec.control_steps(3) == EPISODE
    start = jax.random.key(3)
    nested, plain = twice.reset(start), once.reset(start)
    for _ in range(3):  # until the time limit, or a termination before it
        nested, plain = (
            jit(env.step)(s, jnp.ones(1)) for env, s in ((twice, nested), (once, plain))
        )
        for name in ("physics", "obs", "reward", "terminated", "task"):
            jax.tree.map(np.testing.assert_array_equal, getattr(nested, name), getattr(plain, name))


def test_a_repeat_passes_on_all_that_a_state_holds() -> None:
    """Here a wrapper counts its steps in a field of its own."""

    class Counted(State):
        steps: Any = 0

    class Counting(Toy):
        def reset(self, key: jax.Array) -> State:
            return self.counted(super().reset(key), jnp.zeros((), jnp.int32))

        def step(self, state: State, action: jax.Array) -> State:
            assert isinstance(state, Counted)
            return self.counted(super().step(state, action), state.steps + 1)

        @staticmethod
        def counted(state: State, steps: jax.Array) -> State:
            return Counted(
                state.physics, state.obs, state.reward, state.terminated, state.task, steps
            )

    env = Repeated(Repeated(Counting(limits=(1000, 1001)), 3), 2)
    state = env.step(env.reset(jax.random.key(0)), jnp.ones(1))
    assert int(state.inner.inner.steps) == int(state.obs[1]) == 6


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
    _, init, step = compiled(envs=50, toy=Toy(limits=(1000, 1001)), pool=50)
    state = host(init(keys()))
    clock = state.clock
    for t in range(1, 3 * EPISODE):
        state, outcome = host(step(state, np.zeros((SEEDS, 50, 1), np.float32)))
        np.testing.assert_array_equal(outcome.truncated, (clock + t) % EPISODE == 0)
        np.testing.assert_array_equal(
            outcome.finished, outcome.truncated & (clock + t >= 2 * EPISODE)
        )
        np.testing.assert_array_equal(outcome.length[outcome.finished], EPISODE)
        np.testing.assert_allclose(outcome.ret[outcome.finished], EPISODE * 2.0)


ONE_STEP = Toy(limits=(1, 2))
"""Every step ends an episode."""


def play(seeds: int, steps: int, vector: VectorEnv, init: Any, step: Any) -> tuple[Any, Any]:
    """The numbers that tell starts apart, (steps + 1, seeds, envs), and the outcomes of the steps
    between, one after the other."""
    state = init(keys(seeds))
    action = np.zeros((seeds, vector.num_envs, 1), np.float32)
    begun, outcomes = [state.env.obs[..., 0]], []
    for _ in range(steps):
        state, outcome = step(state, action)
        begun.append(state.env.obs[..., 0])
        outcomes.append(outcome)
    return np.stack(begun), host(outcomes)


@pytest.mark.parametrize("envs", [1, ENVS, POOL])
def test_every_episode_has_a_start_of_its_own(envs: int) -> None:
    """Although every episode has one step: 300 starts and more, from a pool of 12."""
    vector, init, step = compiled(envs=envs, toy=ONE_STEP)
    steps = 300 // envs
    begun, outcomes = play(SEEDS, steps, vector, init, step)
    assert all(outcome.terminated.all() for outcome in outcomes)
    assert np.unique(begun).size == begun.size == SEEDS * envs * (steps + 1)
    assert not any(outcome.reused.any() for outcome in outcomes)


def test_starts_of_short_episodes_are_independent_draws() -> None:
    begun, _ = play(SEEDS, 300, *compiled(toy=ONE_STEP))
    for seed in range(SEEDS):
        drawn = begun[:, seed].ravel()
        assert scipy.stats.kstest(drawn, "uniform").pvalue > 1e-3
        # One after the other, and of one environment.
        pairs = scipy.stats.pearsonr(drawn[:-1], drawn[1:]).pvalue
        assert min(pairs, scipy.stats.pearsonr(begun[:-1, seed, 0], begun[1:, seed, 0]).pvalue) > (
            1e-3
        )
    assert scipy.stats.pearsonr(begun[:, 0].ravel(), begun[:, 1].ravel()).pvalue > 1e-3


def test_starts_are_shared_where_more_episodes_end_than_the_pool_holds() -> None:
    """20 at once, of a pool of 4: it is full with 6, as a draw of 3 begins with 4 or fewer."""
    begun, outcomes = play(SEEDS, 3, *compiled(envs=20, toy=ONE_STEP, pool=4, refresh=3))
    for row, outcome in zip(begun[1:], outcomes, strict=True):
        for seed in range(SEEDS):
            np.testing.assert_array_equal(outcome.reused[seed], np.arange(20) // 6)
            assert np.unique(row[seed]).size == 6
            np.testing.assert_array_equal(row[seed], row[seed, np.arange(20) % 6])
    assert np.unique(begun[1:]).size == 3 * SEEDS * 6  # none of them in two steps


def test_steps_are_traced_once() -> None:
    traces = itertools.count()

    class Counted(Toy):
        def reset(self, key: jax.Array) -> State:
            next(traces)
            return super().reset(key)

    vector = VectorEnv(Counted(), ENVS, POOL, REFRESH)
    init, step = jit(vector.init), jit(vector.step)
    state = init(keys())
    action = np.zeros((SEEDS, ENVS, 1), np.float32)
    state, _ = step(state, action)
    before = next(traces)
    for _ in range(30):
        state, _ = step(state, action)
    assert next(traces) == before + 1
    assert step._cache_size() == 1
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(jax.eval_shape(vector.init, keys())))


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
    _, init, step = compiled()
    _, init_too, step_too = compiled(toy=Forgetful())
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
        np.testing.assert_array_equal(states[1].starts.states.obs, states[0].starts.states.obs)


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


@pytest.mark.parametrize(
    ("limits", "pool", "refresh", "shares"), [((3, 17), POOL, REFRESH, False), ((1, 3), 3, 2, True)]
)
def test_a_seed_behaves_alone_as_beside_others(
    limits: tuple[int, int], pool: int, refresh: int, shares: bool
) -> None:
    """Bit for bit: its own keys, its own starts, also where these are shared."""
    seeds, rng = 3, np.random.default_rng(1)
    _, init, step = compiled(toy=Toy(limits=limits), pool=pool, refresh=refresh)
    together, alone = init(keys(seeds)), init(keys(1, first=1))
    shared = 0
    for _ in range(60):
        action = actions(rng, seeds, ENVS, 0.05)
        together, outcome = step(together, action)
        alone, lonely = step(alone, action[1:2])
        shared += int(lonely.reused.sum())
        seen = (together.env, together.clock, together.ret, together.whole, outcome)
        own = (alone.env, alone.clock, alone.ret, alone.whole, lonely)
        for a, b in zip(*map(jax.tree.leaves, (seen, own)), strict=True):
            np.testing.assert_array_equal(a[1], b[0])
    assert (shared > 0) == shares


def test_the_physics_alone_does_not_reset() -> None:
    vector, init, _ = compiled()
    state = host(init(keys()))
    state.env.obs[..., 1:] = (8.0, 9.0)
    after = jit(vector.physics)(state.env, np.full((SEEDS, ENVS, 1), LOW, np.float32))
    np.testing.assert_array_equal(after.obs[..., 1], 9.0)
    np.testing.assert_array_equal(after.reward, LOW)
    assert np.all(after.terminated)


def test_the_repeat_stops_at_a_termination() -> None:
    """Two of three control steps: two rewards, and the state in which the task ended."""
    vector, init, _ = compiled(3)
    state = host(init(keys()))
    state.env.obs[..., 1:] = (7.0, 9.0)
    state.env.obs[:, 0, 2] = 10.0  # ends with the third
    state.env.obs[:, 1, 2] = 11.0  # does not end
    after = host(jit(vector.physics)(state.env, np.full((SEEDS, ENVS, 1), 3.5, np.float32)))
    np.testing.assert_array_equal(after.obs[..., 1], np.tile([10.0, 10] + [9.0] * 5, (SEEDS, 1)))
    np.testing.assert_allclose(after.reward, np.tile([10.5, 10.5] + [7.0] * 5, (SEEDS, 1)))
    np.testing.assert_array_equal(after.terminated, np.tile([True, False] + [True] * 5, (SEEDS, 1)))


@pytest.mark.parametrize("repeat", [3, 7])
def test_the_last_repeat_ends_with_the_time_limit(repeat: int) -> None:
    """10 control steps that pay 2 each, in 4 repeats or in 2, and no step beyond."""
    vector, init, step = compiled(repeat, toy=Toy(limits=(1000, 1001)))
    state = init(keys())
    lengths, returns = [], []
    for _ in range(3 * vector.episode_steps):
        state, outcome = host(step(state, np.zeros((SEEDS, ENVS, 1), np.float32)))
        assert not outcome.terminated.any()
        lengths += outcome.length[outcome.finished].tolist()
        returns += outcome.ret[outcome.finished].tolist()
    assert set(returns) == {2.0 * EPISODE}
    assert set(lengths) == {EPISODE}
    assert len(lengths) >= SEEDS * ENVS


@pytest.mark.parametrize("repeat", [3, 7])
def test_repeats_play_as_many_control_steps_as_the_originals(repeat: int) -> None:
    task = on_c("dmc/cartpole_swingup")
    env, real = Repeated(task.env, repeat), RepeatedReal(task.real, repeat)
    start = jax.jit(env.reset)(jax.random.key(0))
    real.reset(0)
    real.set_state(start.physics.qpos, start.physics.qvel)
    actions = np.random.default_rng(0).uniform(-1, 1, (env.spec.episode_steps, 1))
    rewards, truncated = [], []
    for action in actions:
        _, reward, _, over = real.step(action)
        rewards.append(reward)
        truncated.append(over)
    assert truncated == [False] * (len(actions) - 1) + [True]

    def step(state: State, action: jax.Array) -> tuple[State, jax.Array]:
        state = env.step(state, action)
        return state, state.reward

    final, paid = jax.jit(lambda: jax.lax.scan(step, start, jnp.float32(actions)))()
    # The last one pays for 1 control step of 3, or for 6 of 7.
    np.testing.assert_allclose(paid, rewards, atol=1e-3)
    np.testing.assert_allclose(final.physics.qpos, real.qpos, atol=1e-2)
    played = round(real.data.time / task.env.spec.control_dt)
    assert int(final.played) == int(env.spec.control_steps(len(actions))) == played == 1000


def test_the_final_observation_is_that_of_the_step() -> None:
    env = on_c("gym/InvertedPendulum-v5").env
    vector = VectorEnv(env, 4, pool=4, refresh=2)
    state, rng = jit(vector.init)(keys()), np.random.default_rng(0)
    alone = jit(lambda state, action: jax.vmap(jax.vmap(env.step))(state, action))
    step, ended = jit(vector.step), 0
    for _ in range(30):
        action = rng.uniform(-1, 1, (SEEDS, 4, 1)).astype(np.float32)
        expected = alone(state.env, action * env.spec.action_high)
        state, outcome = step(state, action)
        np.testing.assert_allclose(outcome.final_obs, expected.obs, atol=1e-5)
        same = np.all(np.array(outcome.final_obs) == state.env.obs, -1)
        done = np.array(outcome.terminated | outcome.truncated)
        np.testing.assert_array_equal(same, ~done)
        ended += done.sum()
    assert ended > 5
