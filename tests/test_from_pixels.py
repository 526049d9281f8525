"""A run from images, from training to its score in dm_control and its video."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from fpmd_mjx.algorithms.base import ONE_STEP
from fpmd_mjx.evaluation import deploy, rollout
from fpmd_mjx.program import make_program
from fpmd_mjx.run import train
from fpmd_mjx.run.compile import Compiled, compile_program
from fpmd_mjx.run.folder import checkpoints, load_policy
from fpmd_mjx.run.render import render
from fpmd_mjx.run.score import score_run

from .conftest import host
from .toy import tiny_config, words

OVERRIDES = words(
    "task=dmc/pendulum_swingup algorithm=fpmd_m task.obs=pixels pixels.size=20 pixels.channels=4 "
    "pixels.trunk=8 task.action_repeat=10 learn.replay=400 task.reset_pool=4 task.reset_refresh=2 "
    "env_steps=160 eval.episodes=1 learn.n_step=2"
)


@pytest.fixture(scope="module")
def compiled() -> Compiled:
    return compile_program(make_program(tiny_config(*OVERRIDES)))


@pytest.fixture
def run(compiled: Compiled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a finished run. `compiled` keeps its program, and so the program's renderer."""
    monkeypatch.setattr(train, "compile_program", lambda program: compiled)
    config = tiny_config(*OVERRIDES, f"runs={tmp_path}")
    summary = train.train(config)
    assert summary["updates"] > 0
    assert summary["nonfinite"] == {"env_resets": 0, "skipped_updates": 0, "eval_episodes": 0}
    return config.folder


def test_a_run_continues_bit_for_bit(run: Path, compiled: Compiled, tmp_path: Path) -> None:
    config = tiny_config(*OVERRIDES, f"runs={tmp_path}", "name=again", "env_steps=80")
    train.train(config)
    train.train(dataclasses.replace(config, env_steps=160))
    program = make_program(config)
    states = []
    for folder in (run, config.folder):
        with checkpoints(config, folder) as saved:
            states.append(saved.restore(program.traced_init.out_info)[0])
    once, twice = (host(state) for state in states)
    jax.tree.map(np.testing.assert_array_equal, once, twice)
    assert once.replay.rows.obs.dtype == np.uint8
    assert len({image.tobytes() for image in once.replay.rows.obs[0, :, 0]}) > 10


def test_it_is_scored_in_mjx_and_in_dm_control_and_filmed(run: Path) -> None:
    for simulator in ("mjx", "mujoco"):
        result = score_run(run, ONE_STEP, simulator, episodes=1)
        assert 0 <= result["mean"] <= 1000
        assert result["env_steps"] == 160
    assert render(
        run,
        None,
        mode="one_step",
        episodes=1,
        seed=0,
        epoch="latest",
        size=32,
        camera=None,
        how="gl",
    ).startswith(str(run / "videos" / "epoch_00004.mp4"))
    assert (run / "videos" / "epoch_00004.mp4").stat().st_size > 1000


def test_dm_control_shows_the_policy_what_mjx_does(run: Path) -> None:
    """The same start on both sides: the images are alike, and so are the actions."""
    program, policy, _ = load_policy(run)
    original = rollout.real(program)
    real = original.reset(3)
    env = program.vector.env
    state = jax.jit(env.reset)(jax.random.key(0))
    physics = state.physics.replace(qpos=np.float32(original.qpos), qvel=np.float32(original.qvel))
    image = jax.jit(env._render.draw)(physics, {})  # type: ignore[attr-defined]
    ours = np.broadcast_to(image, env.spec.obs_shape)
    assert ours.shape == real.shape == (3, 20, 20, 3)
    assert np.abs(ours.astype(int) - real).mean() < 10
    keys = jax.random.split(jax.random.key(0), 1)
    deployed = deploy.deployed_seeds(program, ONE_STEP, policy)
    actions = [
        deploy.act_seeds(deployed, np.asarray(obs)[None, None], keys) for obs in (ours, real)
    ]
    np.testing.assert_allclose(*actions, atol=0.1)
