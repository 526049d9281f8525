"""What settings must be, alone and to each other."""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from fpmd_mjx.config.schema import Config, ConfigError

_CHOICES: dict[str, tuple[str | None, ...]] = {
    "task.obs": ("state", "pixels"),
    "task.impl": (None, "jax", "warp", "auto"),
    "task.graph_mode": (None, "warp", "warp_staged", "warp_staged_ex"),
    "actor.name": ("fpmd_r", "fpmd_m"),
    "actor.activation": ("mish", "relu", "silu", "gelu"),
    "critic.activation": ("mish", "relu", "silu", "gelu"),
    "critic.kind": ("scalar", "hl_gauss"),
    "improvement.weights": ("normalized", "scaled", "submission"),
    "learn.dtype": ("float32", "bfloat16"),
}
_AT_LEAST_ONE = [
    "seeds",
    "num_envs",
    "env_steps",
    "epoch_steps",
    "task.action_repeat",
    "task.reset_pool",
    "task.reset_refresh",
    "pixels.frames",
    "pixels.channels",
    "pixels.trunk",
    "actor.flow_steps",
    "improvement.candidates",
    "noise.interval",
    "learn.batch",
    "learn.n_step",
    "learn.updates",
    "learn.collect_steps",
    "learn.policy_delay",
    "learn.replay",
    "eval.episodes",
    "eval.every",
    "checkpoint.every",
    "checkpoint.keep",
]
_POSITIVE = [
    "improvement.temperature",
    "improvement.stats_rate",
    "noise.init_alpha",
    "critic.lr",
    "critic.tau",
    "critic.sigma_bins",
    "actor_optim.lr",
    "learn.reward_scale",
    "actor.prior_std",
]
_NOT_NEGATIVE = [
    "warmup_steps",
    "pixels.shift",
    "noise.scale",
    "actor_optim.final_lr",
    "actor_optim.decay_begin",
]
_FINITE = ["noise.lr", "noise.target_entropy", "critic.v_min", "critic.v_max"]
_UNIT = ["learn.gamma", "actor.equal_time_share", "critic.tau", "improvement.stats_rate"]


Rule = tuple[bool, str, str]
"""(whether it is met, the key it is about, what to do if it is not)."""


def validate(config: Config) -> None:
    """Raises ConfigError on what types alone cannot exclude."""
    tree = OmegaConf.structured(config)
    # In this order and one by one: the combinations divide by what the ranges ask to be positive.
    for met, key, remedy in itertools.chain(_ranges(tree), _combinations(config)):
        if not met:
            raise ConfigError(f"{key}={OmegaConf.select(tree, key)} is not possible: {remedy}.")


def _ranges(tree: Any) -> Iterator[Rule]:
    """What each setting must be, whatever the others are."""

    def value(key: str) -> Any:
        return OmegaConf.select(tree, key)

    for key, choices in _CHOICES.items():
        yield (
            value(key) in choices,
            key,
            f"choose one of {', '.join(choice or 'null' for choice in choices)}",
        )
    for key in _AT_LEAST_ONE:
        yield value(key) >= 1, key, "give a whole number of at least 1"
    for key in _POSITIVE:
        yield 0 < value(key) < math.inf, key, "give a finite number above 0"
    for key in _NOT_NEGATIVE:
        yield 0 <= value(key) < math.inf, key, "give a finite number of at least 0"
    for key in _FINITE:
        yield math.isfinite(value(key)), key, "give a finite number"
    yield (
        1 <= value("actor.time_power") < math.inf,
        "actor.time_power",
        "give a number of at least 1",
    )
    for key in _UNIT:
        yield 0 <= value(key) <= 1, key, "give a number between 0 and 1"
    for key in ("actor.hidden", "critic.hidden"):
        widths = value(key)
        yield len(widths) > 0 and min(widths) >= 1, key, "give layer widths such as [256,256]"
    yield value("critic.bins") >= 2, "critic.bins", "give at least 2 bins"
    yield value("pixels.size") >= 20, "pixels.size", "the encoder needs at least 20 pixels"
    name = Path(value("name"))
    yield (
        not name.is_absolute() and ".." not in name.parts,
        "name",
        "give a folder name such as first-try, with neither a leading / nor ..",
    )


def _combinations(config: Config) -> Iterator[Rule]:
    """What settings must be to each other."""
    learn, optim, rows = config.learn, config.actor_optim, config.replay_rows
    yield (
        0 <= config.seed <= 2**32 - config.seeds,
        "seed",
        "give a whole number of at least 0 with which every seed stays below 2**32",
    )
    yield (
        optim.decay_begin <= optim.decay_end,
        "actor_optim.decay_begin",
        f"it must not exceed actor_optim.decay_end={optim.decay_end}",
    )
    yield (
        config.critic.v_min < config.critic.v_max,
        "critic.v_min",
        f"it must lie below critic.v_max={config.critic.v_max}",
    )
    yield (
        rows > learn.n_step + config.frames,
        "learn.n_step",
        f"the ring holds learn.replay // num_envs = {learn.replay} // {config.num_envs} = {rows} "
        f"steps of every environment; lower learn.n_step below {max(rows - config.frames, 1)} or "
        "raise learn.replay",
    )
    yield (
        config.task.obs == "state" or config.task.name.startswith("dmc/"),
        "task.obs",
        "only tasks of dm_control are seen in pixels; choose one of dmc/",
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
        f"it must not exceed the {rows} steps that the ring holds",
    )
    yield (
        config.warmup_steps < config.env_steps,
        "warmup_steps",
        f"it leaves nothing of env_steps={config.env_steps} to learn in; lower it or raise "
        "env_steps",
    )
