"""Checks of settings: each alone, all together, and whether a chosen setting does anything."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any

from fpmd_mjx.config.schema import ALGORITHMS, Config, ConfigError

Rule = tuple[bool, str, str]
"""(whether it is met, the key, the remedy)."""


def validate(config: Config) -> None:
    """Raises ConfigError if a value or a combination of values is not possible."""
    # Ranges first: the combinations divide by numbers that the ranges require to be positive.
    for met, key, remedy in itertools.chain(_ranges(config), _combinations(config)):
        if not met:
            raise ConfigError(f"{key}={shown(value(config, key))} is not possible: {remedy}.")


def refuse_useless(config: Config, keys: Iterable[str]) -> None:
    """Raises ConfigError if one of `keys` does nothing beside the other settings of `config`.

    keys: the settings that the user gave, such as `critic.bins`. Those of a preset are not checked.
    """
    for key in keys:
        parts = key.split(".")
        for depth in range(1, len(parts) + 1):
            only = _field(config, parts[:depth]).metadata["only"]
            chooser, _, choices = only.partition("=")
            if only and value(config, chooser) not in choices.split("|"):
                raise ConfigError(
                    f"{key}={shown(value(config, key))} does nothing with "
                    f"{chooser}={value(config, chooser)}: leave it out, or choose "
                    f"{' or '.join(f'{chooser}={choice}' for choice in choices.split('|'))}."
                )


def settings(group: Any, prefix: str = "") -> Iterator[tuple[str, Field]]:
    """Every setting of a config, or of one of its groups, with its field: (`learn.batch`, ...)."""
    for each in fields(group):
        member = getattr(group, each.name)
        if is_dataclass(member):
            yield from settings(member, f"{prefix}{each.name}.")
        else:
            yield prefix + each.name, each


def value(config: Config, key: str) -> Any:
    """The value of a key such as `learn.batch`."""
    found: Any = config
    for part in key.split("."):
        found = getattr(found, part)
    return found


def shown(setting: Any) -> str:
    """A value in the form of the command line."""
    if setting is None:
        return "null"
    return str(setting).lower() if isinstance(setting, bool) else str(setting)


def _field(config: Config, parts: list[str]) -> Field:
    holder = value(config, ".".join(parts[:-1])) if len(parts) > 1 else config
    return next(each for each in fields(holder) if each.name == parts[-1])


def _ranges(config: Config) -> Iterator[Rule]:
    """The rules of each setting alone."""
    for key, each in settings(config):
        allowed = each.metadata["allowed"]
        yield allowed.holds(value(config, key)), key, allowed.remedy
    name = Path(config.name)
    yield (
        not name.is_absolute() and ".." not in name.parts,
        "name",
        "give a folder name such as first-try, with neither a leading / nor ..",
    )


def _combinations(config: Config) -> Iterator[Rule]:
    """The rules of settings together."""
    learn, actor, rows = config.learn, config.actor, config.replay_rows
    yield (
        type(config.algorithm) is ALGORITHMS.get(config.algorithm.name),
        "algorithm.name",
        f"choose the algorithm itself: {' or '.join(f'algorithm={x}' for x in ALGORITHMS)}",
    )
    yield (
        config.seed <= 2**32 - config.seeds,
        "seed",
        "give a smaller whole number, so that every seed stays below 2**32",
    )
    yield (
        actor.decay_begin <= actor.decay_end,
        "actor.decay_begin",
        f"it must not exceed actor.decay_end={actor.decay_end}",
    )
    yield (
        config.critic.v_min < config.critic.v_max,
        "critic.v_min",
        f"it must lie below critic.v_max={config.critic.v_max}",
    )
    yield (
        rows > learn.n_step + config.frames,
        "learn.n_step",
        f"the replay buffer holds learn.replay // num_envs = {learn.replay} // {config.num_envs} = "
        f"{rows} steps of every environment; lower learn.n_step below "
        f"{max(rows - config.frames, 1)} or raise learn.replay",
    )
    yield (
        config.task.obs == "state" or config.task.name.startswith("dmc/"),
        "task.obs",
        "only dm_control's tasks have images; choose a task of dmc/, or task.obs=state",
    )
    yield (
        config.task.obs == "state" or not learn.normalize_obs,
        "learn.normalize_obs",
        "images are scaled by the encoder; leave it false with task.obs=pixels",
    )
    yield (
        config.task.graph_mode is None or config.task.impl != "jax",
        "task.graph_mode",
        "it is a mode of MJX-Warp, which task.impl=jax does not use; set task.impl=warp, or leave "
        "task.graph_mode out",
    )
    yield (
        learn.batch <= learn.replay,
        "learn.batch",
        f"a batch cannot be larger than learn.replay={learn.replay}; lower the one or raise the "
        "other",
    )
    yield (
        rows >= learn.collect_steps,
        "learn.collect_steps",
        f"it must not exceed the {rows} steps of each environment that the replay buffer holds",
    )
    yield (
        config.warmup_steps < config.env_steps,
        "warmup_steps",
        f"it leaves none of env_steps={config.env_steps} for learning; lower it or raise env_steps",
    )
    yield (
        config.warmup_steps <= rows * config.num_envs,
        "warmup_steps",
        f"the replay buffer keeps only the last {rows * config.num_envs} of these steps; lower it "
        "or raise learn.replay",
    )
