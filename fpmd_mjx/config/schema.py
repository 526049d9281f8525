"""The schema of `configs/`: one dataclass a group, stored in every run folder and checkpoint."""

from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import MISSING


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
    reset_pool: int = 64  # episodes of a seed that may end in one step without a shared start
    reset_refresh: int = 16  # reset states that are drawn together, as soon as they are needed


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
