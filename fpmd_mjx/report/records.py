"""The files that runs and benchmarks write and reports read."""

import csv
import json
import math
import os
from pathlib import Path
from typing import Any

MORE_THAN = "more_than_"
"""Prefix of a metric's name: the value is a lower bound of the metric that the rest names."""


def read_metrics(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics.csv; none if there is no file. Leaves out an incomplete last line."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(line for line in file if line.endswith("\n")))


def write_json(path: Path, content: Any) -> None:
    """Writes JSON atomically: a reader sees the old file or the new one.

    Numbers that are not finite become null.
    """
    part = path.with_suffix(".part")
    part.write_text(json.dumps(_finite(content), indent=2) + "\n")
    os.replace(part, path)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(x) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
