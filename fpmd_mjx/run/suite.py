"""Suites: configs/suite/NAME.yaml names tasks x algorithms x seeds; every cell is a run folder.

Finished cells are skipped and interrupted ones continued, so repeating the command completes the
suite. The table and the curves are written again after every cell.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fpmd_mjx.config import load as configs
from fpmd_mjx.config.schema import Config

_KEYS = ("description", "preset", "seeds", "episodes", "cells")
_CELL_KEYS = ("tasks", "algorithms")

EPISODE_SEED = 1
"""Seed of the episodes that a suite scores with."""


@dataclass(frozen=True)
class Suite:
    """cells: the runs, in order; episodes: per seed, of the final scoring in both simulators."""

    name: str
    description: str
    cells: tuple[Config, ...]
    episodes: int

    @property
    def folder(self) -> Path:
        return Path(self.cells[0].runs) / "suites" / self.name


def load_suite(name: str, overrides: list[str]) -> Suite:
    """Reads and validates a whole suite. Raises ConfigError before anything runs.

    overrides: for every cell, after the suite's own.
    """
    path = configs.group_file("suite", name)
    tree = yaml.safe_load(path.read_text())
    configs.check_keys(tree, path.name, _KEYS)
    configs.check_counts(tree, path.name, ["episodes"])
    cells = []
    for number, group in enumerate(tree["cells"], 1):
        configs.check_keys(group, f"{path.name}, cell {number}", _CELL_KEYS, ["overrides"])
        for task in group["tasks"]:
            for algorithm in group["algorithms"]:
                chosen = [f"task={task}", f"algorithm={algorithm}", f"preset={tree['preset']}"]
                chosen += [f"seeds={tree['seeds']}", f"name={name}"]
                cells.append(configs.load(chosen + group.get("overrides", []) + overrides))
    return Suite(name, tree["description"], tuple(cells), tree["episodes"])


def run_suite(suite: Suite) -> None:
    """Trains, scores and reports every cell. Raises Interrupted like `train`."""
    from fpmd_mjx.report import tables
    from fpmd_mjx.run.display import Display
    from fpmd_mjx.run.folder import check_folder
    from fpmd_mjx.run.train import train

    with Display(sum(not finished(config) for config in suite.cells)) as display:
        for config in suite.cells:
            if finished(config):
                check_folder(config)  # a folder of another config is an error, not a result
                display.note(f"{config.folder}: finished before")
            else:
                train(config, display)
            _score(config, suite.episodes, display)
            tables.write(suite.folder, suite.description, [c.folder for c in suite.cells])
    display.note(f"\n{(suite.folder / 'table.md').read_text()}")
    display.note(f"table and curves are in {suite.folder}")


def finished(config: Config) -> bool:
    """Whether the cell's run folder has a summary of all its env steps."""
    return _summary(config).get("env_steps", 0) >= config.env_steps


def _score(config: Config, episodes: int, display: Any) -> None:
    """Scores one_step of the final policy in both simulators, unless it has been scored."""
    import envs
    from fpmd_mjx.algorithms.base import Mode
    from fpmd_mjx.report import scores, tables
    from fpmd_mjx.run.score import SIMULATORS, score_run, span

    mode = Mode("one_step")
    for simulator in SIMULATORS:
        if simulator == "mujoco" and not envs.has_original(config.task.name):
            continue
        result = scores.find(_summary(config), str(mode), simulator)
        # Summaries of version 0.1 have no seed.
        asked = (episodes, EPISODE_SEED)
        if result is None or (result["episodes"], result.get("seed", EPISODE_SEED)) != asked:
            result = score_run(config.folder, mode, simulator, episodes, seed=EPISODE_SEED)
        display.note(
            f"  {mode} in {simulator}: {result['mean']:.1f}, "
            f"{span('95% interval', result['episode_ci95'])} over {episodes} episodes a seed"
        )
    found = tables.gap(_summary(config))
    if found:
        place = "inside" if found[1] else "OUTSIDE"
        display.note(f"  gap, real less MJX: {found[0]:+.1f}, {place} the two intervals")


def _summary(config: Config) -> dict[str, Any]:
    from fpmd_mjx.run import summary

    return summary.read(config.folder) or {}
