"""A whole bench of stand-ins: who takes turns with whom, what is printed, written and shown."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fpmd_mjx import cli
from fpmd_mjx.bench import latency, phases, run
from fpmd_mjx.bench.peers import speed, time_to_return
from fpmd_mjx.bench.plan import make_plan
from fpmd_mjx.bench.timing import Quartiles, Table
from fpmd_mjx.config.schema import ConfigError
from fpmd_mjx.report import tables
from fpmd_mjx.report.records import write_json


@dataclass
class Chunk:
    name: str
    env_steps: int
    updates: int
    log: list[str]

    def run(self) -> None:
        self.log.append(self.name)

    def milliseconds(self, seconds: list[float]) -> list[float]:
        return [1.0 for _ in seconds]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What ran, in order, in place of everything that compiles."""
    log: list[str] = []

    class Workload:
        def __init__(self, program: Any, names: tuple[str, ...]) -> None:
            self.num_envs = program.config.num_envs

        def phase(self, name: str) -> Chunk:
            return Chunk(name, self.num_envs * (name != "learn"), int(name == "learn"), log)

    def own_process(name: str) -> Any:
        def measure(cell: Any) -> dict[str, float]:
            log.append(f"{name} of {cell.config.num_envs}")
            return {f"{name}.some_bytes": 2048.0}

        return measure

    def choices(program: Any) -> Any:
        names = [f"latency.{name}.batch_1" for name in ("one_step", "gaussian")]
        return [Chunk(name, 0, 0, log) for name in names], {"latency.one_step.network_calls": 1}

    monkeypatch.setattr(phases, "Workload", Workload)
    monkeypatch.setattr(latency, "measurements", choices)
    monkeypatch.setattr(run, "use_compile_cache", lambda: None)

    def peers(cell: Any, rounds: int, empty_caches: bool, add: Any) -> None:
        caches = "empty" if empty_caches else "shared"
        log.append(f"peers-speed of {cell.config.num_envs} in {rounds}, {caches} caches")
        add({"peers-speed.x.ratio_to_brax_sac": Quartiles(1.0, 2.0, 3.0)})

    monkeypatch.setattr(speed, "measure", peers)
    for name in run.IN_OWN_PROCESS:
        monkeypatch.setitem(run.IN_OWN_PROCESS, name, own_process(name))
    return log


def test_all_cells_take_turns_after_what_needs_the_device_alone(log: list[str]) -> None:
    run.run(make_plan(["num_envs=8,16"], 2), None)
    own = ["startup of 8", "startup of 16", "memory of 8", "memory of 16"]
    assert log[:4] == own
    turn = [*phases.PHASES] * 2
    assert log[4:28] == turn + turn + turn[1:] + turn[:1]  # a round that does not count, and two
    assert set(log[28:]) == {"latency.one_step.batch_1", "latency.gaussian.batch_1"}
    assert len(log[28:]) == 3 * 4


def test_the_device_is_measured_once_for_all_cells(
    log: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure() -> dict[str, float]:
        log.append("ceilings")
        return {"ceilings.launch_seconds": 2e-6}

    monkeypatch.setattr(run.ceilings, "ceilings", measure)
    run.run(make_plan(["ceilings", "seeds=1,2"], 1), None)
    assert log == ["ceilings"]
    assert capsys.readouterr().out.splitlines() == [
        f"ceilings.launch_seconds[seeds={n}] 2e-06" for n in (1, 2)
    ]


def test_each_cell_is_profiled_at_the_end(log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(cell: Any) -> dict[str, float]:
        log.append(f"profile of {cell.part}")
        return {}

    monkeypatch.setattr(run.profile, "profile", measure)
    run.run(make_plan(["profile", "learn", "part=collect,learn"], 1), None)
    assert log[-2:] == ["profile of collect", "profile of learn"]
    assert set(log[:-2]) == {"learn"}


def test_lines_are_name_metric_and_value(
    log: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run.run(make_plan(["memory", "learn", "seeds=1,2"], 2), None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["memory.some_bytes[seeds=1] 2048", "memory.some_bytes[seeds=2] 2048"]
    name, value = lines[2].split()
    assert name == "learn.updates_per_second[seeds=1]"
    assert float(value) > 0
    assert len(lines) == 4


def test_the_file_has_everything_and_report_shows_it(
    log: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "bench.json"
    words = ["physics", "learn", "program", "memory", "num_envs=8,16", "--rounds", "3"]
    assert cli.main(["bench", *words, "--out", str(path), "seeds=2"]) == 0
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    content = json.loads(path.read_text())
    parts = {"command", "device", "versions", "commit", "rounds", "caches", "complete", "cells"}
    assert content.keys() == parts
    assert content["complete"]
    assert content["rounds"] == 3
    assert [cell["label"] for cell in content["cells"]] == ["num_envs=8", "num_envs=16"]
    for cell in content["cells"]:
        assert cell["config"]["seeds"] == 2
        assert cell["config"]["num_envs"] == int(cell["label"].partition("=")[2])
        assert cell["metrics"]["memory.some_bytes"] == 2048
        for name, value in cell["metrics"].items():
            if isinstance(value, dict):
                assert value["q1"] <= value["median"] <= value["q3"]
                shown = float(printed.pop(f"{name}[{cell['label']}]"))
                assert shown == pytest.approx(value["median"], rel=1e-5)
    assert printed.keys() == {f"memory.some_bytes[num_envs={n}]" for n in (8, 16)}

    assert cli.main(["report", str(path)]) == 0
    shown_text = capsys.readouterr().out
    assert "## bench\n" in shown_text
    assert "| metric | num_envs=8 | num_envs=16 |" in shown_text
    assert "| memory.some_bytes | 2.0 KiB | 2.0 KiB |" in shown_text
    assert "program.efficiency" in shown_text
    assert "Medians of 3 turns" in shown_text


def test_a_table_is_printed_written_and_shown_on_its_own(
    log: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def measure(cell: Any) -> dict[str, Any]:
        rows = (("a<int|bool>", 1200, 0.5), ("b", 3, 0.25))
        return {"memory.top": Table(("kernel", "count", "share"), rows), "memory.some": 1.0}

    monkeypatch.setitem(run.IN_OWN_PROCESS, "memory", measure)
    out = tmp_path / "bench.json"
    run.run(make_plan(["memory", "seeds=1,2"], 1), out)
    assert capsys.readouterr().out.splitlines()[:5] == [
        "memory.top[seeds=1]",
        "  kernel       count  share",
        "  a<int|bool>   1200    0.5",
        "  b                3   0.25",
        "memory.some[seeds=1] 1",
    ]
    found = json.loads(out.read_text())["cells"][1]["metrics"]["memory.top"]
    assert found == {
        "columns": ["kernel", "count", "share"],
        "rows": [["a<int|bool>", 1200, 0.5], ["b", 3, 0.25]],
    }
    shown = tables.render([out])
    assert "| memory.some | 1 | 1 |" in shown
    assert "| memory.top" not in shown
    assert shown.endswith(
        """
### memory.top[seeds=2]

| kernel | count | share |
| --- | ---: | ---: |
| a&lt;int\\|bool&gt; | 1,200 | 0.5 |
| b | 3 | 0.25 |
"""
    )


def test_peers_are_compared_for_each_cell(
    log: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run.run(make_plan(["peers-speed", "task=playground/FishSwim", "num_envs=8,16"], 2), None)
    assert log == [f"peers-speed of {n} in 2, empty caches" for n in (8, 16)]
    assert capsys.readouterr().out.splitlines() == [
        f"peers-speed.x.ratio_to_brax_sac[num_envs={n}] 2" for n in (8, 16)
    ]


@pytest.mark.parametrize("shared", [True, False])
def test_the_file_and_the_report_say_which_caches(
    log: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], shared: bool
) -> None:
    path = tmp_path / "bench.json"
    words = ["bench", "peers-speed", "task=playground/FishSwim", "--rounds", "2"]
    assert cli.main([*words, "--out", str(path), *["--shared-caches"] * shared]) == 0
    caches = "shared" if shared else "empty"
    assert log == [f"peers-speed of 64 in 2, {caches} caches"]
    assert json.loads(path.read_text())["caches"] == caches
    assert ("Compile caches were shared" in tables.render([path])) == shared


def test_bounds_stand_in_the_row_of_what_they_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def peers(cell: Any, empty_caches: bool, add: Any) -> None:
        assert empty_caches
        reached = cell.config.seed == 0
        prefix = "" if reached else "more_than_"
        add({"peers-return.x.reached": float(reached), f"peers-return.x.{prefix}seconds": 20.5})

    monkeypatch.setattr(time_to_return, "measure", peers)
    monkeypatch.setattr(run, "use_compile_cache", lambda: None)
    out = tmp_path / "bench.json"
    run.run(make_plan(["peers-return", "target=5", "seed=0,1"], 2), out)
    assert "peers-return.x.more_than_seconds[seed=1] 20.5" in capsys.readouterr().out
    shown = tables.render([out]).splitlines()
    assert "| peers-return.x.seconds | 20.5 | more than 20.5 |" in shown
    assert not any("more_than" in line for line in shown)


def test_a_bound_ends_with_what_it_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, bound = tmp_path / "bench.json", "peers-return.x.more_than_seconds"

    def written() -> dict[str, float]:
        return json.loads(out.read_text())["cells"][0]["metrics"]

    def peers(cell: Any, empty_caches: bool, add: Any) -> None:
        add({"peers-return.a.seconds": 1.0})
        for seconds in (10.0, 20.0):
            add({bound: seconds}, final=False)
            assert written() == {"peers-return.a.seconds": 1.0, bound: seconds}
        add({"peers-return.x.seconds": 30.0})

    monkeypatch.setattr(time_to_return, "measure", peers)
    monkeypatch.setattr(run, "use_compile_cache", lambda: None)
    run.run(make_plan(["peers-return", "target=5"], 2), out)
    assert written() == {"peers-return.a.seconds": 1.0, "peers-return.x.seconds": 30.0}


def test_an_interruption_leaves_what_was_measured(
    log: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def chunk(self: Chunk) -> None:
        log.append(self.name)
        if log.count("learn") == 4:  # the round that does not count, two, and half of a third
            raise KeyboardInterrupt

    monkeypatch.setattr(Chunk, "run", chunk)
    out = tmp_path / "bench.json"
    words = ["bench", "memory", "physics", "learn", "--rounds", "5", "--out", str(out)]
    assert cli.main(words) == 130
    shown = capsys.readouterr()
    assert shown.err.endswith(
        f"\nfpmd: bench interrupted; the results so far are printed, and written to {out}\n"
    )
    assert "learn.updates_per_second" in shown.out
    content = json.loads(out.read_text())
    assert not content["complete"]
    assert content["cells"][0]["metrics"].keys() == {
        "memory.some_bytes",
        "physics.env_steps_per_second",
        "learn.updates_per_second",
    }
    assert "Interrupted: these values are of fewer turns" in tables.render([out])


def test_an_interruption_before_anything_was_measured_leaves_earlier_results(
    log: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(cell: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setitem(run.IN_OWN_PROCESS, "memory", stop)
    out = tmp_path / "bench.json"
    out.write_text("earlier")
    assert cli.main(["bench", "memory", "--out", str(out)]) == 130
    assert capsys.readouterr().err == "fpmd: bench interrupted before anything was measured\n"
    assert out.read_text() == "earlier"


def cell(label: str, metrics: dict[str, Any]) -> dict[str, Any]:
    return {"label": label, "config": {"task": {"name": "dmc/x"}}, "metrics": metrics}


def test_numbers_of_the_table(tmp_path: Path) -> None:
    rate = {"q1": 900.0, "median": 12345.6, "q3": 23456.7}
    content = {
        "command": "fpmd bench",
        "device": "a device",
        "commit": "abc",
        "versions": {"jax": "1.2", "mujoco-mjx": "3.4"},
        "rounds": 5,
        "complete": True,
        "cells": [
            cell("a=1,b=2", {"x.env_steps_per_second": rate, "x.calls": 704}),
            cell("", {"y.ratio": 0.12345, "y.gone": None}),
        ],
    }
    write_json(tmp_path / "one.json", content)
    (tmp_path / "other.json").write_text('{"no": "results"}')
    assert tables.render([tmp_path]).splitlines() == [
        "## one",
        "",
        "`fpmd bench` on a device, commit abc, jax 1.2, mujoco-mjx 3.4.",
        "",
        "| metric | a=1, b=2 | dmc/x |",
        "|---|---:|---:|",
        "| x.env_steps_per_second | 12,346 (900 to 23,457) | - |",
        "| x.calls | 704 | - |",
        "| y.ratio | - | 0.123 |",
        "| y.gone | - | - |",
        "",
        "Medians of 5 turns (with the quartiles). Values without quartiles were measured once.",
    ]


def test_report_shows_suites_as_their_table() -> None:
    folder = Path(__file__).parents[2] / "benchmarks" / "quick"
    assert (folder / "table.md").read_text() in tables.render([folder])


def test_report_says_what_it_cannot_show(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.json does not exist"):
        tables.render([tmp_path / "nowhere.json"])
    with pytest.raises(ConfigError, match="no JSON with results in"):
        tables.render([tmp_path])
    (tmp_path / "other.json").write_text('{"no": "results"}')
    with pytest.raises(ConfigError, match=r"other\.json has no results"):
        tables.render([tmp_path / "other.json"])
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ConfigError, match=r"broken\.json is not JSON"):
        tables.render([tmp_path / "broken.json"])
