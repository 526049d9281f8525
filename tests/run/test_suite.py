"""Suites: every file loads, finished cells are skipped, the table says what the summaries say."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import envs
from fpmd_mjx import cli
from fpmd_mjx.algorithms.base import Mode
from fpmd_mjx.config import load as configs
from fpmd_mjx.config import rules
from fpmd_mjx.config.schema import Config, ConfigError
from fpmd_mjx.program import Program
from fpmd_mjx.report import curves, tables
from fpmd_mjx.report.records import write_json
from fpmd_mjx.report.statistics import summarize
from fpmd_mjx.run import folder as run_folder
from fpmd_mjx.run import score, train
from fpmd_mjx.run.folder import claim_folder
from fpmd_mjx.run.logs import MetricsLog
from fpmd_mjx.run.signals import Interrupted
from fpmd_mjx.run.suite import EPISODE_SEED, Suite, load_suite, run_suite
from fpmd_mjx.seeds import Stream, reset_seeds, seed_array, split, stream_keys

from ..conftest import Toy, host
from ..evaluation.test_rollout import Original, known

FILES = configs.choices("suite")


@pytest.mark.parametrize("name", FILES)
def test_every_suite_loads(name: str) -> None:
    tree = yaml.safe_load((configs.configs_dir() / "suite" / f"{name}.yaml").read_text())
    found = load_suite(name, ["runs=elsewhere"])
    assert found.name == name
    assert found.description
    assert found.episodes >= 1
    assert len(found.cells) == sum(len(g["tasks"]) * len(g["algorithms"]) for g in tree["cells"])
    assert len({cell.folder for cell in found.cells}) == len(found.cells)
    for cell in found.cells:
        rules.validate(cell)
        assert cell.preset == tree["preset"]
        assert cell.name == name
    assert found.folder == Path("elsewhere") / "suites" / name


def test_there_are_suites() -> None:
    assert len(FILES) >= 2


def test_overrides_come_last() -> None:
    found = load_suite("quick", ["seeds=3", "env_steps=60000"]).cells
    assert {(cell.seeds, cell.env_steps) for cell in found} == {(3, 60000)}


def test_an_unknown_suite_is_refused_with_what_there_is() -> None:
    with pytest.raises(ConfigError, match="suite quik is unknown: choose one of quick"):
        load_suite("quik", [])
    with pytest.raises(ConfigError, match=", ".join(FILES)):
        load_suite("zzzzzz", [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: tree.update(seed=3), "mine.yaml has the unknown key 'seed': use only cells"),
        (lambda tree: tree.pop("preset"), "mine.yaml has no 'preset': add it"),
        (lambda tree: tree.pop("cells"), "mine.yaml has no 'cells': add it"),
        (
            lambda tree: tree["cells"][0].update(task="dmc/cartpole_swingup"),
            "mine.yaml, cell 1 has the unknown key 'task': use only algorithms",
        ),
        (lambda tree: tree["cells"][0].pop("tasks"), "mine.yaml, cell 1 has no 'tasks': add it"),
        (lambda tree: tree.clear(), "mine.yaml has no 'cells': add it"),
        (lambda tree: tree.update(episodes=0), "mine.yaml has episodes: 0: give a whole number of"),
    ],
)
def test_a_mistake_in_a_suite_is_named(
    change: Callable[[Any], None], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = yaml.safe_load((configs.configs_dir() / "suite" / "quick.yaml").read_text())
    change(tree)
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite" / "mine.yaml").write_text(yaml.safe_dump(tree))
    monkeypatch.setattr(configs, "configs_dir", lambda: tmp_path)
    with pytest.raises(ConfigError, match=message):
        load_suite("mine", [])


# ------------------------------------------------------------------------------------- running


@dataclass
class Played:
    """What a suite asked of training and scoring, which do nothing but leave files."""

    trained: list[str] = field(default_factory=list)
    scored: list[tuple[str, str, int]] = field(default_factory=list)
    stop_at: str | None = None

    def train(self, config: Config, display: Any) -> None:
        name = f"{config.task.name}/{config.algorithm.name}"
        self.trained.append(name)
        folder = claim_folder(config)
        if name == self.stop_at:
            raise Interrupted(15, "stopped")
        display.begin(name, 0, config.env_steps)
        log = MetricsLog(folder, 0)
        for epoch in (1, 2):
            returns = {"eval/one_step": np.arange(config.seeds) + 10.0 * epoch}
            log.write({"epoch": epoch, "env_steps": epoch * 100}, returns, [0, 1])
        log.close()
        display.update(config.env_steps, "")
        display.end()
        write_json(folder / "summary.json", summary_of(config))

    def score(
        self, folder: Path, mode: Mode, simulator: str, episodes: int, seed: int
    ) -> dict[str, Any]:
        assert str(mode) == "one_step"
        self.scored.append((str(folder), simulator, episodes))
        path = folder / "summary.json"
        summary = json.loads(path.read_text())
        shift = {"mjx": 0.0, "mujoco": -2.5}[simulator]
        result = summarize(
            np.array([[10.0, 20.0, 30.0], [11.0, 21.0, 31.0]]) + shift, summary["env_steps"]
        )
        result |= {"mode": "one_step", "simulator": simulator, "seed": seed}
        summary.setdefault("scores", []).append(result)
        write_json(path, summary)
        return result


def summary_of(config: Config) -> dict[str, Any]:
    return {
        "task": config.task.name,
        "actor": config.algorithm.name,
        "seeds": config.seeds,
        "env_steps": config.env_steps,
        "env_steps_per_second": 12345.6,
        "updates_per_second": 789.0,
        "train_seconds": 3661.0,
        "compile_seconds": 12.4,
        "eval": {"one_step": summarize(np.array([[1.0], [2.0]]), config.env_steps)},
    }


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    found = Played()
    monkeypatch.setattr(train, "train", found.train)
    monkeypatch.setattr(score, "score_run", found.score)
    return found


def cells(runs: Path | str, *overrides: str) -> tuple[Config, ...]:
    """Three cells."""
    members = [
        ("gym/InvertedPendulum-v5", "fpmd_m"),
        ("gym/InvertedPendulum-v5", "fpmd_r"),
        ("dmc/cartpole_swingup", "fpmd_m"),
    ]
    same = ["name=mine", "seeds=2", "env_steps=150000", f"runs={runs}", *overrides]
    return tuple(
        configs.load([f"task={task}", f"algorithm={actor}", *same]) for task, actor in members
    )


@pytest.fixture
def small(tmp_path: Path) -> Suite:
    return Suite("mine", "a title", cells(tmp_path), episodes=3)


def names(small: Suite) -> list[str]:
    return [f"{cell.task.name}/{cell.algorithm.name}" for cell in small.cells]


def test_a_suite_trains_scores_and_reports_every_cell(small: Suite, played: Played) -> None:
    run_suite(small)
    assert played.trained == names(small)
    assert played.scored == [
        (str(cell.folder), simulator, 3) for cell in small.cells for simulator in ("mjx", "mujoco")
    ]
    lines = (small.folder / "table.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith(("| dmc", "| gym"))]
    assert len(rows) == 3
    assert rows[0].startswith("| gym/InvertedPendulum-v5 | FPMD-M | 2 | 150,000 | 20.5 (20, 21) [")
    assert "| -2.5 (inside) | 12,346 | 789 | 1:01:01 | 12 s |" in rows[0]
    assert (small.folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((small.folder / "results.json").read_text())
    assert [x["task"] for x in results] == [cell.task.name for cell in small.cells]


def test_finished_cells_are_skipped(
    small: Suite, played: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    run_suite(small)
    capsys.readouterr()
    played.trained.clear()
    played.scored.clear()
    run_suite(small)
    assert played.trained == played.scored == []
    shown = capsys.readouterr().err
    assert shown.count(": finished before") == 3
    assert "| gym/InvertedPendulum-v5 | FPMD-M |" in shown


def test_an_interrupted_suite_is_continued(small: Suite, played: Played) -> None:
    played.stop_at = names(small)[1]
    with pytest.raises(Interrupted):
        run_suite(small)
    assert played.trained == names(small)[:2]
    assert "FPMD-R" not in (small.folder / "table.md").read_text()  # drawn after the first cell
    played.stop_at, played.trained[:] = None, []
    run_suite(small)
    assert played.trained == names(small)[1:]


def test_a_cell_that_is_to_run_longer_is_continued(small: Suite, played: Played) -> None:
    run_suite(small)
    played.trained.clear()
    longer = cells(small.cells[0].runs, "env_steps=1000000")
    run_suite(Suite("mine", "a title", longer, episodes=3))
    assert played.trained == names(small)


def test_a_finished_cell_of_another_config_is_an_error(small: Suite, played: Played) -> None:
    run_suite(small)
    other = Suite("mine", "a title", cells(small.cells[0].runs, "learn.batch=32"), episodes=3)
    with pytest.raises(ConfigError, match=r"learn\.batch=32 does not continue the run"):
        run_suite(other)


def test_a_task_without_an_original_is_scored_in_mjx_alone(tmp_path: Path, played: Played) -> None:
    config = configs.load(
        ["task=playground/CheetahRun", "seeds=2", "name=mine", f"runs={tmp_path}"]
    )
    suite = Suite("mine", "a title", (config,), episodes=3)
    run_suite(suite)
    assert played.scored == [(str(config.folder), "mjx", 3)]
    assert "| - | - |" in (suite.folder / "table.md").read_text()


def test_other_episodes_are_scored_anew(small: Suite, played: Played) -> None:
    run_suite(small)
    played.scored.clear()
    run_suite(Suite(small.name, small.description, small.cells, episodes=5))
    assert {episodes for _, _, episodes in played.scored} == {5}
    assert len(played.scored) == 6


def test_the_command_stops_with_the_signals_code(
    played: Played, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = load_suite("quick", []).cells[0]
    played.stop_at = f"{first.task.name}/{first.algorithm.name}"
    assert cli.main(["suite", "quick", f"runs={tmp_path}"]) == 128 + 15
    assert capsys.readouterr().err.endswith("fpmd: stopped\n")


# ------------------------------------------------------------------------- nothing made up


@pytest.fixture
def real_suite(plain: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """Two runs of the toy, which really train; its original simulator is the toy's own."""

    def make_program(config: Config) -> Program:
        return Program(config, plain.program.algorithm, plain.program.vector)

    monkeypatch.setattr(train, "make_program", make_program)
    monkeypatch.setattr(run_folder, "make_program", make_program)
    monkeypatch.setattr(train, "compile_program", lambda program: plain.compiled)
    monkeypatch.setattr(envs, "make_real", lambda name: Original())
    same = {"runs": str(tmp_path), "env_steps": 320}
    runs = [dataclasses.replace(plain.config, name=name, **same) for name in ("a", "b")]
    # As many episodes as an evaluation in training has, which is no score for that.
    return Suite("mine", "a title", tuple(runs), plain.config.eval.episodes)


def expected_returns(plain: Toy) -> dict[str, list[float]]:
    """Mean of each seed in both simulators, from the starts of the episodes alone: whatever the
    policy does, a corridor pays the same."""
    config, episodes = plain.config, plain.config.eval.episodes
    keys = stream_keys(Stream.SCORING, seed_array(config), EPISODE_SEED)
    starts = plain.program.vector.reset(split(keys, 2)[1], episodes)
    ends = {
        "mjx": host(starts.obs[..., 1]),
        "mujoco": 2 + reset_seeds(range(config.seeds), EPISODE_SEED, episodes).astype(int) % 7,
    }
    # The original of test_rollout.py blows up in a corridor of four steps, after two.
    paid = {
        name: [
            [3.0 if name == "mujoco" and end == 4 else known(end, False)[0] for end in row]
            for row in rows
        ]
        for name, rows in ends.items()
    }
    return {name: np.mean(rows, 1).tolist() for name, rows in paid.items()}


def test_a_suite_that_really_runs(
    real_suite: Suite, plain: Toy, capsys: pytest.CaptureFixture[str]
) -> None:
    run_suite(real_suite)
    expected = expected_returns(plain)
    for cell in real_suite.cells:
        summary = json.loads((cell.folder / "summary.json").read_text())
        assert summary["env_steps"] == 320
        assert summary["updates"] > 0
        found = {score["simulator"]: score for score in summary["scores"]}
        assert {name: score["per_seed"] for name, score in found.items()} == expected
        assert {score["seed"] for score in found.values()} == {EPISODE_SEED}
        assert found["mujoco"]["nonfinite_episodes"] != [0, 0, 0, 0]
    rows = (real_suite.folder / "table.md").read_text().splitlines()[2:4]
    shown = [f"{np.mean(means):.1f} (" for means in expected.values()]
    assert all(text in row for row in rows for text in shown)
    assert (real_suite.folder / "curves.png").stat().st_size > 10_000

    files = {path: path.stat().st_mtime_ns for path in Path(real_suite.cells[0].runs).rglob("*")}
    capsys.readouterr()
    run_suite(real_suite)  # trains nothing, scores nothing
    said = capsys.readouterr().err
    assert said.count(": finished before") == 2
    assert said.count(f"one_step in mujoco: {np.mean(expected['mujoco']):.1f}") == 2
    for path, changed in files.items():
        assert "suites" in path.parts or path.stat().st_mtime_ns == changed, path


# -------------------------------------------------------------------------------------- reports


def scored(mjx: list[float], real: list[float]) -> dict[str, Any]:
    return {
        "eval": {"one_step": summarize(np.array([mjx]), 1)},
        "eval_mujoco": {"one_step": summarize(np.array([real]), 1)},
    }


def test_the_gap_is_inside_or_outside_the_intervals() -> None:
    # intervals by hand: mean +- t(0.975, 1) * |b - a| / 2 = mean +- 12.706 * |b - a| / 2
    inside = tables.gap(scored([10.0, 12.0], [20.0, 22.0]))  # 11 +- 12.7, 21 +- 12.7
    outside = tables.gap(scored([10.0, 12.0], [40.0, 42.0]))  # 11 +- 12.7, 41 +- 12.7
    below = tables.gap(scored([40.0, 42.0], [10.0, 12.0]))
    assert inside == (10.0, True)
    assert outside == (30.0, False)
    assert below == (-30.0, False)
    assert tables.gap(scored([10.0], [20.0])) is None
    assert tables.gap({"eval": {"one_step": None}}) is None


def test_a_gap_outside_is_hard_to_miss(small: Suite) -> None:
    summary = summary_of(small.cells[0]) | scored([10.0, 12.0], [40.0, 42.0])
    assert "| +30.0 (OUTSIDE) |" in tables.table([summary])


def test_curves_are_the_evaluations_of_all_seeds(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, 0)
    for epoch, returns in enumerate(([1.0, 2.0], [np.nan, np.nan], [3.0, 4.0]), 1):
        log.write(
            {"epoch": epoch, "env_steps": 100 * epoch}, {"eval/one_step": np.array(returns)}, [0, 1]
        )
    log.close()
    steps, curve = curves.learning_curve(tmp_path)
    assert steps.tolist() == [100, 300]
    assert curve.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_a_report_before_any_run_has_ended(tmp_path: Path) -> None:
    tables.write(tmp_path / "suite", "a title", [tmp_path / "missing"])
    assert "| task |" in (tmp_path / "suite" / "table.md").read_text()
