"""Yardsticks and settings: what is read, and what is refused before anything runs."""

import re
from pathlib import Path

import numpy as np
import pytest

from fpmd_mjx.bench.agent import yardstick
from fpmd_mjx.config.load import choices
from fpmd_mjx.config.schema import ConfigError

COMPLETE = """description: d
seeds: 2
episodes: 3
evaluations: 9
tasks: {dmc/cheetah_run: {env_steps: 100, random: 4, solved: 920}}"""
"""A yardstick's file."""


@pytest.mark.parametrize("name", choices("yardstick"))
def test_every_task_of_a_yardstick_can_run(name: str) -> None:
    found = yardstick.load(name)
    for task in found.tasks:
        config = found.config(task, [])
        assert config.task.name == task.name
        assert config.env_steps == task.env_steps
        assert config.seeds == found.seeds
        assert config.epochs == found.evaluations
        assert task.random < task.solved


def test_what_is_asked_for_replaces_the_file() -> None:
    tasks = ["dmc/reacher_hard", "dmc/cheetah_run"]
    found = yardstick.load("tuning", tasks, seeds=3, env_steps=20_000)
    assert [task.name for task in found.tasks] == tasks
    assert found.config(found.tasks[0], []).epoch_steps == 1000
    assert found.config(found.tasks[1], []).seeds == 3


def test_a_score_is_0_for_random_actions_and_1_for_the_strongest() -> None:
    task = yardstick.Task("dmc/cheetah_run", 100, random=10, solved=510)
    np.testing.assert_allclose(task.score(np.array([10, 510, 260, -90])), [0, 1, 0.5, -0.2])


def test_settings_are_named_overrides() -> None:
    words = ["a=", "b+=critic.hidden=[8,8] preset=cpu  name='x y'"]
    assert yardstick.parse_settings(words, yardstick.load("tuning")) == {
        "a": (),
        "b+": ("critic.hidden=[8,8]", "preset=cpu", "name=x y"),
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "needs settings"),
        (["critic.hidden=[8]"], "critic.hidden=[8] names no settings"),
        (["a"], "a names no settings"),
        (["a=name='x"], "close every quote"),
        (["a=", "a=preset=fast"], "a is given twice"),
        (["a=seeds=3"], "chooses seeds itself"),
        (["a=", "b=eval.modes=[best_of_n]"], "chooses eval.modes itself: leave it out of b"),
        (["a=learn.bach=3"], "learn.bach"),
        (["a=learn.batch=0"], "learn.batch=0"),
    ],
)
def test_impossible_settings_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        yardstick.parse_settings(words, yardstick.load("tuning"))


@pytest.mark.parametrize(
    ("name", "tasks", "message"),
    [
        ("tunning", [], "yardstick tunning is unknown: choose one of tuning"),
        ("tuning", ["dmc/cheetah_ran"], "not in yardstick tuning: choose among dmc/cheetah_run"),
    ],
)
def test_what_is_not_there_is_refused(name: str, tasks: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        yardstick.load(name, tasks)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "mine.yaml is not a mapping: give it the keys description, episodes, evaluations"),
        ("tasks: {dmc/cheetah_run: {random: 4, solved: 920}}", "mine.yaml has no 'description'"),
        (f"{COMPLETE}\nlimit: 3", "mine.yaml has the unknown key 'limit': use only description"),
        (COMPLETE.replace("random: 4, ", ""), "task dmc/cheetah_run has no 'random': add it"),
        (
            COMPLETE.replace("evaluations: 9", "evaluations: 0"),
            "has evaluations: 0: give a whole",
        ),
    ],
)
def test_a_mistake_in_the_file_is_named(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "yardstick").mkdir()
    (tmp_path / "yardstick" / "mine.yaml").write_text(text)
    monkeypatch.setattr("fpmd_mjx.config.load.configs_dir", lambda: tmp_path)
    with pytest.raises(ConfigError, match=message):
        yardstick.load("mine")
