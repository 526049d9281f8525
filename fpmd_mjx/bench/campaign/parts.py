"""The number of seeds of a cell that train side by side, from the times of earlier parts."""

import math
from typing import Any

from fpmd_mjx.bench.campaign.cells import Cell
from fpmd_mjx.bench.campaign.command import Ended, out_of_memory
from fpmd_mjx.bench.target import PROJECTED


def part_seconds(ended: Ended, count: int, projected: float | None) -> float | None:
    """Seconds of a part of `count` seeds, judging by its end.

    Infinite if it does not fit into memory. None if its end tells nothing, such as an error.
    """
    if projected is not None:
        return projected
    if ended.status == "measured":
        return ended.seconds
    if count > 1 and out_of_memory(ended.reason):
        return math.inf
    # It was stopped before its time could be projected.
    stopped = ended.reason is not None and ended.reason.startswith("stopped after")
    return 1.5 * ended.seconds if stopped else None


def missing_seeds(seeds: int, parts: list[dict[str, Any]]) -> list[int]:
    """The first block of consecutive seeds, among `seeds`, that no part has trained to the end."""
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


def named(seeds: list[int]) -> str:
    """Consecutive seeds as text: seed 3, or seeds 3 to 5."""
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"


def seeds_at_once(
    cell: Cell, parts: list[dict[str, Any]], missing: int, within: float
) -> int | None:
    """The number of seeds to train side by side: at most `missing`, and within `within` seconds.

    Estimated with `scaled` from the earlier parts, or else from the cell's estimate. None if not
    even one seed fits.
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
    """Seconds of a run of `others` seeds if one of `seeds` takes `seconds`.

    A third of the time, compilation and launches, hardly depends on the number of seeds.
    """
    return seconds * max(others / seeds, (1 + 2 * others / seeds) / 3)


def projection(results: list[dict[str, Any]]) -> float | None:
    """Projected seconds of a run that ended early because it would have taken too long, else
    None."""
    for result in results:
        for cell in result["cells"]:
            if PROJECTED in cell["metrics"]:
                return float(cell["metrics"][PROJECTED])
    return None
