"""The log of every epoch: metrics.csv and TensorBoard."""

import csv
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter

from fpmd_mjx.report.records import read_metrics
from fpmd_mjx.run.metrics import Columns

Row = dict[str, Any]

NOT_FINITE = "nonfinite/metrics"
"""Column with the number of a seed's metrics that are not finite."""

# It warns on stderr of every number that is not finite. The column and the progress line tell it.
logging.getLogger("tensorboardX.x2num").setLevel(logging.ERROR)


class MetricsLog:
    """metrics.csv, one row for each epoch and seed, and the means over the seeds in TensorBoard.

    A metric that an epoch does not have is an empty cell, and no point in TensorBoard. One that is
    not finite is `nan` or `inf` in both, and counts in `NOT_FINITE`.

    A resumed run drops the rows after `epoch`, the checkpoint that it continues from, so that no
    epoch appears twice. It may log other columns than before.
    """

    def __init__(self, folder: Path, epoch: int):
        self._path = folder / "metrics.csv"
        rows = [row for row in read_metrics(self._path) if int(row["epoch"]) <= epoch]
        self._before, self._columns = rows, list(rows[0]) if rows else []
        self._begun = False
        if self._path.exists():
            self._rewrite(rows)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=epoch + 1)

    def write(self, shared: Row, per_seed: Columns, seeds: list[int]) -> None:
        """Logs one epoch.

        shared: values of all seeds, with `epoch` and `env_steps`; per_seed: (seeds,) each. Raises
        ValueError for a column that neither the file nor the first call has.
        """
        columns = {name: np.ma.asarray(x) for name, x in per_seed.items()}
        wrong = sum(~np.isfinite(x.filled(0.0)) for x in columns.values())
        columns[NOT_FINITE] = np.ma.asarray(wrong)
        rows = [
            {**shared, "seed": seed} | {name: _cell(x, i) for name, x in columns.items()}
            for i, seed in enumerate(seeds)
        ]
        if not self._begun:
            self._begun = True
            new = [name for name in rows[0] if name not in self._columns]
            if new:
                self._columns += new
                self._rewrite(self._before)
            self._before = []
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns, restval="").writerows(rows)
        for name, x in columns.items():
            if x.count():
                self._board.add_scalar(name, float(x.compressed().mean()), int(shared["epoch"]))
        self._board.flush()

    def close(self) -> None:
        self._board.close()

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        part = self._path.with_suffix(".part")
        with part.open("w", newline="") as file:
            if self._columns:
                writer = csv.DictWriter(file, self._columns, restval="")
                writer.writeheader()
                writer.writerows(rows)
        os.replace(part, self._path)


def _cell(column: np.ma.MaskedArray, i: int) -> float | str:
    return "" if np.ma.getmaskarray(column)[i] else float(column[i])
