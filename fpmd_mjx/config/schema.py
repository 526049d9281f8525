"""The settings of a run: one dataclass a group, stored in every run folder and checkpoint.

Each field has its allowed values (`count`, `real`, `choice`, ...). `only` names the choice without
which the setting does nothing. `rules.py` checks both.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING


class ConfigError(ValueError):
    """A configuration that cannot run; the message names key, value and remedy."""


@dataclass(frozen=True)
class Allowed:
    """The allowed values of a setting. remedy: for a message, such as "choose a or b"."""

    holds: Callable[[Any], bool]
    remedy: str


LARGEST_COUNT = 2**31 - 1
"""The largest count that the program can keep as int32."""

LARGEST_INTERVAL = 2**16 - 1
"""The largest divisor of `Counter.is_multiple_of`."""


MODE = re.compile(r"one_step|one_step_sampled|best_of_n|steps=[1-9]\d*")
"""The evaluation modes, see `Mode`."""


def _setting(default: Any, allowed: Allowed, only: str) -> Any:
    return field(default=default, metadata={"allowed": allowed, "only": only})


def count(default: Any, least: int = 1, most: int = LARGEST_COUNT, only: str = "") -> Any:
    """A whole number; null is allowed if it is the default."""
    remedy = f"give a whole number of at least {least}"
    if most != LARGEST_COUNT:
        remedy = f"give a whole number from {least} to {most}"

    def holds(x: int | None) -> bool:
        return default is None if x is None else least <= x <= most

    return _setting(default, Allowed(holds, remedy), only)


def real(
    default: float,
    above: float = -math.inf,
    least: float = -math.inf,
    most: float = math.inf,
    only: str = "",
    null: bool = False,
) -> Any:
    """A finite number, in [least, most] and above `above`; null: whether null is allowed, too."""
    remedy = "give a finite number"
    if least > -math.inf and most < math.inf:
        remedy = f"give a number between {least:g} and {most:g}"
    elif least > -math.inf:
        remedy += f" of at least {least:g}"
    elif above > -math.inf:
        remedy += f" above {above:g}"
        remedy += f", {most:g} at most" if most < math.inf else ""

    remedy += ", or null" if null else ""

    def holds(x: float | None) -> bool:
        if x is None:
            return null
        return math.isfinite(x) and x > above and least <= x <= most

    return _setting(default, Allowed(holds, remedy), only)


def choice(default: str | None, *options: str | None) -> Any:
    """One of the words `options`, which may include null."""
    remedy = f"choose one of {', '.join(option or 'null' for option in options)}"
    return _setting(default, Allowed(lambda x: x in options, remedy), "")


def flag(default: bool) -> Any:
    """true or false."""
    return _setting(default, Allowed(lambda x: isinstance(x, bool), "give true or false"), "")


def widths(*default: int) -> Any:
    """The widths of a network's hidden layers."""

    def holds(x: list[int]) -> bool:
        return len(x) > 0 and min(x) >= 1 and max(x) <= LARGEST_COUNT

    allowed = Allowed(holds, "give layer widths such as [256,256]")
    return field(default_factory=lambda: list(default), metadata={"allowed": allowed, "only": ""})


def modes(*default: str) -> Any:
    """Evaluation modes, each once."""

    def holds(x: list[str]) -> bool:
        return len(x) > 0 and len(set(x)) == len(x) and all(map(MODE.fullmatch, x))

    remedy = "give one or more of one_step, one_step_sampled, best_of_n and steps=K, each once"
    allowed = Allowed(holds, remedy)
    return field(default_factory=lambda: list(default), metadata={"allowed": allowed, "only": ""})


def text(default: str) -> Any:
    """Any word."""
    return _setting(default, Allowed(lambda x: bool(x), "give a word"), "")


def group(kind: type, only: str = "") -> Any:
    """A group of settings."""
    return field(default_factory=kind, metadata={"only": only})


@dataclass
class TaskConfig:
    """The environment. null uses the value that was measured for the task."""

    name: str = text(MISSING)
    obs: str = choice("state", "state", "pixels")
    impl: str | None = choice(None, None, "jax", "warp", "auto")  # physics: MJX or MJX-Warp
    graph_mode: str | None = choice(None, None, "warp", "warp_staged", "warp_staged_ex")  # CUDA
    action_repeat: int = count(1)
    iterations: int | None = count(None)  # of the constraint solver
    ls_iterations: int | None = count(None)  # of its line search
    reset_pool: int = count(64)  # reset states per seed; if more episodes end at once, some share
    reset_refresh: int = count(16)  # reset states that are drawn together, when needed


@dataclass
class PixelsConfig:
    """Images, and the networks that read them."""

    size: int = count(84, least=20)  # height and width in pixels
    frames: int = count(3)  # images in an observation
    camera: int | None = count(None, least=0)  # null uses DrQ-v2's choice: 0, or 2 for quadrupeds
    shadows: bool = flag(True)
    skybox: bool = flag(True)
    textures: bool = flag(True)
    channels: int = count(32)  # of each of the encoder's four convolutions
    trunk: int = count(50)  # width of the layer between the encoder and each head
    shift: int = count(4, least=0)  # an update shifts images by at most this many pixels


@dataclass
class ActorConfig:
    """The policy's network and its learning rate.

    The rate is lr for decay_begin policy updates, and falls linearly to final_lr at decay_end.
    """

    hidden: list[int] = widths(256, 256, 256)
    activation: str = choice("mish", "mish", "relu", "silu", "gelu")
    layer_norm: bool = flag(False)
    lr: float = real(3e-4, above=0)
    final_lr: float = real(3e-5, least=0)
    decay_begin: int = count(25_000, least=0)
    decay_end: int = count(75_000, least=0)


@dataclass
class CriticConfig:
    """Critics: scalar with squared error, or HL-Gauss categorical over [v_min, v_max]."""

    kind: str = choice("scalar", "scalar", "hl_gauss")
    hidden: list[int] = widths(256, 256, 256)
    activation: str = choice("mish", "mish", "relu", "silu", "gelu")
    layer_norm: bool = flag(False)
    lr: float = real(3e-4, above=0)
    # Q of twins in targets and improvement; none: one critic
    twin: str = choice("min", "min", "mean", "none")
    tau: float = real(0.005, above=0, most=1)  # share of the critic in each target update
    bins: int = count(101, least=2, only="critic.kind=hl_gauss")
    v_min: float = real(0.0, only="critic.kind=hl_gauss")
    v_max: float = real(100.0, only="critic.kind=hl_gauss")
    # std of the HL-Gauss target in bin widths
    sigma_bins: float = real(0.75, above=0, only="critic.kind=hl_gauss")

    @property
    def critics(self) -> int:
        """Their number."""
        return 1 if self.twin == "none" else 2


@dataclass
class AlgorithmConfig:
    """The settings of every algorithm. name: a file of configs/algorithm."""

    name: str = text(MISSING)


@dataclass
class NoiseConfig:
    """Exploration noise of std scale * alpha; Adam anneals log alpha."""

    scale: float = real(0.1, above=0)
    init_alpha: float = real(5.0, above=0)
    lr: float = real(7e-3)
    interval: int = count(250, most=LARGEST_INTERVAL)  # updates between two Adam steps
    target_entropy: float = real(-1.5)  # per action dimension
    # in collecting, std rises from 1 - spread to 1 + spread times that over the environments
    spread: float = real(0.0, least=0, most=1)


@dataclass
class FlowConfig(AlgorithmConfig):
    """Algorithms with a flow policy; the defaults are the settings that FPMD was released with."""

    flow_steps: int = count(1)  # network calls for a sample in training
    prior_std: float = real(0.5, above=0)  # of the noise that samples start from
    candidates: int = count(32)  # best-of-N: in FPMD everywhere but one_step, in FPMD+ best_of_n
    policy_delay: int = count(2, most=LARGEST_INTERVAL)  # critic updates per policy update
    noise: NoiseConfig = group(NoiseConfig)


@dataclass
class FpmdConfig(FlowConfig):
    """Flow Policy Mirror Descent (arXiv 2507.23675); the defaults are the released settings."""

    weights: str = choice("submission", "normalized", "scaled", "submission")
    temperature: float = real(3.0, above=0, only="algorithm.weights=normalized|scaled")
    stats_rate: float = real(0.001, above=0, most=1)  # of the running mean and std of Q


@dataclass
class FpmdPlusConfig(FlowConfig):
    """FPMD+: mirror descent along the gradient of Q."""

    radius: float = real(0.5, above=0)  # KL divergence of a mirror-descent step from the policy
    matching: float = real(0.1, above=0)  # weight of the flow-matching loss
    average_rate: float = real(0.001, above=0, most=1)  # of the average that is deployed; 1: none
    policy_share: float = real(0.5, above=0, most=1)  # share of the batch in the policy's step
    matching_share: float = real(0.5, above=0, most=1)  # share of these states in flow matching


@dataclass
class RectifiedConfig:
    """A rectified flow."""

    time_power: float = real(1.0, least=1)  # training times are u^time_power, u ~ U(0, 1)


@dataclass
class MeanFlowConfig:
    """A MeanFlow."""

    equal_time_share: float = real(0.0, least=0, most=1)  # share of training pairs with r = t


@dataclass
class FpmdRConfig(RectifiedConfig, FpmdConfig):
    """FPMD-R: a rectified flow."""


@dataclass
class FpmdMConfig(MeanFlowConfig, FpmdConfig):
    """FPMD-M: a MeanFlow."""


@dataclass
class FpmdRPlusConfig(RectifiedConfig, FpmdPlusConfig):
    """FPMD-R+: a rectified flow."""


@dataclass
class FpmdMPlusConfig(MeanFlowConfig, FpmdPlusConfig):
    """FPMD-M+: a MeanFlow."""


ALGORITHMS: dict[str, type[AlgorithmConfig]] = {
    "fpmd_m": FpmdMConfig,
    "fpmd_r": FpmdRConfig,
    "fpmd_m_plus": FpmdMPlusConfig,
    "fpmd_r_plus": FpmdRPlusConfig,
}
"""The settings of each algorithm, by its name."""


@dataclass
class LearnConfig:
    """Learning, whatever the algorithm."""

    gamma: float = real(0.99, least=0, most=1)
    reward_scale: float | None = real(0.2, above=0, null=True)  # null: by the returns so far
    batch: int = count(256)
    n_step: int = count(1)
    updates: int = count(1)  # critic updates per learn call
    collect_steps: int = count(1)  # vector steps between learn calls
    replay: int = count(1_000_000)  # transitions per seed
    normalize_obs: bool = flag(False)
    dtype: str = choice("float32", "float32", "bfloat16")  # of the networks' computations


@dataclass
class EvalConfig:
    """Evaluations during training."""

    modes: list[str] = modes("one_step")  # the first ranks the checkpoints
    episodes: int = count(10)  # per seed and mode
    every: int = count(1)  # epochs


@dataclass
class CheckpointConfig:
    """Checkpoints and videos on disk."""

    every: int = count(1)  # epochs
    keep: int = count(2)  # of the newest
    best: bool = flag(True)  # keep the policy of the best evaluation, too
    replay: bool = flag(True)  # false: smaller checkpoints, but a resumed run refills its replay
    video: bool = flag(False)  # of an episode, in videos/


@dataclass
class Config:
    """One training run. Counts are per seed: `env_steps=1000000 seeds=4` steps 4M in all."""

    task: TaskConfig = group(TaskConfig)
    pixels: PixelsConfig = group(PixelsConfig, only="task.obs=pixels")
    algorithm: AlgorithmConfig = field(default=MISSING, metadata={"only": ""})
    actor: ActorConfig = group(ActorConfig)
    critic: CriticConfig = group(CriticConfig)
    learn: LearnConfig = group(LearnConfig)
    eval: EvalConfig = group(EvalConfig)
    checkpoint: CheckpointConfig = group(CheckpointConfig)
    preset: str = text(MISSING)
    num_envs: int = count(64)  # per seed
    env_steps: int = count(1_000_000, most=2**53)  # per seed, warm-up included
    warmup_steps: int = count(5_000, least=0)  # env steps of uniform random actions
    epoch_steps: int = count(20_000)  # env steps between two returns to Python
    seeds: int = count(1)
    seed: int = count(0, least=0, most=2**32 - 1)  # of the first seed; the others follow
    runs: str = text("runs")
    name: str = text("${preset}-s${seed}")

    @property
    def folder(self) -> Path:
        return Path(self.runs) / self.task.name / self.algorithm.name / self.name

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
        """Rows of the replay buffer in one observation."""
        return self.pixels.frames if self.task.obs == "pixels" else 1
