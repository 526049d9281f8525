"""How many seeds of a cell train side by side, by what the parts before took."""

import math
from typing import Any

from fpmd_mjx.bench.campaign.cells import Cell
from fpmd_mjx.bench.campaign.command import Ended, out_of_memory
from fpmd_mjx.bench.target import PROJECTED


def part_seconds(ended: Ended, count: int, projected: float | None) -> float | None:
    """Seconds that a part of `count` seeds takes, infinite where it does not fit into memory, as
    far as its end tells; None where it tells nothing, such as an error."""
    if projected is not None:
        return projected
    if ended.status == "measured":
        return ended.seconds
    if count > 1 and out_of_memory(ended.reason):
        return math.inf
    # It had not even run for long enough to be projected.
    stopped = ended.reason is not None and ended.reason.startswith("stopped after")
    return 1.5 * ended.seconds if stopped else None


def missing_seeds(seeds: int, parts: list[dict[str, Any]]) -> list[int]:
    """The first run of consecutive seeds, of `seeds`, that no part has trained to the end."""
    done = {
        seed
        for part in parts
        if part["ended"]
        for seed in range(part["seed"], part["seed"] + part["seeds"])
    }
    missing: list[int] = []
    for seed in range(seeds):
        if seed not in done:
            missing.append(seed)
        elif missing:
            break
    return missing


def seeds_at_once(
    cell: Cell, parts: list[dict[str, Any]], missing: int, within: float
) -> int | None:
    """How many seeds to train side by side: the most, of `missing`, that fit into `within` seconds.

    Sized by the parts before, or on paper; see `scaled`. None if not even one seed fits.
    """
    sizes = {part["seeds"]: part["seconds"] for part in parts}
    measured = {seeds: x for seeds, x in sizes.items() if x is not None and math.isfinite(x)}
    too_many = min((seeds for seeds in sizes if seeds not in measured), default=cell.seeds + 1)
    measured = measured or {cell.seeds: cell.seconds}
    count = cell.seeds
    while count:
        nearest = min(measured, key=lambda seeds: abs(seeds - count))
        takes = scaled(measured[nearest], nearest, count)
        if count <= missing and count < too_many and takes <= within:
            return count
        count //= 2
    return None


def scaled(seconds: float, seeds: int, others: int) -> float:
    """Seconds of a run of `others` seeds, where `seeds` take `seconds`: a third of it, compilation
    and launches, hardly depends on their number."""
    return seconds * max(others / seeds, (1 + 2 * others / seeds) / 3)


def projection(results: list[dict[str, Any]]) -> float | None:
    """Seconds that a run would have taken, where it ended early for taking too long."""
    for result in results:
        for cell in result["cells"]:
            if PROJECTED in cell["metrics"]:
                return float(cell["metrics"][PROJECTED])
    return None
