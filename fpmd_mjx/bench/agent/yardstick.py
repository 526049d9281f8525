"""Yardsticks, as configs/yardstick/NAME.yaml lists them, and the settings that they measure."""

import difflib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from fpmd_mjx.config import load as configs
from fpmd_mjx.config.schema import Config, ConfigError

_KEYS = ("description", "seeds", "episodes", "evaluations", "tasks")
_TASK_KEYS = ("env_steps", "random", "solved")

CHOSEN = ("task", "seeds", "env_steps", "epoch_steps", "eval.episodes", "eval.every", "eval.modes")
"""Settings that the yardstick chooses."""


@dataclass(frozen=True)
class Task:
    """One task of a yardstick.

    Attributes:
        name: such as dmc/cheetah_run.
        env_steps: of a run, per seed.
        random: return of uniform random actions.
        solved: return of the strongest agents.
    """

    name: str
    env_steps: int
    random: float
    solved: float

    def score(self, returns: Any) -> Any:
        """Returns on the scale where random actions have 0 and the strongest agents 1."""
        return (returns - self.random) / (self.solved - self.random)


@dataclass(frozen=True)
class Yardstick:
    """description: one line for people; seeds: runs of each task, in one program; episodes: of an
    evaluation, for each seed; evaluations: of a run, at equal distances."""

    name: str
    description: str
    seeds: int
    episodes: int
    evaluations: int
    tasks: tuple[Task, ...]

    def config(self, task: Task, overrides: Sequence[str]) -> Config:
        """The run of a task with the settings `overrides`, or ConfigError."""
        return configs.load(
            [
                *overrides,
                f"task={task.name}",
                f"seeds={self.seeds}",
                f"env_steps={task.env_steps}",
                f"epoch_steps={-(-task.env_steps // self.evaluations)}",
                f"eval.episodes={self.episodes}",
                "eval.every=1",
                "eval.modes=[one_step]",
            ]
        )


def load(
    name: str,
    tasks: Sequence[str] = (),
    seeds: int | None = None,
    env_steps: int | None = None,
) -> Yardstick:
    """Reads a yardstick; ConfigError if there is none, or if its file has other keys.

    Args:
        name: of the file.
        tasks: those to measure; none for all.
        seeds: instead of the file's.
        env_steps: instead of the file's, for every task.
    """
    path = configs.group_file("yardstick", name)
    tree = yaml.safe_load(path.read_text())
    configs.check_keys(tree, path.name, _KEYS)
    configs.check_counts(tree, path.name, ["seeds", "episodes", "evaluations"])
    listed = {}
    for each, entry in tree.pop("tasks").items():
        configs.check_keys(entry, f"{path.name}, task {each}", _TASK_KEYS)
        listed[each] = Task(name=each, **entry)
    for each in tasks:
        if each not in listed:
            close = difflib.get_close_matches(each, listed) or listed
            raise ConfigError(
                f"task {each} is not in yardstick {name}: choose among {', '.join(close)}."
            )
    chosen = [listed[each] for each in dict.fromkeys(tasks) or listed]
    if env_steps is not None:
        chosen = [replace(each, env_steps=env_steps) for each in chosen]
    yardstick = Yardstick(name=name, tasks=tuple(chosen), **tree)
    return yardstick if seeds is None else replace(yardstick, seeds=seeds)


def parse_settings(words: Sequence[str], yardstick: Yardstick) -> dict[str, tuple[str, ...]]:
    """The overrides of each setting by its name, from words such as `wide=critic.hidden=[256]`.

    A word has a name, `=` and any number of overrides, which spaces separate. ConfigError for a
    word without a name, a name given twice, and what no task could run with.
    """
    if not words:
        raise ConfigError("bench agent needs settings: give NAME='key=value ...' for each.")
    settings: dict[str, tuple[str, ...]] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not re.fullmatch(r"[\w+-]+", name):
            raise ConfigError(
                f"{word} names no settings: give NAME='key=value ...', the name of letters, "
                "digits, + and -."
            )
        if name in settings:
            raise ConfigError(f"{name} is given twice: choose another name.")
        try:
            overrides = tuple(shlex.split(text))
        except ValueError as error:
            raise ConfigError(f"{word} is not possible: {error}; close every quote.") from error
        for key in (override.partition("=")[0] for override in overrides):
            if key in CHOSEN:
                raise ConfigError(f"bench agent chooses {key} itself: leave it out of {name}.")
        for task in yardstick.tasks:
            yardstick.config(task, overrides)  # raises
        settings[name] = overrides
    return settings
