"""Another algorithm fits where FPMD does: TD3, with a target policy and settings of its own."""

import dataclasses

import jax
import numpy as np
import pytest

from envs.wrappers import VectorEnv
from fpmd_mjx import algorithms
from fpmd_mjx.algorithms.base import ONE_STEP, Mode
from fpmd_mjx.config import rules, schema
from fpmd_mjx.config.schema import Config, ConfigError
from fpmd_mjx.evaluation.deploy import PolicySpec, deployable, deployed_seeds
from fpmd_mjx.program import Program, TrainState, assemble
from fpmd_mjx.run import memory
from fpmd_mjx.run.checkpoint import Checkpoints
from fpmd_mjx.run.compile import compile_program
from fpmd_mjx.seeds import Stream, seed_array, stream_keys

from ..conftest import host
from ..test_learning import SETTINGS
from ..toy import Aim, tiny_config
from .td3 import Td3Config, make_td3


@pytest.fixture
def td3(monkeypatch: pytest.MonkeyPatch) -> Program:
    monkeypatch.setitem(schema.ALGORITHMS, "td3", Td3Config)
    monkeypatch.setitem(algorithms.MAKERS, "td3", make_td3)
    shared = [x for x in SETTINGS if not x.startswith("algorithm.")]
    config: Config = dataclasses.replace(tiny_config(*shared), algorithm=Td3Config(name="td3"))
    rules.validate(config)
    return assemble(config, Aim())  # type: ignore[arg-type]


def test_td3_learns_in_the_same_program(td3: Program, tmp_path) -> None:
    compiled, config = compile_program(td3), td3.config
    seeds = seed_array(config)

    def progress(state: TrainState) -> np.ndarray:
        """One-step return of each seed between random (0) and optimal (1)."""
        keys = stream_keys(Stream.EVALUATION, seeds, 0)
        found = compiled.evaluation(ONE_STEP)(td3.policy(state), keys)
        return (host(found.returns).mean(1) - Aim.RANDOM) / (Aim.OPTIMUM - Aim.RANDOM)

    state = compiled.init(seeds)
    assert (progress(state) < 0.8).all()  # aiming at 0 is worth 0.6 on average
    for _ in range(config.epochs):
        state, metrics = compiled.train_epoch(state)
    assert (progress(state) > 0.95).all()
    assert {"critic/loss", "actor/loss", "nonfinite/skipped_updates"} <= metrics.keys()
    # the rest of the trainer needs nothing of it but the protocol
    assert memory.plan(td3)["activations"] > 0
    with Checkpoints(tmp_path, keep_last=1, keep_best=False, replay=True) as saved:
        saved.save(1, state, {}, None, policy=td3.policy(state))
        restored, _ = saved.restore(td3.traced_init.out_info)
        policy = saved.restore_policy()
    np.testing.assert_array_equal(
        host(restored.learner.target_actor["params"]["Dense_0"]["kernel"]),
        host(state.learner.target_actor["params"]["Dense_0"]["kernel"]),
    )
    assert set(policy) == {"actor", "critic", "normalizer"}  # vectors have no encoder


def test_a_mode_that_an_algorithm_lacks_is_refused(td3: Program) -> None:
    policy = jax.eval_shape(td3.policy, td3.traced_init.out_info)
    for text in ("best_of_n", "steps=4", "one_step_sampled"):
        with pytest.raises(
            ConfigError, match=f"mode={text} is not possible .*: choose one of one_step"
        ):
            deployed_seeds(td3, Mode.parse(text), policy)


def test_a_deployed_policy_maps_the_tasks_observation_to_the_tasks_action(plain) -> None:
    """By hand: normalise, act, clip, rescale to [-2, 6]."""
    program: Program = plain.program
    state, _ = plain.run(2)
    policy = program.policy(state)
    spec = PolicySpec.of_program(program)
    layout = spec.layout
    assert (layout.obs_shape, layout.action_low, layout.action_high) == ((3,), (-2.0,), (6.0,))
    assert type(layout).from_json(layout.to_json()) == layout
    obs = jax.random.normal(jax.random.key(0), (4, 7, 3))
    first = jax.tree.map(lambda x: x[0], policy)
    with pytest.raises(ValueError, match="mode=best_of_n draws random numbers: give it a key"):
        deployable(first, spec, Mode("best_of_n"))(obs[0])
    deployed = deployed_seeds(program, ONE_STEP, policy)
    for seed in range(4):
        one = jax.tree.map(lambda x, seed=seed: x[seed], deployed)
        action = np.asarray(one(obs[seed]))
        assert action.shape == (7, 1)
        inner = spec.algorithm.act(one.policy, obs[seed], None, ONE_STEP)
        np.testing.assert_allclose(action, 2 + 4 * np.clip(inner, -1, 1), rtol=1e-6)
    assert isinstance(program.vector, VectorEnv)
