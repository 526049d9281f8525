"""What a run writes for people and for tools: metrics.csv, TensorBoard and summary.json."""

import csv
import json
import math
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tensorboardX import SummaryWriter

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


def read_metrics(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics.csv, none if there is no file; a last line cut short is left out."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(line for line in file if line.endswith("\n")))


def write_json(path: Path, content: Any) -> None:
    """Atomic: a reader sees the old file or the new one. NaN becomes null."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(_finite(content), indent=2) + "\n")
    os.replace(part, path)


def provenance() -> dict[str, Any]:
    """What a result was measured with: device, versions and commit."""
    return {"device": device(), "versions": versions(), "commit": commit()}


def versions() -> dict[str, str]:
    """Versions of what decides a result."""
    names = [
        "fpmd-mjx",
        "jax",
        "jaxlib",
        "flax",
        "optax",
        "mujoco",
        "mujoco-mjx",
        "dm-control",
        "gymnasium",
        "warp-lang",
        "playground",
        "brax",
    ]
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit() -> str | None:
    """Returns the commit of the checkout that runs, with `+` if files in it were changed.

    A tree that git does not know has the commit that FPMD_COMMIT names, or None without it.
    """
    try:
        # A repository around the package that does not track it is another project's.
        _git("ls-files", "--error-unmatch", Path(__file__).name)
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "-uno")
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("FPMD_COMMIT") or None
    return head + ("+" if changed else "")


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def device() -> str:
    """What computed: the accelerator's name, or the kind and number of the CPU's cores."""
    kind = jax.local_devices()[0].device_kind
    return f"{platform.machine()} CPU, {os.cpu_count()} cores" if kind == "cpu" else kind


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(x) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
