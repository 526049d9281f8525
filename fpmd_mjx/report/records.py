"""Files that runs and benchmarks write, and reports read."""

import csv
import json
import math
import os
from pathlib import Path
from typing import Any

MORE_THAN = "more_than_"
"""Begins the name of a metric that is a lower bound of what the rest of the name says."""


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


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(x) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
