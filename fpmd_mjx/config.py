"""The schema of `configs/`: typed, validated once, stored in every run folder and checkpoint.

`load(overrides)` composes the YAML groups task, actor and preset with Hydra and returns a `Config`
or raises `ConfigError` with one sentence that names the key, the value and the remedy. A preset
may refine itself for one actor in the group preset_actor, so that no setting is ever chosen by an
`if`.
"""

import difflib
import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import ConfigCompositionException, HydraException, OverrideParseException
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException


class ConfigError(ValueError):
    """A configuration that cannot run; the message names key, value and remedy."""


@dataclass
class TaskConfig:
    """The environment. What is null is as the task is tested."""

    name: str = MISSING
    obs: str = "state"  # state | pixels
    impl: str | None = None  # physics: jax (MJX) | warp (MJX-Warp) | auto
    graph_mode: str | None = None  # CUDA graphs of MJX-Warp: warp | warp_staged | warp_staged_ex
    action_repeat: int = 1
    iterations: int | None = None
    ls_iterations: int | None = None
    reset_pool: int = 64  # reset states in stock, per seed
    reset_refresh: int = 16  # of them drawn anew each epoch


@dataclass
class PixelsConfig:
    """With task.obs=pixels: what is seen, and the networks that see it."""

    size: int = 84  # height and width in pixels
    frames: int = 3  # images in an observation
    camera: int | None = None  # null: DrQ-v2's, 0, of quadrupeds 2
    shadows: bool = True
    skybox: bool = True
    textures: bool = True
    channels: int = 32  # of each of the encoder's four convolutions
    trunk: int = 50  # features that every head makes of the encoder's
    shift: int = 4  # pixels by which images are shifted at random in updates, at most


@dataclass
class ActorConfig:
    """The policy class and its network."""

    name: str = MISSING  # fpmd_r | fpmd_m
    hidden: list[int] = field(default_factory=lambda: [256, 256, 256])
    activation: str = "mish"
    layer_norm: bool = False
    flow_steps: int = 1  # network calls for a sample in training
    prior_std: float = 0.5  # scale of the noise that samples start from; training noise is N(0, I)
    equal_time_share: float = 0.0  # FPMD-M: share of the training pairs with r = t
    time_power: float = 1.0  # FPMD-R: training times are u^time_power, u ~ U(0, 1)


@dataclass
class ImprovementConfig:
    """The mirror-descent step: candidates and importance weights."""

    candidates: int = 32  # best-of-N for acting, TD target and regression
    weights: str = "normalized"  # normalized | scaled | submission
    temperature: float = 3.0  # T of `normalized` and `scaled`
    stats_rate: float = 0.001  # of the running mean and std of Q


@dataclass
class NoiseConfig:
    """Exploration noise of std scale * alpha; alpha is annealed by Adam on log alpha."""

    scale: float = 0.1
    init_alpha: float = 5.0
    lr: float = 7e-3
    interval: int = 250  # updates between two Adam steps
    target_entropy: float = -1.5  # per action dimension


@dataclass
class CriticConfig:
    """Twin critics: scalar with squared error, or HL-Gauss categorical over [v_min, v_max]."""

    kind: str = "scalar"  # scalar | hl_gauss
    hidden: list[int] = field(default_factory=lambda: [256, 256, 256])
    activation: str = "mish"
    layer_norm: bool = False
    lr: float = 3e-4
    tau: float = 0.005
    bins: int = 101
    v_min: float = 0.0
    v_max: float = 100.0
    sigma_bins: float = 0.75  # std of the HL-Gauss target in bin widths


@dataclass
class ActorOptimConfig:
    """Policy rate: lr for decay_begin policy updates, then linear to final_lr at decay_end."""

    lr: float = 3e-4
    final_lr: float = 3e-5
    decay_begin: int = 25_000
    decay_end: int = 75_000


@dataclass
class LearnConfig:
    gamma: float = 0.99
    reward_scale: float = 0.2
    batch: int = 256
    n_step: int = 1
    updates: int = 1  # critic updates per learn call
    collect_steps: int = 1  # vector steps between learn calls
    policy_delay: int = 2  # critic updates per policy and target update
    replay: int = 1_000_000  # transitions per seed
    normalize_obs: bool = False
    dtype: str = "float32"  # float32 | bfloat16: what the networks compute in


@dataclass
class EvalConfig:
    episodes: int = 10  # per seed
    every: int = 1  # epochs


@dataclass
class CheckpointConfig:
    every: int = 1  # epochs
    keep: int = 2
    best: bool = True
    replay: bool = True  # false: smaller checkpoints, but a resumed run refills its replay
    video: bool = False  # of an episode, in videos/


@dataclass
class Config:
    """One training run. Counts are per seed: `env_steps=1000000 seeds=4` steps 4M in all."""

    task: TaskConfig = field(default_factory=TaskConfig)
    pixels: PixelsConfig = field(default_factory=PixelsConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    actor_optim: ActorOptimConfig = field(default_factory=ActorOptimConfig)
    improvement: ImprovementConfig = field(default_factory=ImprovementConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    learn: LearnConfig = field(default_factory=LearnConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    preset: str = MISSING
    num_envs: int = 64  # per seed
    env_steps: int = 1_000_000  # per seed, warm-up included
    warmup_steps: int = 5_000  # env steps of uniform random actions
    epoch_steps: int = 20_000  # env steps between two returns to the host
    seeds: int = 1
    seed: int = 0  # of the first seed; the others follow
    runs: str = "runs"
    name: str = "${preset}-s${seed}"

    @property
    def folder(self) -> Path:
        return Path(self.runs) / self.task.name / self.actor.name / self.name

    @property
    def steps_per_iteration(self) -> int:
        """Env steps of one collect-learn iteration, per seed."""
        return self.num_envs * self.learn.collect_steps

    @property
    def iterations_per_epoch(self) -> int:
        return -(-self.epoch_steps // self.steps_per_iteration)

    @property
    def epochs(self) -> int:
        return -(-self.env_steps // (self.iterations_per_epoch * self.steps_per_iteration))

    @property
    def replay_rows(self) -> int:
        return self.learn.replay // self.num_envs

    @property
    def frames(self) -> int:
        """Rows of the replay that an observation is made of."""
        return self.pixels.frames if self.task.obs == "pixels" else 1


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
        config.task.reset_refresh <= config.task.reset_pool,
        "task.reset_refresh",
        f"it must not exceed task.reset_pool={config.task.reset_pool}",
    )
    yield (
        config.warmup_steps < config.env_steps,
        "warmup_steps",
        f"it leaves nothing of env_steps={config.env_steps} to learn in; lower it or raise "
        "env_steps",
    )


def configs_dir() -> Path:
    """The YAML groups: beside the package in a checkout, inside of it in an installed wheel."""
    inside = Path(__file__).parent / "configs"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "configs"


def choices(group: str) -> list[str]:
    """Names in a config group, such as `dmc/cheetah_run` in `task`."""
    root = configs_dir() / group
    return sorted(str(p.relative_to(root).with_suffix("")) for p in root.rglob("*.yaml"))


def group_file(group: str, name: str) -> Path:
    """The file of a config group, such as `cpu` in `suite`; ConfigError if there is none."""
    known = choices(group)
    if name not in known:
        close = difflib.get_close_matches(name, known) or known
        raise ConfigError(f"{group} {name} is unknown: choose one of {', '.join(close)}.")
    return configs_dir() / group / f"{name}.yaml"


def load(overrides: list[str]) -> Config:
    """Composes `overrides` (`task=dmc/cheetah_run`, `learn.batch=512`) over the defaults."""
    # Playground's registry is not ours to write files for.
    overrides = [re.sub(r"^task=(?=playground/)", "task.name=", x) for x in overrides]
    for override in overrides:
        key, equals, chosen = override.partition("=")
        if not equals or not re.match(r"[a-z]", key) or key.startswith("hydra"):
            raise ConfigError(f"'{override}' is not an override: write key=value.")
        if key in ("task", "actor", "preset") and chosen not in choices(key):
            raise ConfigError(_unknown(f"{key}={chosen}", chosen, choices(key), f"a known {key}"))
    ConfigStore.instance().store(name="schema", node=Config)
    try:
        with initialize_config_dir(str(configs_dir().resolve()), version_base="1.3"):
            tree = compose("config", overrides=overrides)
        config = OmegaConf.to_object(tree)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_sentence(error, overrides)) from error
    assert isinstance(config, Config)
    validate(config)
    return config


def to_yaml(config: Config) -> str:
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def from_yaml(text: str) -> Config:
    """The config that `to_yaml` wrote; what this version does not know raises ConfigError."""
    try:
        tree = OmegaConf.merge(OmegaConf.structured(Config), yaml.safe_load(text))
        config = OmegaConf.to_object(tree)
    except OmegaConfBaseException as error:
        raise ConfigError(
            f"the stored config does not fit this version: {_first_line(error)}"
        ) from error
    assert isinstance(config, Config)
    validate(config)
    return config


def _keys(tree: Any, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in tree.items():
        keys += _keys(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]
    return keys


def _unknown(what: str, wrong: str, known: list[str], remedy: str) -> str:
    close = difflib.get_close_matches(wrong, known, 3, 0.5)
    hint = f"did you mean {' or '.join(close)}" if close else f"known: {', '.join(known[:12])}"
    return f"{what} is unknown; use {remedy} ({hint})."


_EXPECTED = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a word",
    list[int]: "layer widths such as [256,256]",
}


def _expected(key: str) -> str:
    """What the schema wants of a key, in words."""
    wanted: Any = Config
    for part in key.split("."):
        wanted = get_type_hints(wanted)[part]
    if wanted in _EXPECTED:
        return _EXPECTED[wanted]
    if is_dataclass(wanted):
        return f"a value to one of its keys, such as {key}.{fields(wanted)[0].name}"
    return " or ".join(_EXPECTED.get(option, "null") for option in get_args(wanted))


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]


def _sentence(error: BaseException, overrides: list[str]) -> str:
    """One sentence of what Hydra and OmegaConf spread over many lines."""
    text = f"{error}\n{error.__cause__ or ''}"
    if isinstance(error, OverrideParseException):
        return f"'{error.override}' cannot be read: write key=value, with no spaces around '='."
    known = _keys(OmegaConf.to_container(OmegaConf.structured(Config)))
    missing = re.search(r"Could not override '([^']+)'|Key '([^']+)' (?:is )?not in", text)
    full = re.search(r"full_key: ([^\s\[]+)", text)
    named = full or missing
    if named:
        key = next(group for group in named.groups() if group)
        shown = next((o for o in overrides if re.match(rf"{re.escape(key)}[.=]", o)), key)
        if missing:
            return _unknown(shown, shown.partition("=")[0], known, "a key of the schema")
        return f"{shown} has the wrong type: give {_expected(key)}."
    if isinstance(error, ConfigCompositionException | HydraException):
        return f"the configuration cannot be composed: {_first_line(error)}"
    return _first_line(error)
