"""The cells of a campaign, as configs/campaign/NAME.yaml lists them."""

import difflib
import fnmatch
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from fpmd_mjx.config import load as configs
from fpmd_mjx.config.schema import ConfigError

ROUNDS = 3
"""Rounds of a cell that does not give a number."""

TOY_SECONDS, TOY_LIMIT = 40.0, 300.0
"""Estimate and limit of a cell in a rehearsal, on two cores that may be shared with other work."""

REHEARSAL = {
    "XLA_FLAGS": "--xla_backend_optimization_level=0",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
}
"""Environment of a cell in a rehearsal."""

_KEYS = ("description", "toy", "cells")
_CELL_KEYS = ("name", "title", "bench", "seconds", "limit")
_OPTIONAL_CELL_KEYS = ("each", "rounds", "env", "needs", "seeds", "figures", "toy")


@dataclass(frozen=True)
class Cell:
    """One `fpmd bench` command of a campaign.

    Attributes:
        name: of its result file; letters, digits, `.`, `_` and `-`.
        title: what it measures, for people.
        words: benchmarks and `key=value`, as `fpmd bench` takes them.
        rounds: of each measurement.
        seconds: estimate for the whole command, before any measurement.
        limit: seconds after which the command is interrupted.
        env: added to the environment of its process.
        needs: modules without which it cannot run.
        seeds: the number of seeds to train, in as many parts as the time requires. Each part adds
            `seed`, `seeds` and `limit` to the words. 0 if the words themselves give the seeds.
        figures: label -> metric of its row in the table; `*` in a metric matches every seed.
    """

    name: str
    title: str
    words: tuple[str, ...]
    rounds: int
    seconds: float
    limit: float
    env: Mapping[str, str]
    needs: tuple[str, ...]
    seeds: int
    figures: Mapping[str, str]


@dataclass(frozen=True)
class Campaign:
    """description: one line of text; cells: in order of value; readme: names of the cells that the
    README shows; toy: whether it has the size of a rehearsal."""

    name: str
    description: str
    cells: tuple[Cell, ...]
    readme: tuple[str, ...] = ()
    toy: bool = False


def load(name: str, toy: bool = False) -> Campaign:
    """Reads a campaign.

    toy: at the size of a rehearsal. Of cells that have the same command then, only one is kept.

    Raises ConfigError if there is no campaign of that name, or its file has an error.
    """
    path = configs.group_file("campaign", name)
    tree = yaml.safe_load(path.read_text())
    configs.check_keys(tree, path.name, _KEYS, ["readme"])
    cells: list[Cell] = []
    for number, entry in enumerate(tree["cells"], 1):
        where = f"{path.name}, cell {entry.get('name', number)}"
        configs.check_keys(entry, where, _CELL_KEYS, _OPTIONAL_CELL_KEYS)
        cells += _cells(entry, where, _toy(entry, tree) if toy else None)
    if toy:
        commands: dict[Any, Cell] = {}
        for cell in cells:
            commands.setdefault((frozenset(cell.words), tuple(cell.env.items())), cell)
        cells = list(commands.values())
    names = [cell.name for cell in cells]
    for each in names:
        if names.count(each) > 1:
            raise ConfigError(f"{path.name} has two cells named {each}: rename one of them.")
        if not re.fullmatch(r"[\w.-]+", each):
            raise ConfigError(f"{path.name} has a cell named {each}: use letters, digits, . _ -")
    readme = tuple(tree.get("readme", ()))
    if not toy:  # a rehearsal has other names
        matching(tuple(cells), list(readme))
    return Campaign(name, tree["description"], tuple(cells), readme, toy)


def matching(cells: tuple[Cell, ...], patterns: list[str]) -> set[str]:
    """Names of the cells that match `patterns`, which are names or globs such as `rates-*`.

    Raises ConfigError for a pattern without a match.
    """
    names = [cell.name for cell in cells]
    chosen: set[str] = set()
    for pattern in patterns:
        found = fnmatch.filter(names, pattern)
        if not found:
            close = difflib.get_close_matches(pattern, names) or names
            raise ConfigError(f"cell {pattern} is unknown: choose one of {', '.join(close)}.")
        chosen.update(found)
    return chosen


def _toy(entry: Mapping[str, Any], tree: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a rehearsal: the cell's if it has some, else the campaign's. null drops a key."""
    return entry.get("toy", tree["toy"])


def _cells(entry: Mapping[str, Any], where: str, toy: Mapping[str, Any] | None) -> Iterator[Cell]:
    for values in _values(entry.get("each", [{}])):

        def fill(text: Any, values: Mapping[str, Any] = values) -> str:
            try:
                return str(text).format_map(values)
            except KeyError as error:
                missing = "{" + error.args[0] + "}"
                raise ConfigError(f"{where} has no value of {missing}: add it to 'each'.") from None

        words = [fill(word) for word in entry["bench"].split()]
        yield Cell(
            name=fill(entry["name"]),
            title=fill(entry["title"]),
            words=tuple(words if toy is None else _replaced(words, toy)),
            rounds=entry.get("rounds", ROUNDS) if toy is None else 1,
            seconds=float(entry["seconds"]) if toy is None else TOY_SECONDS,
            limit=float(entry["limit"]) if toy is None else TOY_LIMIT,
            env=_env({key: fill(value) for key, value in entry.get("env", {}).items()}, toy),
            needs=tuple(fill(need) for need in entry.get("needs", [])),
            seeds=entry.get("seeds", 0) if toy is None else min(entry.get("seeds", 0), 2),
            figures=entry.get("figures", {}),
        )


def _values(each: Any) -> Iterator[dict[str, Any]]:
    """The values for the braces of an entry: every combination of a mapping, or the items of a
    list."""
    if isinstance(each, list):
        yield from each
        return
    for point in itertools.product(*each.values()):
        yield dict(zip(each, point, strict=True))


def _env(env: dict[str, str], toy: Any) -> dict[str, str]:
    """The environment of a cell; in a rehearsal with `REHEARSAL`.

    Without XLA's optimizations, toys compile in half the time. Without preallocation, two cells can
    share a GPU.
    """
    return env if toy is None else env | REHEARSAL


def _replaced(words: list[str], settings: Mapping[str, Any]) -> list[str]:
    """`words` with the values in `settings` in place of theirs; null drops a key or a benchmark."""

    def stays(word: str) -> bool:
        key, equals, _ = word.partition("=")
        return key not in settings or (not equals and settings[key] is not None)

    kept = [word for word in words if stays(word)]
    return kept + [f"{key}={value}" for key, value in settings.items() if value is not None]
