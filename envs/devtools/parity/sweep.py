"""`fpmd tasks --parity`: measures tasks, and writes the results after each of them.

measured.json holds the results. In a checkout, docs/parity.md is written from it. After an
interruption, the next sweep measures the missing tasks.
"""

import fnmatch
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from ... import originals, registry
from .. import parity
from .page import PAGE, SIMULATORS, number, page
from .port import Port

Write = Callable[[Path, Any], None]
"""Writes JSON to a path atomically, with null for numbers that are not finite."""


class NothingToMeasureError(ValueError):
    """A pattern matches no task that has an original."""


def sweep(patterns: list[str], provenance: dict[str, Any], write: Write) -> list[str]:
    """Measures the tasks that match a pattern. Without patterns, those without a result of the
    installed versions.

    Args:
        patterns: globs of task names.
        provenance: of the results: device, `versions` by package, commit.
        write: see `Write`.

    Returns:
        The names of the tasks that do not pass, or could not be measured.

    Raises:
        NothingToMeasureError: if a pattern matches no task that has an original.
    """
    failed = []
    for name in chosen(patterns, parity.measured(), provenance["versions"]):
        try:
            found = parity.measure(Port.of(registry.make(name)), originals.make_real(name))
        except Exception as error:
            # The other tasks are measured even if one fails.
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            failed.append(name)
            continue
        made = provenance | {"date": time.strftime("%Y-%m-%d")}
        save({**parity.measured(), name: found | made}, write)
        print(line(name, found), flush=True)
        if not parity.passed(name, found):
            failed.append(name)
        # Otherwise the programs of finished tasks fill the memory.
        jax.clear_caches()
    return failed


def chosen(patterns: list[str], records: dict[str, Any], versions: dict[str, str]) -> list[str]:
    """Returns the tasks to measure. versions: of the installed packages.

    Raises:
        NothingToMeasureError: if a pattern matches no task that has an original.
    """
    names = parity.comparable()
    if not patterns:
        return [
            name
            for name in names
            if name not in records
            or any(records[name]["versions"][x] != versions[x] for x in SIMULATORS)
        ]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise NothingToMeasureError(
                f"{pattern} matches no task with an original: give a name of `fpmd tasks`, or a "
                "pattern such as 'dmc/*'."
            )
    return [name for name in names if any(fnmatch.fnmatchcase(name, x) for x in patterns)]


def save(records: dict[str, Any], write: Write) -> None:
    """Writes the results, and the page if there is a docs folder."""
    write(parity.RECORDS, {name: records[name] for name in parity.comparable() if name in records})
    if PAGE.parent.is_dir():
        PAGE.write_text(page(parity.measured()))


def line(name: str, found: dict[str, Any]) -> str:
    """Returns the terminal's text for a task."""
    once, alone = (
        " ".join(f"{what} {number(found[part][what]['max'])}" for what in found[part])
        for part in ("one_step", "open_loop")
    )
    beyond = found["rounding"]["one_step"]
    return (
        f"{name}: {parity.status(name, found)} ({found['seconds']:.0f} s; of {found['states']} "
        f"steps, beyond {beyond['beyond']}, explained {beyond['explained']})\n"
        f"  one step: {once}\n  50 steps: {alone}"
    )
