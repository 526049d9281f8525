"""Learning is tested by learning: both flows reach the known optimum of a task with foresight."""

import numpy as np
import pytest

from fpmd_mjx.algorithms.base import ONE_STEP
from fpmd_mjx.program import TrainState
from fpmd_mjx.run.compile import compile_program
from fpmd_mjx.seeds import Stream, seed_array, stream_keys

from .conftest import host
from .toy import Aim, build, words

SETTINGS = words(
    "seeds=2 num_envs=16 env_steps=24000 epoch_steps=4000 warmup_steps=1000 eval.episodes=128 "
    "learn.batch=128 learn.updates=2 learn.n_step=1 learn.gamma=0.8 learn.replay=24000 "
    "learn.reward_scale=1.0 actor.hidden=[32,32] critic.hidden=[32,32] algorithm.candidates=16 "
    "algorithm.temperature=0.3 critic.tau=0.02 critic.lr=0.003 actor.lr=0.003 "
    "actor.decay_begin=500 actor.decay_end=1500 actor.final_lr=0.0003"
)


PIXELS = words(
    "task.obs=pixels pixels.size=20 pixels.frames=1 pixels.channels=8 pixels.trunk=16 "
    "pixels.shift=0"
)


@pytest.mark.parametrize(
    "actor",
    [
        ("algorithm=fpmd_m",),
        ("algorithm=fpmd_r", "algorithm.flow_steps=3"),
        ("algorithm=fpmd_m", *PIXELS),
    ],
    ids=["fpmd_m", "fpmd_r", "pixels"],
)
def test_reaches_the_optimum(actor: tuple[str, ...]) -> None:
    program = build(Aim(), *SETTINGS, *actor)
    config, compiled = program.config, compile_program(program)
    seeds = seed_array(config)

    def progress(state: TrainState) -> np.ndarray:
        """One-step return of each seed between random (0) and optimal (1)."""
        keys = stream_keys(Stream.EVALUATION, seeds, 0)
        returns = compiled.evaluation(ONE_STEP)(program.policy(state), keys).returns
        return (host(returns).mean(1) - Aim.RANDOM) / (Aim.OPTIMUM - Aim.RANDOM)

    state = compiled.init(seeds)
    assert (progress(state) < 0.7).all()
    for _ in range(config.epochs):
        state, _ = compiled.train_epoch(state)
    assert (progress(state) > 0.95).all()
