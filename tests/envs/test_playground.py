"""The adapter against Playground's own environments, called as their authors call them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from mujoco import mjx
from mujoco.mjx.third_party.mujoco_warp._src.types import OverflowType
from mujoco_playground import registry

import envs
from envs import playground
from envs.physics.fixes import integration
from envs.physics.options import UnsupportedModelError
from envs.wrappers import VectorEnv
from fpmd_mjx.config import load as configs

from .test_types import described

TASK = "PendulumSwingup"  # the smallest
QUICK: dict[str, Any] = {"xla_backend_optimization_level": 0}


@pytest.fixture(scope="module")
def env() -> Any:
    return envs.make(f"playground/{TASK}", impl="jax")


def test_episodes_are_those_of_the_registry(env: Any) -> None:
    theirs = registry.load(TASK, config_overrides={"impl": "jax"})
    key = jax.random.key(3)
    ours_step, their_step = (jax.jit(x.step, compiler_options=QUICK) for x in (env, theirs))
    ours = jax.jit(env.reset, compiler_options=QUICK)(key)
    wanted = jax.jit(theirs.reset, compiler_options=QUICK)(jax.random.key_data(key))
    rng = np.random.default_rng(0)
    for _ in range(50):
        np.testing.assert_allclose(ours.obs, wanted.obs, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(ours.reward, wanted.reward, rtol=1e-5, atol=1e-5)
        assert bool(ours.terminated) == bool(wanted.done)
        action = jnp.asarray(rng.uniform(-1, 1, env.spec.action_size), jnp.float32)
        ours, wanted = ours_step(ours, action), their_step(wanted, action)
    assert float(jnp.abs(wanted.data.qvel).max()) > 0.1


def test_the_facts_are_those_of_the_registry(env: Any) -> None:
    theirs, config = registry.load(TASK), registry.get_default_config(TASK)
    spec = env.spec
    assert (spec.name, spec.obs_size) == (f"playground/{TASK}", theirs.observation_size)
    assert (spec.action_size, spec.control_dt) == (theirs.action_size, theirs.dt)
    assert spec.episode_steps == config.episode_length
    assert (set(spec.action_low), set(spec.action_high)) == ({-1.0}, {1.0})


@pytest.mark.parametrize("task", registry.dm_control_suite.ALL_ENVS)
def test_states_keep_their_types(task: str) -> None:
    env = envs.make(f"playground/{task}", impl="jax")
    reset = jax.eval_shape(env.reset, jax.random.key(0))
    stepped = jax.eval_shape(env.step, reset, jax.ShapeDtypeStruct((env.spec.action_size,), "f4"))
    assert described(reset) == described(stepped)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((reset, stepped)))


def steps_with(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns a list that grows by the name of each step of the physics that is traced."""
    seen: list[str] = []

    def noted(name: str, original: Any) -> Any:
        return lambda model, data: (seen.append(name), original(model, data))[1]

    monkeypatch.setattr(playground, "step", noted("ours", playground.step))
    monkeypatch.setattr(mjx, "step", noted("theirs", mjx.step))
    return seen


def test_its_tasks_step_as_ours_do(env: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their large batches would never end on two cores: see `physics.fixes.integration`."""
    seen = steps_with(monkeypatch)
    start = jax.eval_shape(env.reset, jax.random.key(0))
    jax.eval_shape(env.step, start, jnp.zeros(env.spec.action_size))
    assert set(seen) == {"ours"}
    # Cheetahs settle in their reset.
    jax.eval_shape(envs.make("playground/CheetahRun", impl="jax").reset, jax.random.key(0))
    assert set(seen) == {"ours"}


def test_what_others_do_with_playground_is_as_it_was(
    env: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, after and, in another thread, while a task of ours is traced."""
    from mujoco_playground._src import mjx_env

    playground.names()
    assert mjx_env.mjx is mjx
    seen = steps_with(monkeypatch)
    theirs = registry.load(TASK, config_overrides={"impl": "jax"})
    begin = jax.eval_shape(theirs.reset, jax.ShapeDtypeStruct((2,), "uint32"))
    action = jnp.zeros(env.spec.action_size)

    def trace_theirs() -> list[str]:
        seen.clear()
        jax.eval_shape(theirs.step, begin, action)
        return list(set(seen))

    def inside(model: Any, data: Any) -> Any:
        with ThreadPoolExecutor(1) as others:
            found.append(others.submit(trace_theirs).result())
        return integration.step(model, data)

    found = [trace_theirs()]
    monkeypatch.setattr(playground, "step", inside)
    start = jax.eval_shape(env.reset, jax.random.key(0))
    jax.eval_shape(env.step, start, action)
    found.append(trace_theirs())
    assert found == [["theirs"]] * len(found)
    assert len(found) > 2
    assert mjx_env.mjx is mjx


def test_tasks_are_loaded_in_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them needs MuJoCo's older name until its end, and none may leave it behind."""
    load, found = registry.load, []

    def slow(*args: Any) -> Any:
        time.sleep(0.1)
        found.append(hasattr(mujoco.MjSpec, "find_body"))
        return load(*args)

    def make(delay: float) -> Any:
        time.sleep(delay)
        return envs.make(f"playground/{TASK}", impl="jax")

    monkeypatch.setattr(registry, "load", slow)
    with ThreadPoolExecutor(2) as threads:
        for env in threads.map(make, (0.0, 0.05)):
            assert env.spec.name == f"playground/{TASK}"
    assert found == [True, True]
    assert not hasattr(mujoco.MjSpec, "find_body")


def test_warp_tells_losses_alone() -> None:
    """Its solver reaches Playground's few iterations in every step, and would say so each time."""
    model = envs.make(f"playground/{TASK}", impl="warp")._env.mjx_model
    told = OverflowType(int(model.opt._impl.warn_overflow))
    assert not told & (OverflowType.ITERATIONS | OverflowType.LS_ITERATIONS)
    assert told == OverflowType.ALL & ~(OverflowType.ITERATIONS | OverflowType.LS_ITERATIONS)
    ours = envs.make("dmc/pendulum_swingup", impl="warp").physics._dynamics._model
    assert int(ours.opt._impl.warn_overflow) == int(told)


@pytest.mark.parametrize("impl", ["jax", "warp"])
def test_a_backend_that_the_task_decides_itself_cannot_be_chosen(
    impl: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = registry.get_default_config(TASK)
    del config["impl"]
    monkeypatch.setattr(registry, "get_default_config", lambda name: config)
    with pytest.raises(UnsupportedModelError, match=rf"{TASK} decides its impl itself.*{impl}"):
        envs.make(f"playground/{TASK}", impl=impl)


def test_episodes_end_by_time_alone_and_start_afresh(env: Any) -> None:
    """Playground's own training wrappers would end them with done = 1, and start each again from
    the one state that its simulation had first."""
    vector = VectorEnv(env, num_envs=3, pool=8, refresh=4)
    state = jax.jit(vector.init, compiler_options=QUICK)(jax.random.split(jax.random.key(0), 2))
    first = np.asarray(state.env.obs)
    last = state.replace(clock=jnp.full_like(state.clock, env.spec.episode_steps - 1))
    step = jax.jit(vector.step, compiler_options=QUICK)
    after, outcome = step(last, jnp.zeros((2, 3, env.spec.action_size)))
    assert bool(outcome.truncated.all())
    assert not bool(outcome.terminated.any())
    assert not bool(outcome.nonfinite.any())
    assert not np.asarray(after.clock).any()
    starts = np.concatenate([first.reshape(6, -1), np.asarray(after.env.obs).reshape(6, -1)])
    assert len(np.unique(starts, axis=0)) == 12
    on, outcome = step(after, jnp.ones((2, 3, env.spec.action_size)))
    assert not bool(outcome.truncated.any())
    assert np.asarray(on.clock).tolist() == [[1, 1, 1], [1, 1, 1]]


def test_what_the_task_decides_cannot_be_chosen() -> None:
    with pytest.raises(UnsupportedModelError, match="leave iterations out"):
        envs.make(f"playground/{TASK}", iterations=3)


def test_an_unknown_task_names_a_remedy() -> None:
    with pytest.raises(envs.UnknownTaskError, match="playground/CheetahRun"):
        envs.make("playground/CheetaRun")


def test_a_missing_package_names_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mujoco_playground", None)
    with pytest.raises(ModuleNotFoundError, match=r"fpmd-mjx\[playground\]"):
        envs.make(f"playground/{TASK}")


def test_a_run_names_the_task_like_any_other() -> None:
    assert configs.load([f"task=playground/{TASK}"]).task.name == f"playground/{TASK}"


def test_there_is_no_original() -> None:
    assert f"playground/{TASK}" in playground.names()
    assert not envs.has_original(f"playground/{TASK}")
    with pytest.raises(envs.UnknownTaskError, match="no original"):
        envs.make_real(f"playground/{TASK}")
