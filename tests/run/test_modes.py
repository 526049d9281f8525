"""`eval.modes`: what may be asked, and that each mode is compiled once."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from fpmd_mjx.algorithms.base import Mode
from fpmd_mjx.config import load as configs
from fpmd_mjx.config.schema import ConfigError
from fpmd_mjx.run import compile as compiling
from fpmd_mjx.seeds import Stream, stream_keys

from ..toy import tiny_config


@pytest.mark.parametrize(
    "modes", [["one_step"], ["best_of_n", "one_step"], ["steps=20", "one_step_sampled", "steps=2"]]
)
def test_modes_are_asked_for_by_name(modes: list[str]) -> None:
    quoted = ",".join(f"'{mode}'" for mode in modes)
    assert configs.load([f"eval.modes=[{quoted}]"]).eval.modes == modes
    assert [str(Mode.parse(mode)) for mode in modes] == modes


@pytest.mark.parametrize(
    "modes", ["[]", "[onestep]", "[one_step,one_step]", "['steps=0']", "['one_step ']"]
)
def test_other_modes_are_refused_with_the_known_ones(modes: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configs.load([f"eval.modes={modes}"])
    message = str(caught.value)
    assert message.startswith("eval.modes=[")
    assert "one_step, one_step_sampled, best_of_n and steps=K" in message
    assert "\n" not in message


def test_one_mode_is_no_list_of_modes() -> None:
    with pytest.raises(ConfigError, match=re.escape("give words such as [one_step,best_of_n]")):
        configs.load(["eval.modes=one_step"])


@pytest.mark.parametrize("preset", ["paper", "paper_wide", "paper_pixels"])
def test_the_papers_presets_record_the_papers_protocol(preset: str) -> None:
    task = "dmc/cartpole_swingup" if preset == "paper_pixels" else "gym/Ant-v5"
    config = configs.load([f"task={task}", f"preset={preset}"])
    assert config.eval.modes == ["one_step", "best_of_n"]
    assert config.algorithm.candidates == 32


@pytest.mark.parametrize(("seconds", "before"), [(0.0, 2), (600.0, 0)])
def test_each_mode_is_traced_once(
    monkeypatch: pytest.MonkeyPatch, seconds: float, before: int
) -> None:
    """seconds: until when the epoch counts as loaded from the cache."""
    traced: list[str] = []
    adds = {"one_step": 1.0, "best_of_n": 2.0}

    class Program:
        config, compiler_options = tiny_config("eval.modes=[best_of_n,one_step]"), None
        traced_init = jax.jit(lambda seeds: seeds + 1.0).trace(jnp.zeros(1, jnp.uint32))

        def train_epoch(self, state: jax.Array) -> jax.Array:
            return 2 * state

        def policy(self, state: Any) -> Any:
            return state

    def rollout(program: Any, mode: Mode, episodes: int, policy: jax.Array, keys: Any) -> Any:
        traced.append(str(mode))
        return policy + adds[str(mode)]

    monkeypatch.setattr(compiling, "rollout", rollout)
    monkeypatch.setattr(compiling, "LOAD_SECONDS", seconds)
    compiled = compiling.compile_program(Program())  # type: ignore[arg-type]
    assert len(traced) == before
    state = compiled.init(jnp.zeros(1, jnp.uint32))
    keys = stream_keys(Stream.EVALUATION, jnp.zeros(1, jnp.uint32), 0)
    for _ in range(2):
        for mode, added in adds.items():
            assert compiled.evaluation(Mode(mode))(state, keys) == state + added
    assert sorted(traced) == sorted(adds)
