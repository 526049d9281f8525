"""Names of tasks, and the adapter to the originals."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest

import envs
from envs import registry
from envs.devtools import parity
from envs.originals import dm_control_suite
from envs.physics import limits
from envs.physics.limits import backends
from envs.registry import cannot
from envs.render.pixels import Camera


def test_every_task_is_built_under_its_name() -> None:
    assert envs.tasks() == sorted(envs.tasks())
    for name in envs.tasks():
        assert envs.make(name).spec.name == name


def test_options_reach_the_solver() -> None:
    options = envs.make("dmc/cheetah_run", iterations=3, ls_iterations=5).physics.model.opt
    assert (options.iterations, options.ls_iterations) == (3, 5)


@pytest.mark.parametrize("name", ["dmc/fish_swim", "dmc/dog_walk", "gym/Pusher-v5"])
def test_tasks_load_on_their_backends_alone(name: str) -> None:
    for impl in ("jax", "warp"):
        if impl in backends(name):
            assert envs.make(name, impl=impl).spec.name == name  # type: ignore[arg-type]
        else:
            with pytest.raises(envs.UnsupportedModelError):
                envs.make(name, impl=impl)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", cannot())
def test_what_cannot_be_simulated_says_why(name: str) -> None:
    assert name not in envs.tasks()
    with pytest.raises(envs.UnsupportedModelError, match=cannot()[name]) as error:
        envs.make(name)
    assert name in str(error.value)
    # Its original is there.
    assert envs.make_real(name).model.nv > 0


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("dmc/cheetah-run", "dmc/cheetah_run"),
        ("gym/HalfCheeta-v4", "gym/HalfCheetah-v4"),
        ("zzz", "envs.tasks()"),
    ],
)
def test_unknown_task_names_a_remedy(name: str, hint: str) -> None:
    with pytest.raises(envs.UnknownTaskError) as error:
        envs.make(name)
    assert isinstance(error.value, ValueError)
    assert hint in str(error.value)
    assert name in str(error.value)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("gym/HalfCheeta-v4", "gym/HalfCheetah-v4"),
        ("dmc/cheetah_walk", "dmc/cheetah_run"),
        ("cheetah_run", "dmc/cheetah_run"),
    ],
)
def test_unknown_original_names_a_remedy(name: str, hint: str) -> None:
    with pytest.raises(envs.UnknownTaskError, match=hint):
        envs.make_real(name)


@pytest.mark.parametrize("name", ["gym/Reacher-v4", "dmc/ball_in_cup_catch"])
def test_originals_repeat_with_the_seed_and_go_on_without(name: str) -> None:
    real = envs.make_real(name)
    first = real.reset(seed=3)
    assert first.dtype == np.float32
    assert first.ndim == 1
    assert not np.array_equal(real.reset(), first)
    np.testing.assert_array_equal(real.reset(seed=3), first)


@pytest.mark.parametrize(
    ("name", "steps"), [("gym/Reacher-v5", 50), ("dmc/cartpole_balance", 1000)]
)
def test_time_limits_truncate_and_the_next_step_is_refused(name: str, steps: int) -> None:
    real = envs.make_real(name)
    action = np.zeros(real.model.nu, np.float32)
    with pytest.raises(RuntimeError, match="reset"):
        real.step(action)
    real.reset(seed=0)
    ends = [real.step(action)[2:] for _ in range(steps)]
    assert ends[:-1] == [(False, False)] * (steps - 1)
    assert ends[-1] == (False, True)
    with pytest.raises(RuntimeError, match="reset"):
        real.step(action)


def test_early_end_of_dm_control_is_termination() -> None:
    """None of the ported tasks does it; LQR ends once the masses are at rest in the middle."""
    real = envs.make_real("dmc/lqr_lqr_2_1")
    real.reset(seed=0)
    real.set_state(np.zeros(2), np.zeros(2))
    _, _, terminated, truncated = real.step(np.zeros(1))
    assert (terminated, truncated) == (True, False)


def test_set_state_is_where_the_next_step_starts() -> None:
    real = envs.make_real("gym/HalfCheetah-v5")
    real.reset(seed=0)
    qpos, qvel = real.qpos, real.qvel
    after = real.step(np.ones(6, np.float32))
    np.testing.assert_array_equal(real.set_state(qpos, qvel)[:8], qpos[1:].astype(np.float32))
    again = real.step(np.ones(6, np.float32))
    np.testing.assert_array_equal(again[0], after[0])


@pytest.fixture
def own_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry forgets after the test what it registers."""
    monkeypatch.setattr(registry, "_TASKS", dict(registry._TASKS))


def _factory(**options: object) -> Any:
    return SimpleNamespace(spec=SimpleNamespace(name="own"), options=options)


@pytest.mark.usefixtures("own_tasks")
@pytest.mark.parametrize("name", ["playground/mine", "playground/CheetahRun"])
def test_the_family_of_playground_is_reserved(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name} .*choose another family, such as mine/"):
        envs.register(name, _factory)
    assert name not in envs.tasks()


# Names that begin as those of built-in tasks do, and that of an original that is not ported.
OWN = [
    "gym/AntMaze",
    "gym/Ant-v6",
    "dmc/cheetah_jump",
    "dmc/quadruped_jump",
    "dmc/dog",
    "dmc/lqr_lqr_2_1",
]


@pytest.mark.usefixtures("own_tasks")
@pytest.mark.parametrize("name", OWN)
def test_a_task_of_ones_own_takes_nothing_from_one_with_a_similar_name(name: str) -> None:
    envs.register(name, _factory)
    assert envs.make(name, contacts=7).options == {"contacts": 7}
    assert backends(name) == ("jax", "warp")
    assert name not in cannot()
    assert not envs.has_original(name)
    with pytest.raises(envs.UnknownTaskError, match=f"{name} has no original"):
        envs.make_real(name)
    assert name not in parity.comparable()


def test_every_built_in_task_has_measured_limits_and_no_limits_are_without_a_task() -> None:
    assert set(limits._LIMITS) == set(envs.tasks())


@pytest.mark.filterwarnings("ignore")
def test_no_task_of_the_originals_is_absent_without_a_reason() -> None:
    suites = {f"dmc/{domain}_{task}" for domain, task in dm_control_suite().ALL_TASKS}
    versions = {
        f"gym/{name}"
        for name, entry in gymnasium.registry.items()
        if "mujoco" in str(entry.entry_point)
    }
    here = set(envs.tasks()) | set(cannot())
    assert here <= suites | versions
    assert suites <= here
    absent = versions - here
    assert {name.rpartition("-")[2] for name in absent - {"gym/Pusher-v4"}} == {"v2", "v3"}
    for name in absent:  # those that gymnasium lists, and does not make
        with pytest.raises(ImportError, match=r"v2 and v3|mujoco<3"):
            gymnasium.make(name.removeprefix("gym/"))


def test_only_the_suites_quadrupeds_are_seen_from_their_third_camera() -> None:
    model = SimpleNamespace(ncam=3)
    seen = {name: Camera().number(name, model) for name in (*envs.tasks(), "dmc/quadruped_jump")}
    quadrupeds = {"dmc/quadruped_fetch", "dmc/quadruped_run", "dmc/quadruped_walk"}
    assert {name for name, number in seen.items() if number == 2} == quadrupeds
    assert set(seen.values()) == {0, 2}
