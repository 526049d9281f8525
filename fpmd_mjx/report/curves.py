"""Learning curves of run folders."""

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fpmd_mjx.report.records import read_metrics

LABELS = {
    "fpmd_m": "FPMD-M",
    "fpmd_r": "FPMD-R",
    "fpmd_m_plus": "FPMD-M+",
    "fpmd_r_plus": "FPMD-R+",
}
COLORS = {
    "fpmd_m": "#1f6fb4",
    "fpmd_r": "#d1495b",
    "fpmd_m_plus": "#2a9d5c",
    "fpmd_r_plus": "#e09f3e",
}


def curves(title: str, runs: list[Path], summaries: list[dict[str, Any]], path: Path) -> None:
    """Plots one-step return in MJX against env steps to `path`, one panel a task.

    Each seed is a thin line, their mean a thick one.
    """
    panels: dict[str, list[tuple[Path, str]]] = defaultdict(list)
    for run, summary in zip(runs, summaries, strict=True):
        panels[summary["task"]].append((run, summary["actor"]))
    if not panels:
        return
    columns = min(len(panels), 4)
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(4.6 * columns, 3.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, (task, members) in zip(axes.flat, panels.items(), strict=False):
        for run, actor in members:
            steps, returns = learning_curve(run)
            if not returns.size:
                continue
            color = COLORS.get(actor)
            axis.plot(steps, returns, color=color, alpha=0.35, linewidth=0.8)
            label = f"{LABELS.get(actor, actor)} ({returns.shape[1]} seeds)"
            axis.plot(steps, returns.mean(1), color=color, linewidth=2, label=label)
        axis.set(title=task, xlabel="env steps", ylabel="one-step return")
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend(frameon=False)
        axis.ticklabel_format(axis="x", style="sci", scilimits=(0, 0))
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    figure.suptitle(title)
    figure.savefig(path, dpi=110)


def learning_curve(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """(env steps (points,), one-step return (points, seeds)) of the epochs with an evaluation.

    Both are empty for a run without evaluations in this mode.
    """
    by_step: dict[int, list[float]] = defaultdict(list)
    for row in read_metrics(run / "metrics.csv"):
        by_step[int(row["env_steps"])].append(float(row.get("eval/one_step") or "nan"))
    points = [(step, x) for step, x in sorted(by_step.items()) if np.isfinite(x).all()]
    return np.array([step for step, _ in points]), np.array([x for _, x in points])
