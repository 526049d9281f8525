"""The results of a campaign on one kind of card: a JSON file for each cell.

`CELL.json` is a complete result. `CELL.open.json` is an incomplete one (interrupted, out of time or
failed) with the reason and the results so far. `CELL.running.json` is the file of the process that
measures the cell. Only another complete result replaces a complete one.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from fpmd_mjx.bench.campaign.cells import Cell
from fpmd_mjx.config import load as configs
from fpmd_mjx.report import records
from fpmd_mjx.run import provenance

Status = Literal["measured", "partial", "failed"]

_DECISIVE = ("python", "jax", "jaxlib", "flax", "optax", "mujoco", "mujoco-mjx")
"""Packages whose versions are part of a program, Python's up to the minor release."""

_OF_NO_RESULT = (
    r"fpmd_mjx/(bench/(agent|campaign)/|cli\.py|evaluation/video\.py|report/)"
    r"|fpmd_mjx/run/(display|render|suite)\.py"
    r"|envs/(devtools/|render/video\.py)|(fpmd_mjx/)?configs/(campaign|suite|yardstick)/"
)
"""Files that do not affect the results of a campaign or of `bench agent`."""


@dataclass
class Record:
    """A cell's file.

    Attributes:
        cell: its name.
        status: "measured": complete; "partial": with some results; "failed": without valid results.
        reason: why it is not complete, else None.
        program: see `program_id`.
        command: that of the whole cell; each of `results` has the command that ran.
        provenance: device, driver, versions and commit.
        seconds: wall seconds of the command, or of all parts that ended.
        date: when it ended, UTC.
        results: the JSON of `fpmd bench`, one for each part that ended.
        parts: those of a cell with `seeds`. `seed`: the first seed; `seeds`: their number; `ended`:
            whether the part ended; `seconds`: its wall seconds, or the projected ones of a part
            that did not end, null if it did not fit into memory.
        unfinished: the JSON of a part that did not end.
    """

    cell: str
    status: Status
    reason: str | None
    program: str
    command: str
    provenance: dict[str, Any]
    seconds: float
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    results: list[dict[str, Any]] = field(default_factory=list)
    parts: list[dict[str, Any]] = field(default_factory=list)
    unfinished: list[dict[str, Any]] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        """Whether it has results or parts to keep."""
        return bool(self.results or self.parts or self.unfinished)

    @property
    def metrics(self) -> dict[str, Any]:
        """Metrics of all parts and of all points of their grids: name[label] -> number, quartiles
        or table. A grid of one point has no label."""
        return metrics(self.results)


def metrics(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Metrics in the JSON of `fpmd bench`; see `Record.metrics`."""
    found: dict[str, Any] = {}
    for result in results:
        for cell in result["cells"]:
            label = f"[{cell['label']}]" if cell["label"] else ""
            found |= {f"{name}{label}": value for name, value in cell["metrics"].items()}
    return found


class Store:
    """The results of one kind of card in `folder`. Those in `known` count for cells without one."""

    def __init__(self, folder: Path, known: Path | None = None) -> None:
        self.folder = folder
        self._folders = [folder] + ([known] if known and known != folder else [])

    def running(self, cell: Cell) -> Path:
        """The file that the process of a cell writes."""
        return self.folder / f"{cell.name}.running.json"

    def complete(self, cell: str) -> Record | None:
        """The last complete result."""
        return self._read(f"{cell}.json")

    def open(self, cell: str) -> Record | None:
        """The last attempt, if it was not complete and no complete one came after it."""
        attempt, complete = self._read(f"{cell}.open.json"), self.complete(cell)
        return None if attempt and complete and attempt.date < complete.date else attempt

    def write(self, record: Record) -> None:
        """Writes the record of a cell that has ended, complete or not.

        An attempt without results keeps those of the attempt before it, and adds its own reason.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        before = self.open(record.cell)
        if record.status != "measured" and not record.kept and before and before.kept:
            reason = f"with the results of an earlier attempt: {record.reason}"
            record = replace(before, reason=reason)
        open_path = self.folder / f"{record.cell}.open.json"
        complete = record.status == "measured"
        path = self.folder / f"{record.cell}.json" if complete else open_path
        records.write_json(path, vars(record))
        if complete:
            open_path.unlink(missing_ok=True)
        (self.folder / f"{record.cell}.running.json").unlink(missing_ok=True)

    def written(self, cell: Cell) -> list[dict[str, Any]]:
        """The JSON that the process of a cell has written so far, a list of one or none."""
        path = self.running(cell)
        content = _json(path) if path.exists() else None
        return [content] if content and any(x["metrics"] for x in content["cells"]) else []

    def _read(self, name: str) -> Record | None:
        for folder in self._folders:
            content = _json(folder / name) if (folder / name).exists() else None
            if content is not None:
                return Record(**content)
        return None


def _json(path: Path) -> Any:
    """The content of a file; None if it is not JSON, such as after a full disk."""
    try:
        return json.loads(path.read_text())
    except ValueError:
        return None


def card_name(device: str) -> str:
    """The folder name of a kind of device: `NVIDIA H200` -> `nvidia-h200`."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def program_id(whole: bool = False) -> str:
    """A hash of the program that is measured: code, settings and versions of its packages.

    Checkouts that differ only in commits, documents and tests have the same. whole: includes the
    campaign's own code and file, for a rehearsal.
    """
    digest = hashlib.sha256()
    package, settings = Path(__file__).parents[2], configs.configs_dir()
    files = [
        *package.rglob("*.py"),
        *(path for end in ("py", "json") for path in (package.parent / "envs").rglob(f"*.{end}")),
        *settings.rglob("*.yaml"),
    ]
    for path in sorted(files):
        name = path.relative_to(package.parent).as_posix()
        if whole or not re.match(_OF_NO_RESULT, name):
            digest.update(name.encode())
            digest.update(path.read_bytes())
    versions = provenance.versions()
    versions["python"] = ".".join(versions["python"].split(".")[:2])
    digest.update(json.dumps([versions[name] for name in _DECISIVE]).encode())
    return digest.hexdigest()[:12]
