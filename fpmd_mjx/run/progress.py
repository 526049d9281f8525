"""A run between two epochs: its state on the device, and the counters of the host."""

import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from envs.render.pixels import Camera
from fpmd_mjx.algorithms.base import ONE_STEP
from fpmd_mjx.evaluation.deploy import Layout
from fpmd_mjx.evaluation.video import Recorder, video_path
from fpmd_mjx.program import Program, TrainState
from fpmd_mjx.run import metrics, summary
from fpmd_mjx.run.checkpoint import Checkpoints
from fpmd_mjx.run.compile import Compiled
from fpmd_mjx.run.evaluations import Evaluations
from fpmd_mjx.run.logs import MetricsLog
from fpmd_mjx.run.parts import Parts
from fpmd_mjx.seeds import Stream, seed_array, seed_list, stream_keys

VIDEO_SIZE = 256  # pixels, of the videos at checkpoints


class Run:
    """One run, from its start or from the latest of its checkpoints.

    begin: `time.monotonic()` at which this process began with the run. epoch: epochs done.
    """

    def __init__(
        self, program: Program, compiled: Compiled, folder: Path, saved: Checkpoints, begin: float
    ) -> None:
        self._program, self._compiled, self._saved = program, compiled, saved
        self._folder = folder
        self.config = config = program.config
        self.epoch = 0
        self._counts = metrics.Counts(config.seeds)
        earlier: list[dict[str, Any]] = []
        meta: dict[str, Any] = {}
        if saved.latest() is None:
            self._state: TrainState = compiled.init(seed_array(config))
        else:
            template = program.traced_init.out_info  # a second state may not fit on the device
            if not config.checkpoint.replay:
                template = template.replace(replay=compiled.init(seed_array(config)).replay)
            self._state, meta = saved.restore(template)
            self.epoch, earlier = meta["epoch"], meta["parts"]
            self._counts.restore(meta["nonfinite"])
        self._parts = Parts(earlier, self.env_steps, begin, compiled.seconds)
        self._evaluations = Evaluations(config, compiled, self._parts.provenance)
        if meta:
            self._evaluations.restore(meta["evaluations"])
        self._log = MetricsLog(folder, self.epoch)
        self._updates = int(self._state.updates)
        self._status = ""
        self._recorder: Recorder | None = None

    def env_steps_at(self, epoch: int) -> int:
        return epoch * self.config.iterations_per_epoch * self.config.steps_per_iteration

    @property
    def env_steps(self) -> int:
        """Per seed."""
        return self.env_steps_at(self.epoch)

    def advance(self) -> None:
        """Trains one epoch, evaluates it when due, and logs its metrics."""
        start = time.monotonic()
        self._state, on_device = self._compiled.train_epoch(self._state)
        found = {name: np.asarray(x) for name, x in jax.device_get(on_device).items()}
        self.epoch += 1
        self._parts.trained(self.env_steps, time.monotonic() - start)
        self._record(found)

    def _record(self, found: dict[str, np.ndarray]) -> None:
        """Evaluates when due, and logs the epoch. found: the program's metrics of it."""
        updates = int(self._state.updates)
        # With fewer updates than the policy's delay, the policy may not have learned yet.
        learned = updates - self._updates >= self._program.algorithm.policy_delay
        self._updates = updates
        columns = metrics.columns(found, learned) | self._counts.add(found) | self._evaluate()
        self._log.write(
            {
                "epoch": self.epoch,
                "env_steps": self.env_steps,
                "updates": updates,
                "train_seconds": round(self._parts.seconds("train_seconds"), 3),
            },
            columns,
            seed_list(self.config),
        )
        self._status = self._describe(columns)

    def _evaluate(self) -> metrics.Columns:
        if not self._evaluations.due(self.epoch):
            return self._evaluations.none()
        policy = self._program.policy(self._state)
        return self._evaluations.run(policy, self.epoch, self.env_steps)

    def save(self, due: bool) -> None:
        """Saves a checkpoint if it is `due`, else the policy if its evaluation is the best so
        far."""
        best = self.config.checkpoint.best and self._evaluations.is_best(self.epoch)
        if not (due or best):
            return
        self._saved.save(
            self.epoch,
            self._state if due else None,
            {
                "epoch": self.epoch,
                "layout": Layout.of(self._program.vector.env.spec).to_json(),
                "parts": self._parts.listed(),
                "evaluations": self._evaluations.saved(),
                "nonfinite": self._counts.saved(),
            },
            self._evaluations.score(self.epoch),
            policy=self._program.policy(self._state),
        )
        if due and self.config.checkpoint.video:
            self._film()

    def _film(self) -> None:
        """Writes a video of one episode with the first seed's policy."""
        if self._recorder is None:
            self._recorder = Recorder(self._program, ONE_STEP, 1, Camera(size=VIDEO_SIZE))
        self._recorder(
            self._program.policy(self._state),
            stream_keys(Stream.CHECKPOINT_VIDEO, seed_array(self.config), self.epoch),
            video_path(self._folder, self.epoch),
        )

    def status(self) -> str:
        """The last epoch in a few words."""
        return self._status

    def _describe(self, columns: metrics.Columns) -> str:
        mode = self._evaluations.modes[0]
        score = self._evaluations.last.get(mode)
        returned = columns["rollout/return"].compressed()
        parts = [
            f"{mode} {score['mean']:.1f}" if score else f"{mode} -",
            f"return {np.mean(returned):.1f}" if returned.size else "return -",
            f"{self._rate():,.0f} steps/s",
        ]
        wrong = metrics.not_finite(columns)
        if wrong:
            parts.append(f"NOT FINITE: {', '.join(wrong)}")
        broken = int(np.ma.filled(columns["eval/nonfinite"], 0).sum())
        if broken:
            parts.append(f"{broken} evaluation episode{'s' * (broken > 1)} blew up")
        return "  ".join(parts)

    def _rate(self) -> float:
        """Env steps per second of all seeds together, without compilation and evaluation."""
        seconds = max(self._parts.seconds("train_seconds"), 1e-9)
        return self.env_steps * self.config.seeds / seconds

    def end(self) -> dict[str, Any]:
        """Evaluates the last epoch if it was not yet, closes the log, and writes and returns the
        summary."""
        if self._evaluations.score(self.epoch) is None:  # `env_steps` was lowered
            policy = self._program.policy(self._state)
            self._evaluations.run(policy, self.epoch, self.env_steps)
        self._saved.wait()
        self._log.close()
        return summary.write(
            self._folder,
            summary.of_run(
                self.config,
                self._parts,
                self._evaluations,
                env_steps=self.env_steps,
                updates=self._updates,
                nonfinite=self._counts.summed(),
            ),
        )
