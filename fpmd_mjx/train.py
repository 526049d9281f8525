"""The host loop: epochs of the compiled program, and what happens between them.

Python logs, evaluates, saves and stops here; everything else is `program.py`.
"""

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import yaml

from envs.pixels import Camera
from fpmd_mjx import config as configs
from fpmd_mjx import evaluate, logs, memory
from fpmd_mjx.checkpoint import Checkpoints
from fpmd_mjx.config import Config, ConfigError
from fpmd_mjx.display import Display, clock
from fpmd_mjx.evaluate import Mode
from fpmd_mjx.normalize import Normalizer
from fpmd_mjx.program import Policy, Program, TrainState, make_program
from fpmd_mjx.video import Recorder, video_path

ONE_STEP = Mode("one_step")

VIDEO_SIZE = 256  # pixels, of the videos at checkpoints

# What a run may change when it continues; anything else makes it another run.
_RESUMABLE = ("env_steps", "eval", "checkpoint", "runs", "name")

LOAD_SECONDS = 3.0
"""Within which an epoch that is in the compile cache is loaded. One that is not takes longer."""

_EVAL_STREAM = 0x45564C  # keeps the keys of evaluations apart from those of the program


class Interrupted(Exception):
    """The run was asked to stop, has saved, and says how to continue. signum: who asked."""

    def __init__(self, signum: int, message: str):
        super().__init__(message)
        self.signum = signum


@dataclass
class Compiled:
    """The executables of a run, each traced and compiled once.

    evaluation: returns the evaluation's. seconds: until the first epoch could begin.
    """

    init: Any
    train_epoch: Any
    evaluation: Callable[[], Any]
    seconds: float

    @property
    def evaluate(self) -> Any:
        return self.evaluation()


def compile_program(program: Program) -> Compiled:
    """Traces and compiles ahead of time, so that run time holds no compile time, ever.

    XLA compiles outside of Python's lock: the executables are built side by side. Loading them from
    a full cache takes that lock, so that nothing is gained by it: the evaluation's is then built at
    its first use, which is after the first epoch.
    """
    config = program.config
    start = time.monotonic()
    seeds = jax.ShapeDtypeStruct((config.seeds,), jnp.uint32)
    state = program.traced_init.out_info
    rollout = partial(evaluate.rollout, program, ONE_STEP, config.eval.episodes)
    keys = jax.eval_shape(eval_keys, seeds, jax.ShapeDtypeStruct((), jnp.uint32))
    options: Any = program.compiler_options
    pool = ThreadPoolExecutor()
    # Each is compiled while the next one is traced.
    init = pool.submit(program.traced_init.lower().compile, options)
    train_epoch = pool.submit(
        jax.jit(program.train_epoch, donate_argnums=0).lower(state).compile, options
    )

    @cache
    def evaluation() -> jax.stages.Compiled:
        return jax.jit(rollout).lower(program.policy(state), keys).compile(options)

    cached, _ = wait([train_epoch], timeout=LOAD_SECONDS)
    if not cached:
        evaluation()
    executables = init.result(), train_epoch.result()
    return Compiled(*executables, evaluation, time.monotonic() - start)


def eval_keys(seeds: jax.Array, epoch: jax.Array) -> jax.Array:
    """Keys of the evaluation after `epoch`, (seeds,): a function of both alone."""

    def key(seed: jax.Array) -> jax.Array:
        stream = jax.random.fold_in(jax.random.key(seed), _EVAL_STREAM)
        return jax.random.fold_in(stream, epoch)

    return jax.vmap(key)(seeds)


def seed_list(config: Config) -> list[int]:
    return list(range(config.seed, config.seed + config.seeds))


def seed_array(config: Config) -> jax.Array:
    return jnp.asarray(seed_list(config), jnp.uint32)


def checkpoints(config: Config, folder: Path) -> Checkpoints:
    return Checkpoints(
        folder / "checkpoints",
        keep_last=config.checkpoint.keep,
        keep_best=config.checkpoint.best,
        replay=config.checkpoint.replay,
    )


def compile_cache() -> Path:
    """Where compiled programs are kept between processes: the user's choice, or ours."""
    chosen = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    return Path(chosen or Path.home() / ".cache" / "fpmd_mjx" / "xla")


def use_compile_cache() -> None:
    """Keeps compiled programs on disk between processes."""
    jax.config.update("jax_compilation_cache_dir", str(compile_cache()))


def claim_folder(config: Config) -> Path:
    """The run folder, new or of this very config; ConfigError if it belongs to another.

    A folder with neither checkpoint nor summary holds nothing to lose, and is taken over.
    """
    folder = config.folder
    stored = folder / "config.yaml"
    results = (folder / "checkpoints", folder / "summary.json")
    if stored.exists() and any(path.exists() for path in results):
        ours = _flat(yaml.safe_load(configs.to_yaml(config)))
        theirs = _flat(yaml.safe_load(stored.read_text()))
        for key in sorted(ours.keys() | theirs.keys()):
            if key.split(".")[0] in _RESUMABLE or ours.get(key) == theirs.get(key):
                continue
            raise ConfigError(
                f"{key}={ours.get(key)} does not continue the run in {folder}, which has "
                f"{key}={theirs.get(key)}: choose another name=..., or delete that folder."
            )
    folder.mkdir(parents=True, exist_ok=True)
    part = stored.with_suffix(".part")
    part.write_text(configs.to_yaml(config))
    part.replace(stored)
    return folder


def train(config: Config, display: Display | None = None) -> dict[str, Any]:
    """Trains to `env_steps`, from the latest checkpoint of the run folder if it has one.

    Returns the content of summary.json. Raises ConfigError before anything is compiled, and
    Interrupted after a signal, when all is saved.
    """
    configs.validate(config)
    program = make_program(config)
    planned, available = memory.plan(program), memory.limit()
    memory.check(config, planned, available)
    folder = claim_folder(config)
    if display is None:
        with Display() as display:
            return _train(program, folder, display, memory.describe(planned, available))
    return _train(program, folder, display, memory.describe(planned, available))


def _train(program: Program, folder: Path, display: Display, plan: str) -> dict[str, Any]:
    config = program.config
    display.note(f"{folder}\n{plan}")
    use_compile_cache()
    compiled = compile_program(program)
    display.note(f"compiled in {compiled.seconds:.1f} s")
    with checkpoints(config, folder) as saved, _stop_signals() as stop:
        run = _Run(program, compiled, folder, saved)
        display.begin(
            f"{config.task.name} {config.actor.name}",
            run.env_steps,
            run.env_steps_at(config.epochs),
        )
        while run.epoch < config.epochs:
            run.advance()
            display.update(run.env_steps, run.status())
            last = run.epoch == config.epochs
            if stop or last or run.epoch % config.checkpoint.every == 0:
                run.save()
            if stop and not last:
                saved.wait()
                raise Interrupted(
                    stop[0],
                    f"stopped after {run.env_steps} of {run.env_steps_at(config.epochs)} env "
                    f"steps, all saved; the same command continues in {folder}",
                )
        run.evaluate_end()
        saved.wait()
        run.log.close()
    summary = run.summary()
    logs.write_json(folder / "summary.json", summary)
    display.end()
    display.note(run.outcome(summary))
    if stop:  # a suite must not go on to its next run
        raise Interrupted(stop[0], f"stopped; the run in {folder} is complete")
    return summary


class _Run:
    """A run between two epochs: the state on the device and the host's few counters."""

    def __init__(
        self, program: Program, compiled: Compiled, folder: Path, saved: Checkpoints
    ) -> None:
        self.program, self.compiled, self.saved = program, compiled, saved
        self.config = program.config
        self.seeds = seed_array(self.config)
        self.epoch = 0
        self.train_seconds = 0.0
        self.compile_seconds = compiled.seconds
        self.last_eval: dict[str, Any] | None = None
        self.best: dict[str, Any] | None = None
        self.nonfinite = {"env_resets": 0, "skipped_updates": 0}
        self._rollout_return = float("nan")
        if saved.latest() is None:
            self.state: TrainState = compiled.init(self.seeds)
        else:
            template = program.traced_init.out_info  # a second state may not fit on the device
            if not self.config.checkpoint.replay:
                template = template.replace(replay=compiled.init(self.seeds).replay)
            self.state, meta = saved.restore(template)
            for name, value in meta.items():
                setattr(self, name, value)
            self.compile_seconds += compiled.seconds
        self.log = logs.MetricsLog(folder, self.epoch)
        self._folder = folder
        self._recorder: Recorder | None = None

    def env_steps_at(self, epoch: int) -> int:
        config = self.config
        return epoch * config.iterations_per_epoch * config.steps_per_iteration

    @property
    def env_steps(self) -> int:
        """Per seed."""
        return self.env_steps_at(self.epoch)

    def advance(self) -> None:
        """One epoch, its metrics and, when due, its evaluation."""
        start = time.monotonic()
        self.state, metrics = self.compiled.train_epoch(self.state)
        host = {name: np.asarray(x) for name, x in jax.device_get(metrics).items()}
        self.train_seconds += time.monotonic() - start
        self.epoch += 1
        self.nonfinite["env_resets"] += int(host["nonfinite/env_resets"].sum())
        self.nonfinite["skipped_updates"] = int(host["nonfinite/skipped_updates"].sum())
        self._rollout_return = float(np.mean(host["rollout/return"]))
        host["eval/one_step"] = self._evaluate()
        self.log.write(
            {
                "epoch": self.epoch,
                "env_steps": self.env_steps,
                "updates": int(self.state.updates),
                "train_seconds": round(self.train_seconds, 3),
            },
            host,
            seed_list(self.config),
        )

    def _evaluate(self) -> np.ndarray:
        """Mean one-step return of each seed; nan in epochs without an evaluation."""
        if self.epoch % self.config.eval.every and self.epoch < self.config.epochs:
            return np.full(self.config.seeds, np.nan)
        returns, _ = self.compiled.evaluate(
            self.program.policy(self.state), eval_keys(self.seeds, jnp.uint32(self.epoch))
        )
        self.last_eval = evaluate.summarize(np.asarray(returns), self.env_steps)
        if self.best is None or self.last_eval["mean"] > self.best["mean"]:
            self.best = self.last_eval
        return np.asarray(self.last_eval["per_seed"])

    def evaluate_end(self) -> None:
        """The evaluation of a run that was over when it began: `env_steps` has been lowered."""
        if self.last_eval is None or self.last_eval["env_steps"] != self.env_steps:
            self._evaluate()

    def save(self) -> None:
        names = ["epoch", "train_seconds", "compile_seconds", "last_eval", "best", "nonfinite"]
        self.saved.save(
            self.epoch,
            self.state,
            {name: getattr(self, name) for name in names},
            self.last_eval["mean"] if self.last_eval else None,
            policy=self.program.policy(self.state),
        )
        if self.config.checkpoint.video:
            self._record()

    def _record(self) -> None:
        """A video of one episode, with the first of the evaluation's keys."""
        if self._recorder is None:
            self._recorder = Recorder(self.program, ONE_STEP, 1, Camera(size=VIDEO_SIZE))
        self._recorder(
            self.program.policy(self.state),
            eval_keys(self.seeds, jnp.uint32(self.epoch)),
            video_path(self._folder, self.epoch),
        )

    def status(self) -> str:
        shown = f"{self.last_eval['mean']:.1f}" if self.last_eval else "-"
        return (
            f"one_step {shown}  return {self._rollout_return:.1f}  "
            f"{self.env_steps_per_second:,.0f} steps/s"
        )

    @property
    def env_steps_per_second(self) -> float:
        """Of all seeds together, without compilation and evaluation."""
        return self.env_steps * self.config.seeds / max(self.train_seconds, 1e-9)

    def summary(self) -> dict[str, Any]:
        config, updates = self.config, int(self.state.updates)
        return {
            "task": config.task.name,
            "actor": config.actor.name,
            "preset": config.preset,
            "seeds": config.seeds,
            "num_envs": config.num_envs,
            "env_steps": self.env_steps,
            "updates": updates,
            "compile_seconds": round(self.compile_seconds, 2),
            "train_seconds": round(self.train_seconds, 2),
            "env_steps_per_second": round(self.env_steps_per_second, 1),
            "updates_per_second": round(updates * config.seeds / max(self.train_seconds, 1e-9), 1),
            **logs.provenance(),
            "eval": {str(ONE_STEP): self.last_eval},
            "best": {str(ONE_STEP): self.best},
            "nonfinite": self.nonfinite,
        }

    def outcome(self, summary: dict[str, Any]) -> str:
        last, interval = summary["eval"][str(ONE_STEP)], ""
        if last["ci95"]:
            interval = f" (95% interval over seeds {last['ci95'][0]:.1f} to {last['ci95'][1]:.1f})"
        return (
            f"one_step {last['mean']:.1f}{interval} after {summary['env_steps']:,} env steps and "
            f"{clock(summary['train_seconds'])} of training"
        )


def load_policy(folder: Path, epoch: int | None = None) -> tuple[Program, Policy, int]:
    """Policy-only restore of a run: its program, the policy of all seeds, and its epoch.

    epoch: None for the latest. Raises ConfigError if the folder holds no run, CheckpointError if it
    has no such checkpoint.
    """
    stored = folder / "config.yaml"
    if not stored.exists():
        raise ConfigError(f"{folder} is not a run folder: it has no config.yaml; give runs/...")
    config = configs.from_yaml(stored.read_text())
    with checkpoints(config, folder) as saved:
        epoch = saved.latest() if epoch is None else epoch
        tree = saved.restore_policy(epoch)
    assert epoch is not None
    # Arrays that are bound to a device compile to programs of their own: a score would not find
    # in the compile cache what training left there.
    tree = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), tree)
    normalizer = Normalizer(**tree["normalizer"]) if "normalizer" in tree else None
    policy = Policy(tree.get("encoder", {}), tree["actor"], tree["critic"], normalizer)
    return make_program(config), policy, epoch


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that receives the first SIGINT or SIGTERM; a second one acts at once."""
    received: list[int] = []
    previous: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def handle(signum: int, frame: Any) -> None:
        received.append(signum)
        restore()

    for signum in (signal.SIGINT, signal.SIGTERM):
        previous[signum] = signal.signal(signum, handle)
    try:
        yield received
    finally:
        restore()


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
