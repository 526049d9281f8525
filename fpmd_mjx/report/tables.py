"""Tables and curves of run folders, read from their summary.json and metrics.csv, and tables of
benchmarks."""

import html
import json
from pathlib import Path
from typing import Any

from fpmd_mjx.config.schema import ConfigError
from fpmd_mjx.report import scores
from fpmd_mjx.report.curves import LABELS, curves
from fpmd_mjx.report.records import MORE_THAN, write_json
from fpmd_mjx.report.text import clock, human


def write(folder: Path, title: str, runs: list[Path]) -> None:
    """Writes table.md, curves.png and results.json (the summaries) of the runs that have ended."""
    folder.mkdir(parents=True, exist_ok=True)
    done = [run for run in runs if (run / "summary.json").exists()]
    summaries = [json.loads((run / "summary.json").read_text()) for run in done]
    write_json(folder / "results.json", summaries)
    (folder / "table.md").write_text(table(summaries))
    curves(title, done, summaries, folder / "curves.png")


def render(paths: list[Path]) -> str:
    """Markdown of results that `fpmd bench --out` and suites (results.json) wrote: a section a
    file.

    paths: files, or folders. A folder shows its JSON files that hold results. Raises ConfigError if
    there is nothing to show.
    """
    sections = []
    for path in paths:
        found = [(file, _rendered(file)) for file in _files(path)]
        if not path.is_dir() and found[0][1] is None:
            raise ConfigError(f"{path} has no results: give a file of bench --out or of a suite.")
        sections += [f"## {file.stem}\n\n{text}" for file, text in found if text is not None]
    if not sections:
        raise ConfigError(f"no JSON with results in {', '.join(map(str, paths))}: run fpmd bench.")
    return "\n".join(sections)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.glob("*.json"))
    if not path.exists():
        raise ConfigError(f"{path} does not exist: give a JSON file of results, or a folder.")
    return [path]


def _rendered(path: Path) -> str | None:
    """None if the file holds no results."""
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}.") from error
    if isinstance(content, dict) and {"cell", "results", "provenance"} <= content.keys():
        # A process of a campaign that was stopped may not have read the device; its campaign has.
        results = [result | content["provenance"] for result in content["results"]]
        return "\n".join(map(bench_table, results))
    if isinstance(content, dict) and {"cells", "rounds", "complete"} <= content.keys():
        return bench_table(content)
    if isinstance(content, list) and all(isinstance(x, dict) and "eval" in x for x in content):
        return table(content)
    return None


def bench_table(results: dict[str, Any]) -> str:
    """Markdown of one run of `fpmd bench`: a row a metric, a column a cell of its grid.

    A lower bound stands in the row of its metric. Metrics that are tables follow the table.
    """
    cells = results["cells"]
    names = list(
        dict.fromkeys(
            name.replace(MORE_THAN, "")
            for cell in cells
            for name, value in cell["metrics"].items()
            if not _is_table(value)
        )
    )
    header = [cell["label"].replace(",", ", ") or cell["config"]["task"]["name"] for cell in cells]
    lines = [
        f"`{results['command']}` on {results['device']}, commit {results['commit']}, jax "
        f"{results['versions']['jax']}, mujoco-mjx {results['versions']['mujoco-mjx']}.",
        "",
        "| metric | " + " | ".join(header) + " |",
        "|---|" + "---:|" * len(cells),
    ]
    for name in names:
        values = [_measured(name, cell["metrics"]) for cell in cells]
        lines.append(f"| {name} | " + " | ".join(values) + " |")
    lines += [
        "",
        f"Medians of {results['rounds']} turns (with the quartiles). Values without quartiles were "
        "measured once.",
    ]
    if results.get("caches") == "shared":  # missing in files of earlier versions: empty
        lines += ["", "Compile caches were shared: compile seconds are not those of a first start."]
    if not results["complete"]:
        lines += ["", "Interrupted: these values are of fewer turns."]
    for cell in cells:
        for name, value in cell["metrics"].items():
            if _is_table(value):
                suffix = f"[{cell['label']}]" if cell["label"] else ""
                lines += ["", f"### {name}{suffix}", "", *_rows(value)]
    return "\n".join(lines) + "\n"


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and "rows" in value


def _rows(table: dict[str, Any]) -> list[str]:
    """Markdown of a `bench.timing.Table`."""
    columns, rows = table["columns"], table["rows"]
    sides = [
        "---" if any(isinstance(row[i], str) for row in rows) else "---:"
        for i in range(len(columns))
    ]
    shown = [[_cell(x) for x in row] for row in rows]
    return ["| " + " | ".join(row) + " |" for row in (columns, sides, *shown)]


def _cell(value: Any) -> str:
    if isinstance(value, str):  # a kernel's name may look like HTML or contain bars
        return html.escape(value, quote=False).replace("|", "\\|")
    return _number(value)


def _measured(name: str, metrics: dict[str, Any]) -> str:
    parent, _, key = name.rpartition(".")
    bound = metrics.get(f"{parent}.{MORE_THAN}{key}")
    if bound is not None:
        return f"more than {_number(bound)}"
    value = metrics.get(name)
    if value is None:
        return "-"
    if isinstance(value, dict):
        middle, *ends = (_number(value[part]) for part in ("median", "q1", "q3"))
        return f"{middle} ({' to '.join(ends)})"
    return human(value) if name.endswith("_bytes") else _number(value)


def _number(value: float | None) -> str:
    if value is None:  # not finite
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"


def gap(summary: dict[str, Any]) -> tuple[float, bool] | None:
    """One-step return in the original simulator minus that in MJX, and whether the 95 % intervals
    of the two scores over episodes overlap. None if either score or interval is missing."""
    mjx = scores.find(summary, "one_step", "mjx")
    real = scores.find(summary, "one_step", "mujoco")
    if not mjx or not real or not mjx["episode_ci95"] or not real["episode_ci95"]:
        return None
    (a, b), (c, d) = mjx["episode_ci95"], real["episode_ci95"]
    return real["mean"] - mjx["mean"], max(a, c) <= min(b, d)


def table(summaries: list[dict[str, Any]]) -> str:
    """Markdown with one row a run."""
    lines = [
        "| task | actor | seeds | env steps a seed | one_step, MJX | one_step, real simulator "
        "| gap | env steps/s | updates/s | training | compilation |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for summary in summaries:
        found = gap(summary)
        shown = "-" if found is None else f"{found[0]:+.1f} ({'inside' if found[1] else 'OUTSIDE'})"
        cells = [
            summary["task"],
            LABELS.get(summary["actor"], summary["actor"]),
            summary["seeds"],
            f"{summary['env_steps']:,}",
            _score(scores.find(summary, "one_step", "mjx")),
            _score(scores.find(summary, "one_step", "mujoco")),
            shown,
            f"{summary['env_steps_per_second']:,.0f}",
            f"{summary['updates_per_second']:,.0f}",
            clock(summary["train_seconds"]),
            f"{summary['compile_seconds']:.0f} s",
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += [
        "",
        "one_step: one network call from x = 0, no critic, no noise. Mean over seeds (mean of each "
        "seed); [95 % Student t interval over seeds]. gap: real less MJX, *inside* if the 95 % "
        "intervals of the two scores over episodes overlap. Rates are of all seeds together and "
        "hold no compilation.",
    ]
    return "\n".join(lines) + "\n"


def _score(entry: dict[str, Any] | None) -> str:
    if not entry:
        return "-"
    if not entry["ci95"]:
        return f"{entry['mean']:.1f}"
    seeds = ", ".join(f"{x:.0f}" for x in entry["per_seed"])
    return f"{entry['mean']:.1f} ({seeds}) [{entry['ci95'][0]:.0f}, {entry['ci95'][1]:.0f}]"
