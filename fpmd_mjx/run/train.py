"""The host loop: epochs of the compiled program, and what happens between them.

Python logs, evaluates, saves and stops here; everything else is `program.py`.
"""

import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.render.pixels import Camera
from fpmd_mjx.algorithms.base import ONE_STEP
from fpmd_mjx.config.rules import validate
from fpmd_mjx.config.schema import Config
from fpmd_mjx.evaluation.video import Recorder, video_path
from fpmd_mjx.program import Program, TrainState, make_program
from fpmd_mjx.report import records, statistics
from fpmd_mjx.report.text import clock
from fpmd_mjx.run import logs, memory, provenance
from fpmd_mjx.run.checkpoint import Checkpoints
from fpmd_mjx.run.compile import Compiled, compile_program, use_compile_cache
from fpmd_mjx.run.display import Display
from fpmd_mjx.run.folder import checkpoints, claim_folder
from fpmd_mjx.run.signals import Interrupted, stop_signals
from fpmd_mjx.seeds import eval_keys, seed_array, seed_list

VIDEO_SIZE = 256  # pixels, of the videos at checkpoints


def train(config: Config, display: Display | None = None) -> dict[str, Any]:
    """Trains to `env_steps`, from the latest checkpoint of the run folder if it has one.

    Returns the content of summary.json. Raises ConfigError before anything is compiled, and
    Interrupted after a signal, when all is saved.
    """
    validate(config)
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
    with checkpoints(config, folder) as saved, stop_signals() as stop:
        run = _Run(program, compiled, folder, saved)
        display.begin(
            f"{config.task.name} {config.algorithm.name}",
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
    records.write_json(folder / "summary.json", summary)
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
        self.last_eval = statistics.summarize(np.asarray(returns), self.env_steps)
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
            "actor": config.algorithm.name,
            "preset": config.preset,
            "seeds": config.seeds,
            "num_envs": config.num_envs,
            "env_steps": self.env_steps,
            "updates": updates,
            "compile_seconds": round(self.compile_seconds, 2),
            "train_seconds": round(self.train_seconds, 2),
            "env_steps_per_second": round(self.env_steps_per_second, 1),
            "updates_per_second": round(updates * config.seeds / max(self.train_seconds, 1e-9), 1),
            **provenance.provenance(),
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
