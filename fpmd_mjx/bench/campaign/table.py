"""The results of a campaign as Markdown: a row for each figure, a column for each card."""

import fnmatch
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fpmd_mjx.bench.campaign.cells import Campaign, Cell
from fpmd_mjx.bench.campaign.store import Record, Store
from fpmd_mjx.report.statistics import interval

NOT_MEASURED = "not measured"

PAGES = {"README.md": True, "docs/gpu.md": False}
"""Pages that show the results in benchmarks/gpu; True: only the cells for the README."""

BLOCK = "benchmarks/gpu"
"""Name of the generated part of a page; see `block`."""

_PREFIXES = {12: "T", 9: "G", 6: "M", 0: "", -3: "m", -6: "µ", -9: "n"}


def write(campaign: Campaign, folder: Path) -> None:
    """Writes table.md in `folder`, with all its cards."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(render(campaign, folder))


def write_pages(campaign: Campaign, root: Path) -> None:
    """Updates the tables in the `PAGES` of a checkout, from its benchmarks/gpu. Skips missing
    pages: a package that is installed without a checkout has none."""
    for name, readme in PAGES.items():
        page = root / name
        if page.exists():
            content = render(campaign, root / "benchmarks" / "gpu", readme)
            page.write_text(block(page.read_text(), BLOCK, content))


def render(campaign: Campaign, folder: Path, readme: bool = False) -> str:
    """Returns the table of a folder of results.

    readme: only the cells that the README shows, without notes.
    """
    stores = [Store(path) for path in sorted(folder.glob("*/")) if any(path.glob("*.json"))]
    cards = [_device(campaign, store) or store.folder.name for store in stores] or ["a GPU"]
    lines = ["A rehearsal: with toy sizes, these figures mean nothing.", ""] if campaign.toy else []
    lines.append(f"| measurement | figure | {' | '.join(cards)} |")
    lines.append(f"|---|---|{'---:|' * len(cards)}")
    for cell in campaign.cells:
        if not readme or cell.name in campaign.readme:
            found = [store.complete(cell.name) or store.open(cell.name) for store in stores]
            lines += _rows(cell, found or [None])
    if not readme:
        lines += ["", *(note for store in stores for note in _notes(campaign, store))]
    return "\n".join(lines) + "\n"


def block(text: str, name: str, content: str) -> str:
    """Returns `text` with `content` between its lines `<!-- name -->` and `<!-- end -->`.

    Raises ValueError if it has no such lines.
    """
    pattern = rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)"
    replaced, count = re.subn(
        pattern, lambda found: found[1] + content + found[2], text, count=1, flags=re.DOTALL
    )
    if not count:
        raise ValueError(f"there is no block <!-- {name} --> ... <!-- end -->")
    return replaced


def _rows(cell: Cell, records: list[Record | None]) -> list[str]:
    """The rows of one cell.

    A figure that no card has is left out: another figure has its content, or this kind of device
    does not report it. A cell without figures keeps its first row.
    """
    rows = [
        (label, [record and _shown(record, metric) for record in records])
        for label, metric in cell.figures.items()
    ]
    rows = [row for row in rows if any(row[1])] or rows[:1]
    lines: list[str] = []
    for label, values in rows:
        title = "" if lines else cell.title
        lines.append(f"| {title} | {label} | {' | '.join(x or NOT_MEASURED for x in values)} |")
    return lines


def _shown(record: Record, metric: str) -> str | None:
    """The figure, marked if the attempt was not complete. None if there is none."""
    shown = figure(record.metrics, metric)
    return f"{shown} (in part)" if shown and record.status != "measured" else shown


def figure(metrics: Mapping[str, Any], name: str) -> str | None:
    """The metric of that name as text, None if there is none.

    A name with `*` matches several metrics, such as those of all seeds. Shows their mean, and the
    95 % Student t interval if there are at least two.
    """
    if "*" not in name:
        return quantity(_number(metrics[name])) if name in metrics else None
    values = [_number(metrics[each]) for each in fnmatch.filter(metrics, name)]
    if not values:
        return None
    within = interval(np.array(values))
    shown = f" [{within[0]:,.0f}, {within[1]:,.0f}]" if within else ""
    return f"{np.mean(values):,.0f}{shown}, {len(values)} seed{'s' * (len(values) > 1)}"


def quantity(value: float) -> str:
    """A number with three significant digits: 183,000; 1.83 M; 4.2 µ."""
    if not math.isfinite(value):
        return "-"
    if value == int(value) and abs(value) < 1000:
        return f"{value:.0f}"
    rounded = float(f"{value:.3g}")
    if 1 <= abs(rounded) < 1e6:
        digits = max(0, 2 - math.floor(math.log10(abs(rounded))))
        return f"{rounded:,.{digits}f}"
    power = max((p for p in _PREFIXES if abs(rounded) >= 10.0**p), default=-9)
    if 0.01 <= abs(rounded) < 1:
        power = 0
    return f"{rounded / 10.0**power:.3g} {_PREFIXES[power]}".strip()


def _number(value: Any) -> float:
    """The median of quartiles, or the number itself. JSON's null is a number that is not finite."""
    value = value["median"] if isinstance(value, dict) else value
    return math.nan if value is None else float(value)


def _device(campaign: Campaign, store: Store) -> str | None:
    for cell in campaign.cells:
        record = store.complete(cell.name) or store.open(cell.name)
        if record:
            return str(record.provenance["device"])
    return None


def _notes(campaign: Campaign, store: Store) -> list[str]:
    """The provenance of the complete results, and the reasons for the incomplete ones."""
    lines = []
    versions: dict[tuple[str, ...], list[str]] = {}
    for cell in campaign.cells:
        if record := store.complete(cell.name):
            found = record.provenance
            key = (
                str(found["device"]),
                f"driver {found['driver']}",
                *(f"{name} {found['versions'][name]}" for name in ("jax", "mujoco-mjx")),
                f"commit {found['commit']}",
            )
            versions.setdefault(key, []).append(cell.name)
    for key, names in versions.items():
        lines.append(f"- {', '.join(key)}: {', '.join(names)}.")
    for cell in campaign.cells:
        if record := store.open(cell.name):
            lines.append(f"- {cell.name}, {record.status}: {record.reason}.")
    return lines
