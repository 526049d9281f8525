"""The worked example of docs/howto/your-own-task.md is complete, and does what the page says."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import registry
from envs.physics.options import COMPILER_OPTIONS
from envs.wrappers import VectorEnv

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "your-own-task.md"


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What puck.py defines; the registry forgets it after the test."""
    monkeypatch.setattr(registry, "_TASKS", dict(registry._TASKS))
    [code] = re.findall(r"<!-- puck.py -->\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    path = tmp_path / "puck.py"
    path.write_text(code)
    return runpy.run_path(str(path))


def test_the_example_is_a_task(example: dict[str, Any]) -> None:
    assert "mine/puck" in envs.tasks()
    env = envs.make("mine/puck")
    assert isinstance(env, example["Puck"])
    action = jax.ShapeDtypeStruct((env.spec.action_size,), jnp.float32)
    start = jax.eval_shape(env.reset, jax.random.key(0))
    after = jax.eval_shape(env.step, start, action)
    assert start == after
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((start, after)))
    assert start.obs.shape == (env.spec.obs_size,)


def test_the_example_runs_in_batches_to_the_ends_of_its_episodes(example: dict[str, Any]) -> None:
    vector = VectorEnv(envs.make("mine/puck"), num_envs=8, pool=8, refresh=4)
    keys = jax.random.split(jax.random.key(0), 1)
    start = jax.jit(vector.init, compiler_options=COMPILER_OPTIONS)(keys)

    def play(action: jax.Array) -> Any:
        actions = jnp.full((1, 8, 1), action, jnp.float32)
        return jax.lax.scan(lambda state, _: vector.step(state, actions), start, None, 250)[1]

    outcome = jax.jit(jax.vmap(play), compiler_options=COMPILER_OPTIONS)(jnp.array([0.0, 1.0]))
    (still, pushed), truncated = np.asarray(outcome.terminated), np.asarray(outcome.truncated)
    assert truncated[0].any()
    assert not still.any()
    assert pushed.any()


@pytest.mark.parametrize("name", ["dmc/cheetah_run", "puck", "mine/", "/puck"])
def test_a_name_that_cannot_be_registered(name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        envs.register(name, lambda: None)
