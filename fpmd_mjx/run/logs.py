"""What a run writes for people and for tools: metrics.csv, TensorBoard and summary.json."""

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter

from fpmd_mjx.report.records import read_metrics

Row = dict[str, Any]


class MetricsLog:
    """metrics.csv, one row for each epoch and seed, and the means over the seeds in TensorBoard.

    A resumed run drops what was logged after `epoch`, the checkpoint that it continues from, so
    that nothing appears twice.
    """

    def __init__(self, folder: Path, epoch: int):
        self._path = folder / "metrics.csv"
        rows = [row for row in read_metrics(self._path) if int(row["epoch"]) <= epoch]
        self._columns = list(rows[0]) if rows else None
        if self._path.exists():
            self._rewrite(rows)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=epoch + 1)

    def write(self, shared: Row, per_seed: dict[str, np.ndarray], seeds: list[int]) -> None:
        """shared: the same for all seeds, `epoch` and `env_steps` among it; per_seed: (seeds,)."""
        rows = [
            {**shared, "seed": seed, **{name: float(x[i]) for name, x in per_seed.items()}}
            for i, seed in enumerate(seeds)
        ]
        new = self._columns is None
        self._columns = self._columns or list(rows[0])
        with self._path.open("a", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            if new:
                writer.writeheader()
            writer.writerows(rows)
        for name, x in per_seed.items():
            if np.isfinite(x).any():
                self._board.add_scalar(name, float(np.nanmean(x)), int(shared["epoch"]))
        self._board.flush()

    def close(self) -> None:
        self._board.close()

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        part = self._path.with_suffix(".part")
        with part.open("w", newline="") as file:
            if self._columns:
                writer = csv.DictWriter(file, self._columns)
                writer.writeheader()
                writer.writerows(rows)
        os.replace(part, self._path)
