"""The compiled program: traced once, silent, donated; what it counts, and when it learns."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from envs.base import State
from envs.wrappers import Outcome
from fpmd_mjx.algorithms.base import ONE_STEP
from fpmd_mjx.algorithms.fpmd import Learner
from fpmd_mjx.data import replay, returns
from fpmd_mjx.data.counter import Counter
from fpmd_mjx.program import TrainState, statistics
from fpmd_mjx.run import compile as compiling
from fpmd_mjx.run.memory import size
from fpmd_mjx.seeds import Stream, seed_array, stream_keys

from .conftest import EPOCHS, QUICK, Run, Toy, host
from .toy import Corridor, build, tiny_config

Toys = Callable[[str], Toy]


def same(a: Any, b: Any) -> bool:
    """Bit for bit, of trees of arrays on the host."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in pairs)


def differs(a: Any, b: Any) -> bool:
    """In every leaf, of trees of arrays on the host."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.asarray(x).tobytes() != np.asarray(y).tobytes() for x, y in pairs)


# ------------------------------------------------------------------------------- compilation


def test_a_run_traces_and_compiles_each_function_once(cartpole: Run) -> None:
    assert len(cartpole.compiles) == EPOCHS >= 5
    assert cartpole.traces == {"init": 1, "train_epoch": 1, "rollout": 1}
    for name in ("jit(init)", "jit(train_epoch)", "jit(rollout)"):
        assert cartpole.compiles[-1][name] == 1
    # After the first epoch nothing is compiled at all, not even the host's own small arithmetic.
    assert cartpole.compiles[-1] == cartpole.compiles[0]


@pytest.mark.parametrize(("seconds", "before"), [(0.0, 1), (600.0, 0)])
def test_the_evaluation_waits_for_its_first_use_if_the_epoch_is_there(
    monkeypatch: pytest.MonkeyPatch, seconds: float, before: int
) -> None:
    """seconds: until when the epoch counts as loaded from the cache."""
    traced: list[int] = []

    class Program:
        config, compiler_options = tiny_config(), None
        traced_init = jax.jit(lambda seeds: seeds + 1).trace(jnp.zeros(1, jnp.uint32))

        def train_epoch(self, state: jax.Array) -> jax.Array:
            return 2 * state

        def policy(self, state: Any) -> Any:
            return state

    def rollout(program: Any, mode: Any, episodes: int, policy: jax.Array, keys: Any) -> jax.Array:
        traced.append(episodes)
        return policy + episodes

    monkeypatch.setattr(compiling, "rollout", rollout)
    monkeypatch.setattr(compiling, "LOAD_SECONDS", seconds)
    program = Program()
    compiled = compiling.compile_program(program)  # type: ignore[arg-type]
    assert len(traced) == before
    state = compiled.init(jnp.zeros(1, jnp.uint32))
    keys = stream_keys(Stream.EVALUATION, jnp.zeros(1, jnp.uint32), 0)
    for _ in range(2):
        state = compiled.train_epoch(state)
        assert compiled.evaluation(ONE_STEP)(state, keys) == state + program.config.eval.episodes
    assert len(traced) == 1


def test_the_state_keeps_its_types(cartpole: Run) -> None:
    """A weak type in the state would make the second epoch another program."""
    start = cartpole.compiled.init(seed_array(cartpole.config))
    types = jax.tree.map(jax.typeof, start)
    assert not [x for x in jax.tree.leaves(types) if x.weak_type]
    after, _ = cartpole.compiled.train_epoch(start)
    assert jax.tree.map(jax.typeof, after) == types


HOST = re.compile(r"callback|\b(infeed|outfeed|send|recv)(-done)?\(|host_compute|xla_python")


def test_the_check_for_host_traffic_sees_it() -> None:
    def tells(x: jax.Array) -> jax.Array:
        jax.debug.callback(lambda value: None, x)
        return x + 1

    assert HOST.search(jax.jit(tells).lower(1.0).compile().as_text() or "")


def test_nothing_in_the_program_waits_for_the_host(cartpole: Run) -> None:
    for part in (cartpole.compiled.train_epoch, cartpole.compiled.evaluation(ONE_STEP)):
        assert not HOST.search(part.as_text())
    state = cartpole.compiled.init(seed_array(cartpole.config))
    with jax.transfer_guard("disallow"):
        state, metrics = cartpole.compiled.train_epoch(state)
        state, metrics = cartpole.compiled.train_epoch(state)
    # what crosses over after an epoch: one number a metric and seed
    assert {x.shape for x in jax.tree.leaves(metrics)} == {(cartpole.config.seeds,)}


def test_the_state_is_donated(plain: Toy) -> None:
    state = plain.init()
    after, _ = plain.compiled.train_epoch(state)
    assert not [x for x in jax.tree.leaves(state) if x.size and not x.is_deleted()]
    assert not [x for x in jax.tree.leaves(after) if x.is_deleted()]


def test_the_replay_is_held_once(toys: Toys, plain: Toy, cartpole: Run) -> None:
    for program, compiled in (
        (plain.program, plain.compiled),
        (cartpole.program, cartpole.compiled),
        (toys("pixels").program, toys("pixels").compiled),
    ):
        state = program.traced_init.out_info
        found = compiled.train_epoch.memory_analysis()
        assert found.argument_size_in_bytes == pytest.approx(size(state), rel=0.02)
        assert found.alias_size_in_bytes == pytest.approx(found.argument_size_in_bytes, rel=0.02)
    for toy in (plain, toys("pixels")):
        held = size(toy.program.traced_init.out_info.replay)
        assert held > 10e6
        assert toy.compiled.train_epoch.memory_analysis().temp_size_in_bytes < 0.1 * held


# ------------------------------------------------------------------------- warm-up and counting


def native(action: np.ndarray, spec: Any) -> np.ndarray:
    return spec.action_low + (np.clip(action, -1, 1) + 1) / 2 * (spec.action_high - spec.action_low)


def test_warm_up_acts_at_random_and_learns_nothing(plain: Toy) -> None:
    start = plain.init()
    before = host(start.learner)
    state, [metrics] = plain.run(1, start)
    rows = host(state.replay.rows)
    filled = int(state.replay.size)
    assert filled == plain.config.iterations_per_epoch == 10 < plain.program.warmup_rows == 11
    actions = rows.action[:, :filled].ravel()
    assert stats.kstest(actions, stats.uniform(-1, 2).cdf).pvalue > 1e-3
    assert np.unique(actions).size == actions.size
    assert same(host(state.learner), before)
    assert int(state.updates) == 0
    assert all(np.isnan(metrics[name]).all() for name in metrics if name.startswith("critic/"))


def extreme(state: TrainState) -> TrainState:
    """With a policy whose actions are all at their lower bound."""
    actor = state.learner.actor
    bias = actor["params"]["MLP_0"]["Dense_1"]["bias"]
    actor["params"]["MLP_0"]["Dense_1"]["bias"] = jnp.full_like(bias, 100.0)
    return state.replace(learner=state.learner.replace(actor=actor))


def test_the_policy_acts_after_the_warm_up(plain: Toy) -> None:
    state, _ = plain.run(2, extreme(plain.init()))
    actions = host(state.replay.rows.action)
    assert np.abs(actions[:, :11]).max() < 1.0
    # one row by a policy that has not learned, before what it learns shows
    assert (actions[:, 11] == -1.0).all()


@pytest.mark.parametrize(
    ("name", "iterations", "learning", "env_steps"),
    # learning: iterations of three epochs after which the replay is warm
    [("plain", 10, 30 - 10, 480), ("rich", 3, 9, 180), ("repeat", 5, 15 - 2, 120)],
)
def test_updates_and_steps_are_counted(
    toys: Toys, name: str, iterations: int, learning: int, env_steps: int
) -> None:
    toy = toys(name)
    config, updates = toy.config, toy.config.learn.updates
    assert config.iterations_per_epoch == iterations
    state, _ = toy.run(3)
    assert int(state.updates) == learning * updates
    assert int(state.vector_steps) * config.num_envs == env_steps
    assert int(state.replay.head) == int(state.vector_steps) % config.replay_rows
    opt = state.learner.critic_opt.inner[0]  # Adam's own count
    assert host(opt.count).tolist() == [learning * updates] * config.seeds
    policy = state.learner.actor_opt.inner[0]
    delayed = learning * updates // config.algorithm.policy_delay
    assert host(policy.count).tolist() == [delayed] * config.seeds


@pytest.mark.parametrize("name", ["plain", "rich", "repeat", "pixels"])
def test_every_kind_of_learner_runs(toys: Toys, name: str) -> None:
    """Both flows, critics and precisions, the three weights, with and without normalisation."""
    toy = toys(name)
    start = toy.init()
    before = host(start.learner)
    state, seen = toy.run(3, start)
    for metric, x in seen[-1].items():
        assert np.isfinite(x).all(), metric
    after = host(state.learner)
    assert differs(after.actor, before.actor)
    assert differs(after.critic, before.critic)
    assert {x.dtype for x in jax.tree.leaves((after.actor, after.critic))} == {np.dtype("f4")}
    assert seen[-1]["nonfinite/skipped_updates"].sum() == 0


def test_observations_and_rewards_are_normalised_when_asked(toys: Toys, plain: Toy) -> None:
    state, _ = plain.run(1)
    assert not host(state.normalizer.count).any()
    toy = toys("rich")
    state, _ = toy.run(2)  # 24 of the ring's 25 rows
    rows = host(state.replay.rows)
    seen = rows.obs[:, : int(state.replay.size)].reshape(toy.config.seeds, -1, 3)
    assert host(state.normalizer.count).tolist() == [seen.shape[1]] * toy.config.seeds
    np.testing.assert_allclose(host(state.normalizer.mean), seen.mean(1), rtol=1e-5)
    np.testing.assert_allclose(host(state.normalizer.var), seen.var(1), rtol=1e-4)
    # ... and what the networks are given is standardised, while the replay holds what was seen
    keys = jax.random.split(jax.random.key(0), toy.config.seeds)
    one = jax.tree.map(lambda x: x[0], (state.replay.rows, state.normalizer, state.returns))
    ring = replay.Replay(one[0], state.replay.head, state.replay.size)
    learn_config = toy.config.learn
    shape = (learn_config.updates, learn_config.batch)
    given = jax.jit(toy.program._batches, compiler_options=QUICK)
    drawn = jax.jit(
        lambda ring, key: replay.sample(ring, key, shape, 3, learn_config.gamma, 1),
        compiler_options=QUICK,
    )
    batch, raw = given(ring, one[1], one[2], keys[0]), drawn(ring, keys[0])
    std = np.sqrt(np.asarray(one[1].var) + 1e-6)
    np.testing.assert_allclose(batch.obs, (raw.obs - one[1].mean) / std, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        batch.next_obs, (raw.next_obs - one[1].mean) / std, rtol=1e-4, atol=1e-5
    )
    scale = float(returns.scale(one[2]))
    assert scale != 1.0
    np.testing.assert_allclose(batch.reward, raw.reward / scale, rtol=1e-5)


# ----------------------------------------------------------------------------- what is inserted


def episodes_of(rows: Any) -> list[tuple[float, int]]:
    """(return, length) of the whole episodes of one environment, from its rows (time,)."""
    found, ret, length, whole = [], 0.0, 0, False
    for reward, terminated, truncated in zip(
        rows.reward, rows.terminated, rows.truncated, strict=True
    ):
        ret, length = ret + float(reward), length + 1
        if terminated or truncated:
            if whole:
                found.append((ret, length))
            ret, length, whole = 0.0, 0, True
    return found


def test_rows_follow_each_other_and_add_up_to_the_statistics(plain: Toy) -> None:
    state, seen = plain.run(3)
    spec = plain.program.vector.env.spec
    rows = jax.tree.map(lambda x: x[:, :30], host(state.replay.rows))
    done = rows.terminated | rows.truncated
    assert not (rows.terminated & rows.truncated).any()
    position, end, echo = np.moveaxis(rows.obs, -1, 0)
    assert (rows.reward == position + 1).all()
    assert (rows.terminated == (position + 1 == end)).all()
    here, following = np.s_[:, :-1], np.s_[:, 1:]
    going = ~done[here]
    assert (position[following] == np.where(going, position[here] + 1, 0.0)).all()
    assert (end[following] == end[here])[going].all()
    np.testing.assert_allclose(
        echo[following][going], native(rows.action[..., 0], spec)[here][going], rtol=1e-5, atol=1e-5
    )
    for seed in range(plain.config.seeds):
        one = jax.tree.map(lambda x, seed=seed: x[seed], rows)
        found = [
            episode
            for env in range(plain.config.num_envs)
            for episode in episodes_of(jax.tree.map(lambda x, env=env: x[:, env], one))
        ]
        counts = [float(metrics["rollout/episodes"][seed]) for metrics in seen]
        assert sum(counts) == len(found)
        for name, values in zip(("return", "length"), zip(*found, strict=True), strict=True):
            means = [float(metrics[f"rollout/{name}"][seed]) for metrics in seen]
            total = sum(n * x for n, x in zip(counts, means, strict=True) if n)
            assert total == pytest.approx(sum(values), rel=1e-5)


def test_the_reuse_of_starts_is_the_mean_over_those_of_an_epoch() -> None:
    """Two seeds, two steps: four starts used 0, 0, 1 and 2 times before; and none."""
    blank = jnp.zeros((2, 3), bool)
    reused = jnp.array([[[0, 0, 0], [0, 0, 0]], [[1, 0, 2], [0, 0, 0]]])
    ended = jnp.array([[[False, True, False], [False] * 3], [[True] * 3, [False] * 3]])
    nothing = jnp.zeros((2, 3))

    def outcome(ended: jax.Array, reused: jax.Array) -> Outcome:
        return Outcome(
            final_obs=nothing,
            reward=nothing,
            terminated=ended.at[:, 1].set(False),
            truncated=blank.at[:, 1].set(ended[:, 1]),
            finished=blank,
            ret=nothing,
            length=nothing,
            nonfinite=blank,
            reused=reused,
        )

    sums = [statistics(outcome(*step)) for step in zip(ended, reused, strict=True)]
    total = jax.tree.map(lambda *x: sum(x), *sums)
    np.testing.assert_array_equal(total["begun"], [4, 0])
    np.testing.assert_array_equal(total["reused"], [3, 0])


def test_an_epoch_reports_the_reuse_and_holds_no_last_observations() -> None:
    """Of a step that is collected, only numbers of each seed are left."""
    program = build(Corridor())
    start = jax.eval_shape(program.init, seed_array(program.config))
    seeds = program.config.seeds
    metrics = jax.eval_shape(program.train_epoch, start)[1]
    assert metrics["rollout/start_reuse"].shape == (seeds,)
    [scan] = [e for e in jax.make_jaxpr(program.collect)(start).eqns if e.primitive.name == "scan"]
    kept = [leaf.aval.shape for leaf in scan.outvars[scan.params["num_carry"] :]]
    assert kept
    assert set(kept) == {(program.config.learn.collect_steps, seeds)}


def test_a_row_holds_one_image_and_the_policy_sees_the_last_ones(toys: Toys) -> None:
    toy = toys("pixels")
    start = toy.init()
    first = host(start.env.env.obs)
    assert (first[:, :, 0] == first[:, :, 1]).all()  # a start repeats its image
    state, _ = toy.run(1, start)
    rows, now = host(state.replay.rows), host(state.env.env.obs)
    assert rows.obs.shape == (2, 5000, 8, 20, 20, 3)
    assert rows.obs.dtype == np.uint8
    filled = int(state.replay.size)
    shown = rows.obs[..., 0, :, 0] == 255  # where the bar of the position is
    assert shown[:, :filled].any(-1).all()
    np.testing.assert_array_equal(rows.obs[:, 0], first[:, :, -1])
    ended = (rows.terminated | rows.truncated)[:, filled - 1]
    assert ended.any()
    assert not ended.all()
    before = np.where(ended[..., None, None, None], now[:, :, 1], rows.obs[:, filled - 1])
    np.testing.assert_array_equal(now[:, :, 0], before)


def test_the_critic_trains_the_encoder_and_the_policy_does_not(toys: Toys) -> None:
    """With a critic that learns nothing, only its moments change what the encoder is."""
    program = toys("pixels").program
    algorithm = program.algorithm
    images = jax.random.bits(jax.random.key(0), (4, 2, 20, 20, 3), jnp.uint8)
    one = jnp.ones(4)
    batch = replay.Batch(images, one[:, None], one, one, images, one)
    update = jax.jit(
        lambda learner, batch: algorithm.update(learner, batch, jax.random.key(1), Counter.zero())[
            0
        ],
        compiler_options=QUICK,
    )
    learner: Learner = jax.jit(algorithm.init, compiler_options=QUICK)(jax.random.key(2))
    after = update(learner, batch)
    assert all(
        differs(getattr(after, part), getattr(learner, part))
        for part in ("encoder", "critic", "actor")
    )
    masked = update(learner, batch.replace(mask=jnp.zeros(4)))  # there is no TD error
    assert same(host(masked.encoder), host(learner.encoder))
    assert same(host(masked.critic), host(learner.critic))
    assert differs(masked.actor, learner.actor)


def test_a_broken_simulation_never_reaches_the_replay(toys: Toys) -> None:
    state, seen = toys("rich").run(2)
    assert sum(metrics["nonfinite/env_resets"].sum() for metrics in seen) > 0
    rows = jax.tree.map(lambda x: x[:, :24], host(state.replay.rows))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(rows))
    assert np.abs(rows.obs).max() < 10
    for end in (5.0, 6.0):  # not a number, and too large a one
        broken = (rows.obs[..., 1] == end) & (rows.obs[..., 0] == 2.0)
        assert broken.any()
        assert rows.truncated[broken].all()  # so that the row is masked out of the loss
        assert not rows.terminated[broken].any()
        assert (rows.reward[broken] == 0.0).all()


def test_an_action_that_is_no_number_never_reaches_the_replay(plain: Toy) -> None:
    state, _ = plain.run(2)
    actor = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), state.learner.actor)
    critic = host(state.learner.critic)
    state = state.replace(learner=state.learner.replace(actor=actor))
    state, [metrics] = plain.run(1, state)
    # every simulation of every step is reset ...
    steps = plain.config.iterations_per_epoch * plain.config.num_envs
    assert metrics["nonfinite/env_resets"].tolist() == [steps] * plain.config.seeds
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(host(state.replay.rows)))
    # ... and the updates that it spoils are left out and counted
    assert (metrics["nonfinite/skipped_updates"] > 0).all()
    assert same(host(state.learner.critic), critic)


# -------------------------------------------------------------------------------------- learning


def test_a_run_resumed_without_its_replay_refills_it_first(plain: Toy) -> None:
    state, _ = plain.run(2)
    updates, before = int(state.updates), host(state.learner)
    assert updates > 0
    empty = jax.tree.map(jnp.zeros_like, state.replay)
    state, _ = plain.run(1, extreme(state.replace(replay=empty)))
    assert (host(state.replay.rows.action)[:, :10] == -1.0).all()  # the policy acts meanwhile
    after = host(state.learner)
    assert same(after.critic, before.critic)
    assert same(after.critic_opt, before.critic_opt)
    assert int(state.updates) == updates
    state, _ = plain.run(1, state)
    assert int(state.updates) == updates + 10 * plain.config.learn.updates
    assert differs(host(state.learner.critic), before.critic)


def test_a_loss_that_is_not_finite_in_one_update_shows_in_the_epochs_metrics(plain: Toy) -> None:
    """And its update is left out: the learner stays finite."""
    state, _ = plain.run(2)
    rows = state.replay.rows
    spoilt = rows.replace(reward=rows.reward.at[0, 3:6, :4].set(jnp.nan))  # some rows of one seed
    state = state.replace(replay=state.replay.replace(rows=spoilt))
    state, [metrics] = plain.run(1, state)
    skipped = metrics["nonfinite/skipped_updates"]
    assert 0 < skipped[0] < 10 * plain.config.learn.updates  # some batches hold one
    assert np.isnan(metrics["critic/loss"][0])
    assert np.isfinite(metrics["actor/loss"]).all()
    assert np.isfinite(metrics["critic/loss"][1:]).all()
    np.testing.assert_array_equal(skipped[1:], 0)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(host(state.learner)))
    # the next epoch counts its own
    state, [metrics] = plain.run(1, state)
    assert metrics["nonfinite/skipped_updates"][0] < 10 * plain.config.learn.updates


class Richer(Corridor):
    """Pays 128 times as much: a power of two, by which floats are scaled without rounding."""

    def step(self, state: State, action: jax.Array) -> State:
        after = super().step(state, action)
        return after.replace(reward=128.0 * after.reward)


def test_learning_is_the_same_in_any_unit_of_rewards_if_their_scale_is_not_given() -> None:
    learned = []
    for env in (Corridor(), Richer()):
        program = build(env, "algorithm=fpmd_m", "learn.reward_scale=null", "seeds=2")
        state = jax.jit(program.init)(seed_array(program.config))
        epoch = jax.jit(program.train_epoch, compiler_options=QUICK)
        for _ in range(3):
            state, _ = epoch(state)
        assert int(state.updates) > 0
        learned.append(host(state.learner))
    assert same(*learned)


def test_policy_and_targets_wait_for_their_turn() -> None:
    overrides = [
        "algorithm.policy_delay=3",
        "algorithm.noise.interval=2",
        "critic.tau=0.1",
        "algorithm=fpmd_m",
    ]
    program = build(Corridor(), *overrides)
    algorithm, config = program.algorithm, program.config
    batch = replay.Batch(
        obs=jax.random.normal(jax.random.key(0), (8, 3)),
        action=jnp.linspace(-1, 1, 8)[:, None],
        reward=jnp.ones(8),
        discount=jnp.full(8, 0.9),
        next_obs=jax.random.normal(jax.random.key(1), (8, 3)),
        mask=jnp.ones(8),
    )
    update = jax.jit(
        lambda learner, key, count: algorithm.update(learner, batch, key, count),
        compiler_options=QUICK,
    )
    learner: Learner = jax.jit(algorithm.init, compiler_options=QUICK)(jax.random.key(2))
    for count in range(1, 8):
        before = learner
        learner, metrics = update(learner, jax.random.key(count), Counter.zero().add(count - 1))
        assert differs(learner.critic, before.critic)
        turn = count % config.algorithm.policy_delay == 0
        for part in ("actor", "actor_opt", "target_critic"):
            changed = not same(host(getattr(learner, part)), host(getattr(before, part)))
            assert changed == turn, (count, part)
        assert metrics["actor/loss"].count == turn
        if turn:
            jax.tree.map(
                lambda new, old, online: np.testing.assert_allclose(
                    new, 0.9 * old + 0.1 * online, rtol=1e-5, atol=1e-7
                ),
                learner.target_critic,
                before.target_critic,
                learner.critic,
            )
        annealed = float(learner.noise.log_alpha) != float(before.noise.log_alpha)
        assert annealed == (count % config.algorithm.noise.interval == 0)
