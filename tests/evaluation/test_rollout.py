"""Evaluation: modes, returns known by hand, the real simulators, intervals."""

import functools
import json
import shutil
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import envs
from fpmd_mjx.algorithms.base import ONE_STEP, Mode
from fpmd_mjx.config import load as configs
from fpmd_mjx.config.schema import ConfigError
from fpmd_mjx.data.normalizer import Normalizer
from fpmd_mjx.evaluation import deploy, rollout
from fpmd_mjx.program import Program
from fpmd_mjx.report.statistics import interval, summarize
from fpmd_mjx.run import score
from fpmd_mjx.run.checkpoint import Checkpoints
from fpmd_mjx.run.folder import load_policy, stored_policy
from fpmd_mjx.seeds import Stream, reset_seeds, seed_array, split, stream_keys

from ..conftest import EPOCHS, QUICK, Run, Toy, host
from ..toy import Corridor, build

Toys = Callable[[str], Toy]


def act(program: Program, mode: Mode, policy: Any, obs: jax.Array, keys: jax.Array) -> np.ndarray:
    """Actions of the deployed policies of all seeds, compiled; in the corridor's range [-2, 6]."""

    def deployed(policy: Any, obs: jax.Array, keys: jax.Array) -> jax.Array:
        return deploy.act_seeds(deploy.deployed_seeds(program, mode, policy), obs, keys)

    return np.array(jax.jit(deployed, compiler_options=QUICK)(policy, obs, keys))


# ------------------------------------------------------------------------------------- modes


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("one_step", Mode("one_step", 1)),
        ("one_step_sampled", Mode("one_step_sampled", 1)),
        ("best_of_n", Mode("best_of_n", 1)),
        ("steps=20", Mode("steps", 20)),
    ],
)
def test_modes_are_named(text: str, mode: Mode) -> None:
    assert Mode.parse(text) == mode
    assert str(mode) == text


@pytest.mark.parametrize("text", ["", "onestep", "steps", "steps=0", "steps=-1", "steps=2.5", "8"])
def test_unknown_modes_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="choose one_step, one_step_sampled, best_of_n or steps"):
        Mode.parse(text)


@pytest.mark.parametrize("name", ["plain", "rich"])
def test_one_step_is_one_call_from_zero_and_nothing_else(toys: Toys, name: str) -> None:
    toy = toys(name)
    state, _ = toy.run(2)
    policy = toy.program.policy(state)
    seeds = toy.config.seeds
    obs = 3 * jax.random.normal(jax.random.key(0), (seeds, 7, 3))
    keys = jax.random.split(jax.random.key(1), seeds)
    got = act(toy.program, ONE_STEP, policy, obs, keys)
    net = jax.jit(toy.program.algorithm.flow.net.apply)  # type: ignore[attr-defined]
    origin = jnp.zeros((7, 1))
    for seed in range(seeds):
        one = jax.tree.map(lambda x, seed=seed: x[seed], policy)
        seen = obs[seed]
        if toy.config.learn.normalize_obs:
            seen = (seen - one.normalizer.mean) / jnp.sqrt(one.normalizer.var + 1e-6)
            seen = jnp.clip(seen, -10, 10)
        if toy.config.algorithm.name == "fpmd_r":  # x + v(x, t = 0)
            action = net(one.actor, seen, origin, jnp.zeros(7))
        else:  # x - u(x, r = 0, t = 1)
            action = -net(one.actor, seen, origin, jnp.zeros(7), jnp.ones(7))
        # bfloat16 of the same sums in another order, where the networks compute in it
        atol = 1e-5 if toy.config.learn.dtype == "float32" else 2e-2
        np.testing.assert_allclose(got[seed], 2 + 4 * jnp.clip(action, -1, 1), atol=4 * atol)
    # neither the keys nor the critic matter
    spoilt = policy.replace(critic=jax.tree.map(lambda x: x * jnp.nan, policy.critic))
    other = jax.random.split(jax.random.key(2), seeds)
    np.testing.assert_array_equal(act(toy.program, ONE_STEP, spoilt, obs, other), got)


def test_the_other_modes_sample(plain: Toy) -> None:
    state, _ = plain.run(2)
    policy = plain.program.policy(state)
    seeds = plain.config.seeds
    obs = jax.random.normal(jax.random.key(0), (seeds, 64, 3))
    keys = jax.random.split(jax.random.key(1), seeds)
    other = jax.random.split(jax.random.key(2), seeds)
    found = {}
    for text in ("one_step_sampled", "steps=1", "steps=4", "best_of_n"):
        found[text] = act(plain.program, Mode.parse(text), policy, obs, keys)
        again = act(plain.program, Mode.parse(text), policy, obs, other)
        assert (again >= -2).all()
        assert (again <= 6).all()
        assert (found[text] != again).mean() > 0.5
    one = found["one_step_sampled"]
    np.testing.assert_array_equal(one, found["steps=1"])
    assert (found["steps=4"] != one).mean() > 0.5
    # best of N is the better of two candidates for this very critic
    values = jax.vmap(plain.program.algorithm.networks.critic.values)
    q = lambda action: values(policy.critic, obs, (action - 2) / 4).min(1).mean()  # noqa: E731
    assert q(found["best_of_n"]) > q(one)


# ----------------------------------------------------------------------------------- rollouts


def known(end: float, breaks: bool, repeat: int = 1) -> tuple[float, int]:
    """(return, length) of a corridor; a repeated step ends at a termination."""
    if breaks and end in (5, 6):
        return 1.0 + 2.0, 2
    steps = min(int(end), 6)
    return steps * (steps + 1) / 2, -(-steps // repeat) * repeat


@pytest.mark.parametrize("name", ["plain", "rich", "repeat"])
def test_returns_are_those_known_by_hand(toys: Toys, name: str) -> None:
    toy = toys(name)
    seeds = seed_array(toy.config)
    policy = toy.program.policy(toy.init())
    seen = set()
    for epoch in range(6):
        keys = stream_keys(Stream.EVALUATION, seeds, epoch)
        ret, length, nonfinite = toy.compiled.evaluation(ONE_STEP)(policy, keys)
        assert ret.shape == length.shape == (toy.config.seeds, toy.config.eval.episodes)
        starts = toy.program.vector.reset(split(keys, 2)[1], toy.config.eval.episodes)
        ends = host(starts.obs[..., 1]).ravel()
        repeat = toy.program.vector.env.spec.action_repeat
        breaks = name == "rich"
        expected = [known(end, breaks, repeat) for end in ends]
        assert host(ret).ravel().tolist() == [ret for ret, _ in expected]
        assert host(length).ravel().tolist() == [length for _, length in expected]
        blows_up = (breaks & np.isin(ends, (5.0, 6.0))).reshape(ret.shape)
        assert host(nonfinite).tolist() == blows_up.sum(1).tolist()
        seen |= set(ends)
    assert len(seen) >= 4
    assert name != "rich" or {5.0, 6.0} <= seen


class Fading(Corridor):
    """Blows up beyond its end, where nobody is any more."""

    def step(self, state: Any, action: jax.Array) -> Any:
        after = super().step(state, action)
        beyond = after.physics.qpos > after.physics.qvel
        return after.replace(obs=jnp.where(beyond, jnp.nan, after.obs))


def test_what_happens_after_the_end_of_an_episode_does_not_count() -> None:
    program = build(Fading())
    play = functools.partial(rollout.rollout, program, ONE_STEP, 16)
    keys = stream_keys(Stream.EVALUATION, seed_array(program.config), 0)
    policy = program.policy(jax.jit(program.init, compiler_options=QUICK)(jnp.zeros(1, jnp.uint32)))
    ret, _, nonfinite = jax.jit(play, compiler_options=QUICK)(policy, keys)
    ends = host(program.vector.reset(split(keys, 2)[1], 16).obs[..., 1]).ravel()
    assert (ends < 5).any()  # of 6 steps there is one beyond
    assert host(ret).ravel().tolist() == [known(end, False)[0] for end in ends]
    assert host(nonfinite).tolist() == [0]


class Original:
    """The corridor as a simulator of one episode after another; `seed` is its end. The one with an
    end at 4 blows up in its third step."""

    def reset(self, seed: int) -> np.ndarray:
        self.seed, self.position, self.end = seed, 0, 2 + seed % 7
        self.actions: list[float] = []
        return np.array([0, self.end, 0], np.float32)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        assert self.position < min(self.end, 6), "the episode is over"
        self.position += 1
        self.actions.append(float(action[0]))
        obs = np.array([self.position, self.end, action[0]], np.float32)
        if self.end == 4 and self.position == 3:
            return obs * np.nan, np.nan, False, False
        return obs, float(self.position), self.position == self.end, self.position == 6


def test_the_real_simulators_are_stepped_to_the_end_and_no_further(
    plain: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Original] = []

    def make(name: str) -> Original:
        made.append(Original())
        return made[-1]

    monkeypatch.setattr(envs, "make_real", make)
    policy = plain.program.policy(plain.init())
    reports: list[tuple[int, int]] = []
    ret, length, nonfinite = rollout.real_rollout(
        plain.program, ONE_STEP, 3, policy, 4, lambda *at: reports.append(at)
    )
    assert [sim.seed for sim in made] == reset_seeds(range(4), 4, 3).ravel().tolist()
    blows_up = np.array([sim.end == 4 for sim in made]).reshape(4, 3)
    assert nonfinite.tolist() == blows_up.sum(1).tolist()
    assert 0 < nonfinite.sum() < 12
    expected = np.array(
        [(3.0, 2) if sim.end == 4 else known(sim.end, False) for sim in made]
    ).reshape(4, 3, 2)
    np.testing.assert_array_equal(ret, expected[..., 0])
    np.testing.assert_array_equal(length, expected[..., 1])
    assert reports == [(t, 6) for t in range(1, 7)]
    # the actions are the policy's, in the task's units, [-2, 6]
    keys = jax.random.split(jax.random.key(0), 4)
    first = np.array([[0, sim.end, 0] for sim in made], np.float32).reshape(4, 3, 3)
    action = act(plain.program, ONE_STEP, policy, jnp.asarray(first), keys).ravel()
    np.testing.assert_allclose([sim.actions[0] for sim in made], action, rtol=1e-5, atol=1e-5)
    assert (action < -1).any() or (action > 1).any()


class Starting:
    """An original simulator that begins in given states."""

    def __init__(self, original: Any, qpos: np.ndarray, qvel: np.ndarray) -> None:
        self._original, self._start = original, (qpos, qvel)

    def reset(self, seed: int) -> np.ndarray:
        self._original.reset(seed)
        return self._original.set_state(*self._start)

    def step(self, action: np.ndarray) -> Any:
        return self._original.step(action)


def test_mjx_and_the_original_agree_on_the_same_policy(
    cartpole: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the same starts they pay the same return."""
    program, policy, epoch = load_policy(cartpole.folder)
    assert epoch == EPOCHS
    episodes = cartpole.config.eval.episodes
    keys = stream_keys(Stream.EVALUATION, seed_array(cartpole.config), 1000)
    simulated = cartpole.compiled.evaluation(ONE_STEP)(policy, keys).returns
    starts = host(program.vector.reset(split(keys, 2)[1], episodes).physics)
    states = zip(
        starts.qpos.reshape(2 * episodes, -1), starts.qvel.reshape(2 * episodes, -1), strict=True
    )
    make = rollout.real
    monkeypatch.setattr(rollout, "real", lambda program: Starting(make(program), *next(states)))
    real, length, nonfinite = rollout.real_rollout(program, ONE_STEP, episodes, policy, seed=7)
    assert (length == 1000).all()
    assert nonfinite.tolist() == [0, 0]
    assert len(np.unique(real)) == 2 * episodes
    np.testing.assert_allclose(real, host(simulated), rtol=2e-3)


def test_a_policy_restored_alone_acts_like_the_whole_state(cartpole: Run) -> None:
    program, policy, _ = load_policy(cartpole.folder, EPOCHS)
    assert program.config == cartpole.config
    folder = cartpole.folder / "checkpoints"
    with Checkpoints(folder, keep_last=2, keep_best=True, replay=True) as saved:
        state, _ = saved.restore(cartpole.program.traced_init.out_info, EPOCHS)
    obs = jax.random.normal(jax.random.key(0), (2, 9, 5))
    keys = jax.random.split(jax.random.key(1), 2)
    for mode in (ONE_STEP, Mode("best_of_n")):
        np.testing.assert_array_equal(
            act(program, mode, policy, obs, keys),
            act(cartpole.program, mode, cartpole.program.policy(state), obs, keys),
        )
    assert isinstance(policy.normalizer, Normalizer)


# ------------------------------------------------------------------------------------ summaries


def test_the_interval_is_students() -> None:
    x = np.random.default_rng(0).normal(5.0, 2.0, 12)
    expected = stats.t.interval(0.95, len(x) - 1, x.mean(), stats.sem(x))
    assert interval(x) == pytest.approx(expected, rel=1e-12)
    # t(0.975, 1) = 12.706, standard error 1
    assert interval(np.array([1.0, 3.0])) == pytest.approx([2 - 12.706, 2 + 12.706], rel=1e-4)
    assert interval(np.array([1.0])) is None


def test_the_summary_of_three_seeds() -> None:
    found = summarize(np.array([[1.0, 3.0], [4.0, 6.0], [8.0, 8.0]]), 640)
    assert found["per_seed"] == [2.0, 5.0, 8.0]
    assert found["mean"] == 5.0
    assert found["std"] == 3.0
    half = 4.30265 * 3 / np.sqrt(3)  # t(0.975, 2)
    np.testing.assert_allclose(found["ci95"], [5 - half, 5 + half], rtol=1e-5)
    np.testing.assert_allclose(
        found["episode_ci95"],
        stats.t.interval(0.95, 5, 5.0, stats.sem([1, 3, 4, 6, 8, 8])),
        rtol=1e-12,
    )
    assert (found["episodes"], found["env_steps"]) == (2, 640)
    json.dumps(found)


def test_one_seed_has_no_interval_over_seeds() -> None:
    found = summarize(np.array([[1.0, 3.0]]), 40)
    assert found["std"] is None
    assert found["ci95"] is None
    assert found["episode_ci95"] is not None
    assert found["mean"] == 2.0


# ---------------------------------------------------------------------------- scoring stored runs


def test_a_score_is_added_to_the_summary_beside_the_others(
    cartpole: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(cartpole.folder, folder)
    seen: list[Any] = []

    def played(program: Any, mode: Mode, episodes: int, policy: Any, keys: jax.Array) -> Any:
        seen.append((str(mode), episodes))
        ret = jnp.arange(2.0 * episodes).reshape(2, episodes)
        return rollout.Episodes(ret, jnp.ones((2, episodes), jnp.int32), jnp.array([0, 3]))

    monkeypatch.setattr(score, "rollout", played)
    line = score.score(folder, "steps=3", "mjx", 4, 0, "latest")
    assert seen == [("steps=3", 4)]
    assert f"{folder}: steps=3 in mjx 3.5" in line
    assert f"(4 episodes each, epoch {EPOCHS}, 320 env steps; 3 EPISODES BLEW UP and" in line
    earlier = score.score_run(folder, ONE_STEP, "mjx", 4, 5, EPOCHS - 1)
    assert earlier["per_seed"] == [1.5, 5.5]
    original = rollout.Episodes(np.array([[1.0, 2.0], [3.0, 4.0]]), None, np.zeros(2, int))
    monkeypatch.setattr(score, "real_rollout", lambda *args: original)
    score.score_run(folder, ONE_STEP, "mujoco", 2, epoch="best")
    summary = json.loads((folder / "summary.json").read_text())
    asked = ("mode", "simulator", "seed", "episodes", "epoch", "env_steps")
    best = cartpole.summary["best"]["one_step"]
    assert [tuple(x[name] for name in asked) for x in summary["scores"]] == [
        ("steps=3", "mjx", 0, 4, EPOCHS, 320),
        ("one_step", "mjx", 5, 4, EPOCHS - 1, 280),
        ("one_step", "mujoco", 0, 2, best["epoch"], best["env_steps"]),
    ]
    assert [x["mean"] for x in summary["scores"]] == [3.5, 3.5, 2.5]
    assert summary | {"scores": []} == json.loads(json.dumps(cartpole.summary))
    # a run that has not ended has nothing to add to
    (folder / "summary.json").unlink()
    assert "not kept, as the run has not ended" in score.score(folder, "one_step", "mjx", 4, 0, 7)
    assert not (folder / "summary.json").exists()


def test_a_stored_policy_compiles_to_what_training_compiled(cartpole: Run) -> None:
    policy = load_policy(cartpole.folder)[1]
    wanted = cartpole.program.policy(cartpole.program.traced_init.out_info)
    deployed = functools.partial(deploy.deployed_seeds, cartpole.program, ONE_STEP)
    act_on = jax.jit(lambda policy, obs, keys: deploy.act_seeds(deployed(policy), obs, keys))
    obs = jax.ShapeDtypeStruct((2, 3, cartpole.program.vector.env.spec.obs_size), jnp.float32)
    keys = jax.eval_shape(jax.vmap(jax.random.key), jax.ShapeDtypeStruct((2,), jnp.uint32))
    ours, theirs = (act_on.lower(p, obs, keys).as_text() for p in (policy, wanted))
    assert ours == theirs


def test_a_stored_policy_acts_without_its_environment(
    cartpole: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bounds, shapes and normaliser are in the checkpoint."""
    monkeypatch.setattr(envs, "make", lambda *args, **options: pytest.fail("builds the task"))
    found = stored_policy(cartpole.folder)
    assert found.epoch == EPOCHS
    assert found.spec.layout == deploy.Layout.of(cartpole.program.vector.env.spec)
    obs = np.random.default_rng(0).normal(size=(2, 4, 5)).astype(np.float32)
    state = cartpole.compiled.init(seed_array(cartpole.config))
    for seed in range(2):
        one = jax.tree.map(lambda x, seed=seed: x[seed], found.policy)
        action = deploy.deployable(one, found.spec)(obs[seed])
        assert action.shape == (4, 1)
        wanted = deploy.deployable(one, deploy.PolicySpec.of_program(cartpole.program))(obs[seed])
        np.testing.assert_array_equal(action, wanted)
    assert jax.tree.structure(cartpole.program.policy(state)) == jax.tree.structure(found.policy)


def test_scoring_what_is_no_run_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a run folder"):
        load_policy(tmp_path)


def test_a_task_without_an_original_is_refused_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = configs.load(["task=playground/CheetahRun"])
    stored = types.SimpleNamespace(config=config), None, 1
    monkeypatch.setattr(score, "load_policy", lambda folder, epoch: stored)
    with pytest.raises(ConfigError, match="playground/CheetahRun exists in MJX alone"):
        score.score_run(tmp_path, ONE_STEP, "mujoco", 2)
