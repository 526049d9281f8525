"""The evaluations of a run during training: the last and the best one in each mode."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fpmd_mjx.algorithms.base import Mode
from fpmd_mjx.config.schema import Config
from fpmd_mjx.evaluation.rollout import Episodes
from fpmd_mjx.program import Policy
from fpmd_mjx.report import scores
from fpmd_mjx.run.compile import Compiled
from fpmd_mjx.run.metrics import Columns
from fpmd_mjx.seeds import Stream, seed_array, stream_keys


class Evaluations:
    """Results by mode, as `scores.entry` makes them.

    nonfinite: number of evaluation episodes so far whose simulation did not stay finite.
    """

    def __init__(self, config: Config, compiled: Compiled, provenance: dict[str, Any]) -> None:
        self._config, self._compiled, self._provenance = config, compiled, provenance
        self.modes = list(config.eval.modes)
        self.last: dict[str, dict[str, Any]] = {}
        self.best: dict[str, dict[str, Any]] = {}
        self.nonfinite = 0

    def due(self, epoch: int) -> bool:
        return epoch % self._config.eval.every == 0 or epoch >= self._config.epochs

    def run(self, policy: Policy, epoch: int, env_steps: int) -> Columns:
        """Evaluates in every mode, each from the same reset states.

        Returns the mean returns as `eval/MODE`, and the number of episodes in all modes whose
        simulation did not stay finite as `eval/nonfinite`. The best evaluation of a mode has the
        highest mean over the seeds; the first of equals.
        """
        keys = stream_keys(Stream.EVALUATION, seed_array(self._config), jnp.uint32(epoch))
        found: Columns = {}
        broken = np.zeros(self._config.seeds, int)
        for mode in self.modes:
            episodes: Episodes = jax.device_get(
                self._compiled.evaluation(Mode.parse(mode))(policy, keys)
            )
            score = scores.entry(
                episodes, mode=mode, epoch=epoch, env_steps=env_steps, **self._provenance
            )
            self.last[mode] = score
            best = self.best[mode]["mean"] if mode in self.best else -math.inf
            if math.isfinite(score["mean"]) and score["mean"] > best:
                self.best[mode] = score
            found[f"eval/{mode}"] = np.ma.asarray(score["per_seed"])
            broken += np.asarray(episodes.nonfinite)
        self.nonfinite += int(broken.sum())
        return found | {"eval/nonfinite": np.ma.asarray(broken)}

    def none(self) -> Columns:
        """The columns of an epoch without an evaluation."""
        names = [*(f"eval/{mode}" for mode in self.modes), "eval/nonfinite"]
        return {name: np.ma.masked_all(self._config.seeds) for name in names}

    def score(self, epoch: int) -> float | None:
        """The score of the checkpoint of `epoch`: its mean return in the first mode, or None."""
        last = self.last.get(self.modes[0])
        return last["mean"] if last and last["epoch"] == epoch else None

    def is_best(self, epoch: int) -> bool:
        """Whether `epoch` has the best evaluation so far in the first mode."""
        best = self.best.get(self.modes[0])
        return best is not None and best["epoch"] == epoch

    def saved(self) -> dict[str, Any]:
        """Its state as JSON, for a checkpoint."""
        return {"last": self.last, "best": self.best, "nonfinite": self.nonfinite}

    def restore(self, saved: dict[str, Any]) -> None:
        self.last, self.best = dict(saved["last"]), dict(saved["best"])
        self.nonfinite = saved["nonfinite"]
