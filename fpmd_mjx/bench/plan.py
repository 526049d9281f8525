"""What `fpmd bench` is asked for: benchmarks, and the cells of a grid of settings."""

import difflib
import itertools
import math
import re
from dataclasses import dataclass

from fpmd_mjx import config as configs
from fpmd_mjx.config import Config, ConfigError

BENCHMARKS = {
    "physics": "steps of the environments with random actions",
    "collect": "acting, stepping and insertion into the replay",
    "learn": "sampling and updates",
    "program": "the whole of a training epoch",
    "latency": "choosing an action: each evaluation mode, a Gaussian and a diffusion policy",
    "startup": "from the command to training, and compilation, with an empty and a full cache",
    "memory": "what a training epoch holds, against the plan",
    "target": "training until the one_step return of target=RETURN",
}


@dataclass(frozen=True)
class Cell:
    """One point of the grid. label: what sets it apart, such as `seeds=1,num_envs=64`, empty if
    nothing does; target: the return of the benchmark `target`."""

    label: str
    config: Config
    target: float | None


@dataclass(frozen=True)
class Plan:
    """benchmarks: names in `BENCHMARKS`; cells: in the order of the grid; rounds: how often each
    measurement is repeated."""

    benchmarks: tuple[str, ...]
    cells: tuple[Cell, ...]
    rounds: int


def make_plan(words: list[str], rounds: int) -> Plan:
    """words: benchmarks and `key=value[,value...]` in any order; no benchmark: all that apply.

    Raises ConfigError on what is unknown or impossible, before anything runs.
    """
    if rounds < 1:
        raise ConfigError(f"--rounds {rounds} is not possible: give at least 1.")
    overrides = [word for word in words if "=" in word]
    named = [word for word in words if "=" not in word]
    for name in named:
        if name not in BENCHMARKS:
            close = difflib.get_close_matches(name, BENCHMARKS) or BENCHMARKS
            raise ConfigError(f"benchmark {name} is unknown: choose one of {', '.join(close)}.")
    cells = tuple(_cells(overrides))
    has_target = cells[0].target is not None
    if "target" in named and not has_target:
        raise ConfigError("benchmark target needs a return to reach: add target=RETURN.")
    default = [name for name in BENCHMARKS if name != "target" or has_target]
    benchmarks = tuple(name for name in BENCHMARKS if name in (named or default))
    return Plan(benchmarks, cells, rounds)


def _cells(overrides: list[str]) -> list[Cell]:
    axes: dict[str, list[str]] = {}
    for override in overrides:
        key, _, values = override.partition("=")
        if key in axes:
            raise ConfigError(f"{override} sets {key} again: give all its values as {key}=a,b.")
        axes[key] = re.split(r",(?![^\[]*\])", values)  # a list's commas are its own
        if len(set(axes[key])) < len(axes[key]):
            raise ConfigError(f"{override} has a value twice: give each once.")
    cells = []
    for point in itertools.product(*axes.values()):
        chosen = dict(zip(axes, point, strict=True))
        label = ",".join(f"{key}={chosen[key]}" for key in axes if len(axes[key]) > 1)
        target = _number(chosen.pop("target")) if "target" in chosen else None
        config = configs.load([f"{key}={value}" for key, value in chosen.items()])
        cells.append(Cell(label, config, target))
    return cells


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"target={text} is not possible: give a finite return.")
    return value
