"""What a run leaves behind: its best checkpoint, every score, and its parts."""

import dataclasses
import json
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from fpmd_mjx.algorithms.base import ONE_STEP, Mode
from fpmd_mjx.config.schema import ConfigError
from fpmd_mjx.evaluation.rollout import Episodes
from fpmd_mjx.report import scores, tables
from fpmd_mjx.report.records import read_metrics
from fpmd_mjx.run import progress, provenance, summary, train
from fpmd_mjx.run.checkpoint import CheckpointError, Checkpoints
from fpmd_mjx.run.display import Display
from fpmd_mjx.run.folder import load_policy
from fpmd_mjx.run.signals import Interrupted

from ..conftest import Toy
from .test_resume import Signal, epochs_on_disk

STEPS = 160  # of an epoch
Loop = Callable[..., dict[str, Any]]


@pytest.fixture
def folder(plain: Toy, tmp_path: Path) -> Path:
    return dataclasses.replace(plain.config, runs=str(tmp_path), name="toy").folder


@pytest.fixture
def evaluating(host_loop: Loop, plain: Toy, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Loop]:
    """A host loop whose evaluations come to these means, one after another in each mode."""

    def prepare(broken: int = 0, **means: Sequence[float]) -> Loop:
        def evaluation(values: Iterator[float]) -> Callable[..., Any]:
            def play(policy: Any, keys: Any) -> Episodes:
                shape = (plain.config.seeds, plain.config.eval.episodes)
                counts = np.arange(plain.config.seeds) * broken
                return Episodes(np.full(shape, next(values)), np.ones(shape, int), counts)

            return lambda: play

        compiled = dataclasses.replace(
            plain.compiled,
            evaluations={Mode(name): evaluation(iter(x)) for name, x in means.items()},
        )
        monkeypatch.setattr(train, "compile_program", lambda program: compiled)
        eval_ = dataclasses.replace(plain.config.eval, modes=list(means))
        return lambda *args, **changes: host_loop(*args, **{"eval": eval_} | changes)

    return prepare


def checkpoint(plain: Toy, **changes: Any) -> Any:
    return dataclasses.replace(plain.config.checkpoint, **changes)


# ------------------------------------------------------------------------------- checkpoints


def test_the_best_evaluation_is_on_disk_and_of_its_own_epoch(
    evaluating: Callable[..., Loop], plain: Toy, folder: Path
) -> None:
    loop = evaluating(one_step=[1.0, 5.0, 2.0, 3.0, 5.0, 0.0])
    found = loop(env_steps=6 * STEPS, checkpoint=checkpoint(plain, every=4, keep=1))
    assert found["best"]["one_step"]["epoch"] == 2
    assert epochs_on_disk(folder) == [2, 6]
    assert load_policy(folder, "best")[2] == 2
    assert load_policy(folder, "latest")[2] == 6
    states = [plain.run(epochs)[0] for epochs in (2, 6)]
    for epoch, state in zip(("best", 6), states, strict=True):
        stored, wanted = load_policy(folder, epoch)[1], plain.program.policy(state)
        jax.tree.map(np.testing.assert_array_equal, stored.actor, wanted.actor)


def test_an_epoch_without_an_evaluation_has_no_score(
    evaluating: Callable[..., Loop], plain: Toy, folder: Path
) -> None:
    every = dataclasses.replace(plain.config.eval, every=2)
    loop = evaluating(one_step=[5.0, 1.0])
    loop(env_steps=4 * STEPS, eval=every, checkpoint=checkpoint(plain, keep=2, best=False))
    assert epochs_on_disk(folder) == [3, 4]
    with Checkpoints(folder / "checkpoints", keep_last=2, keep_best=True, replay=True) as saved:
        assert saved.best() == 4  # the evaluation of epoch 2 says nothing about epoch 3


@pytest.mark.parametrize("best", [True, False])
def test_a_run_keeps_what_it_says_it_keeps_over_resumes(
    evaluating: Callable[..., Loop], plain: Toy, folder: Path, best: bool
) -> None:
    loop = evaluating(one_step=[1.0, 9.0, 2.0, 9.0, 3.0, 9.5, 0.0])
    keep = checkpoint(plain, keep=2, best=best)
    with pytest.raises(Interrupted):
        loop(Signal(signal.SIGTERM, epoch=3), env_steps=7 * STEPS, checkpoint=keep)
    assert epochs_on_disk(folder) == [2, 3]
    loop(env_steps=5 * STEPS, checkpoint=keep)
    assert epochs_on_disk(folder) == ([2] if best else []) + [4, 5]
    found = loop(env_steps=7 * STEPS, checkpoint=dataclasses.replace(keep, keep=1))
    assert epochs_on_disk(folder) == ([6] if best else []) + [7]
    assert found["best"]["one_step"]["epoch"] == 6
    if best:
        assert load_policy(folder, "best")[2] == 6
    else:
        with pytest.raises(CheckpointError, match=r"checkpoint\.best=false: give one of \[7\]"):
            load_policy(folder, "best")


def test_a_checkpoint_that_is_not_there_is_told_in_one_sentence(
    evaluating: Callable[..., Loop], plain: Toy, folder: Path
) -> None:
    with pytest.raises(ConfigError, match="is not a run folder"):
        load_policy(folder, "best")
    with pytest.raises(Interrupted):
        evaluating(one_step=[])(
            Signal(signal.SIGTERM, epoch=1),
            env_steps=4 * STEPS,
            eval=dataclasses.replace(plain.config.eval, every=3),
        )
    with pytest.raises(CheckpointError, match=r"none of its checkpoints was evaluated: give one"):
        load_policy(folder, "best")
    with pytest.raises(CheckpointError, match=r"no epoch 3 in .*; there are: \[1\]"):
        load_policy(folder, 3)


def test_a_mean_that_is_not_a_number_is_never_the_best(
    evaluating: Callable[..., Loop], folder: Path
) -> None:
    found = evaluating(one_step=[np.nan, 1.0, np.nan])(env_steps=3 * STEPS)
    assert found["best"]["one_step"]["epoch"] == 2
    assert load_policy(folder, "best")[2] == 2


# ------------------------------------------------------------------------------------- modes


def test_every_mode_is_recorded_and_the_first_one_decides(
    evaluating: Callable[..., Loop], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluating(best_of_n=[1.0, 7.0, 3.0], one_step=[6.0, 4.0, 5.0])(env_steps=3 * STEPS)
    assert {mode: x["mean"] for mode, x in found["eval"].items()} == {
        "best_of_n": 3.0,
        "one_step": 5.0,
    }
    assert {mode: x["epoch"] for mode, x in found["best"].items()} == {
        "best_of_n": 2,
        "one_step": 1,
    }
    assert load_policy(folder, "best")[2] == 2
    rows = [row for row in read_metrics(folder / "metrics.csv") if row["seed"] == "0"]
    assert [float(row["eval/best_of_n"]) for row in rows] == [1.0, 7.0, 3.0]
    assert [float(row["eval/one_step"]) for row in rows] == [6.0, 4.0, 5.0]
    assert " best_of_n 7.0  return" in capsys.readouterr().err


def test_the_modes_of_the_run_are_those_of_the_program(
    host_loop: Loop, plain: Toy, folder: Path
) -> None:
    both = dataclasses.replace(plain.config.eval, modes=["one_step", "best_of_n"])
    found = host_loop(env_steps=2 * STEPS, eval=both)
    keys = progress.stream_keys(progress.Stream.EVALUATION, progress.seed_array(plain.config), 2)
    policy = plain.program.policy(plain.run(2)[0])
    for mode in both.modes:
        returns = plain.compiled.evaluation(Mode(mode))(policy, keys).returns
        assert found["eval"][mode]["per_seed"] == pytest.approx(np.mean(returns, 1).tolist())


def test_a_resumed_run_may_record_more_modes_but_not_rank_by_another(
    evaluating: Callable[..., Loop], folder: Path
) -> None:
    evaluating(one_step=[0.0, 1.0])(env_steps=2 * STEPS)
    evaluating(one_step=[2.0], best_of_n=[3.0])(env_steps=3 * STEPS)
    rows = [row for row in read_metrics(folder / "metrics.csv") if row["seed"] == "1"]
    assert [(row["eval/one_step"], row["eval/best_of_n"]) for row in rows] == [
        ("0.0", ""),
        ("1.0", ""),
        ("2.0", "3.0"),
    ]
    with pytest.raises(ConfigError, match=r"eval\.modes\[0\]=best_of_n does not continue the run"):
        evaluating(best_of_n=[4.0], one_step=[4.0])(env_steps=4 * STEPS)


# ----------------------------------------------------------------------------------- summary


def test_training_a_complete_run_changes_nothing(
    host_loop: Loop,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    host_loop(env_steps=480)
    summary.add_score(folder, score_of(ONE_STEP, 3, 480))
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    monkeypatch.setattr(train, "compile_program", lambda program: pytest.fail("compiles"))
    for env_steps in (480, 320):
        capsys.readouterr()
        assert host_loop(env_steps=env_steps) == json.loads(files[folder / "summary.json"])
        assert capsys.readouterr().err == (
            f"the run in {folder} is complete with 480 env steps: raise env_steps to train it "
            "further, or choose another name=...\n"
        )
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == files
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == times


def score_of(mode: Mode, epoch: int, env_steps: int, **changes: Any) -> dict[str, Any]:
    episodes = Episodes(np.array([[1.0, 2.0], [3.0, 4.0]]), None, np.zeros(2, int))
    settings = {"simulator": "mjx", "seed": 0, "device": "a card", "commit": "abc"} | changes
    return scores.entry(episodes, mode=str(mode), epoch=epoch, env_steps=env_steps, **settings)


def test_scores_stay_when_a_run_is_continued(host_loop: Loop, folder: Path) -> None:
    host_loop(env_steps=320)
    asked = [
        score_of(ONE_STEP, 2, 320),
        score_of(Mode("best_of_n"), 2, 320),
        score_of(ONE_STEP, 2, 320, simulator="mujoco"),
        score_of(ONE_STEP, 2, 320, seed=1),
        score_of(ONE_STEP, 1, 160),
    ]
    for score in asked:
        assert summary.add_score(folder, score)
    again = score_of(ONE_STEP, 2, 320, device="another card")
    summary.add_score(folder, again)
    further = host_loop(env_steps=480)
    assert further["scores"] == summary.read(folder)["scores"] == [*asked[1:], again]  # type: ignore[index]
    assert {"mode", "simulator", "seed", "episodes", "epoch", "env_steps", "device", "commit"} <= (
        again.keys()
    )
    assert not summary.add_score(folder.parent, again)  # no summary, nothing kept


def test_a_run_lists_its_parts(
    host_loop: Loop, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, env_steps in (("first", 320), ("second", 640)):
        where = {"device": name, "versions": {"jax": name}, "commit": f"{name}+"}
        monkeypatch.setattr(provenance, "provenance", lambda where=where: where)
        found = host_loop(env_steps=env_steps)
    first, second = found["parts"]
    assert (first["env_steps_from"], first["env_steps_to"]) == (0, 320)
    assert (second["env_steps_from"], second["env_steps_to"]) == (320, 640)
    assert (first["device"], first["versions"]["jax"], first["commit"]) == (
        ("first", "first", "first+")
    )
    assert found["device"] == found["eval"]["one_step"]["device"] == "second"
    for name in ("compile_seconds", "train_seconds", "wall_seconds"):
        assert found[name] == pytest.approx(first[name] + second[name], abs=0.02)
    for part in (first, second):
        assert part["wall_seconds"] >= part["train_seconds"] > 0


def test_tables_read_the_newest_score_of_the_final_policy(host_loop: Loop, folder: Path) -> None:
    trained = host_loop(env_steps=320)
    assert scores.find(trained, "one_step", "mjx") == trained["eval"]["one_step"]
    assert scores.find(trained, "one_step", "mujoco") is None
    for epoch, env_steps, simulator in ((1, 160, "mjx"), (2, 320, "mjx"), (2, 320, "mujoco")):
        summary.add_score(folder, score_of(ONE_STEP, epoch, env_steps, simulator=simulator))
    kept: Any = summary.read(folder)
    assert scores.find(kept, "one_step", "mjx") == kept["scores"][1]
    assert scores.find(kept, "one_step", "mujoco") == kept["scores"][2]
    assert "| +0.0 (inside) |" in tables.table([kept])


EARLIER = sorted((Path(__file__).parents[2] / "benchmarks").glob("*/results.json"))


@pytest.mark.parametrize("path", EARLIER, ids=lambda path: path.parent.name)
def test_summaries_of_earlier_versions_make_the_table_that_they_made(path: Path) -> None:
    made = path.with_name("table.md").read_text().splitlines()
    rows = [line for line in tables.table(json.loads(path.read_text())).splitlines() if "|" in line]
    assert rows == [line for line in made if "|" in line]
    assert len(rows) > 2


# ------------------------------------------------------------------------- numbers that are not


class Lines(Display):
    """The progress lines."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def update(self, done: int, text: str) -> None:
        super().update(done, text)
        self.seen.append(text)


@pytest.fixture
def spoilt(plain: Toy, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Changes the metrics of the program, by epoch."""

    def spoil(*changes: dict[str, Any]) -> None:
        epochs = iter(changes)

        def train_epoch(state: Any) -> Any:
            state, metrics = plain.compiled.train_epoch(state)
            change = next(epochs, {})
            return state, metrics | {name: np.asarray(x, np.float32) for name, x in change.items()}

        compiled = dataclasses.replace(plain.compiled, train_epoch=train_epoch)
        monkeypatch.setattr(train, "compile_program", lambda program: compiled)

    return spoil


def test_a_loss_that_is_not_finite_is_told_everywhere(
    host_loop: Loop, spoilt: Callable[..., None], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[str, float, int]] = []
    monkeypatch.setattr(
        "tensorboardX.SummaryWriter.add_scalar", lambda self, *point: written.append(point)
    )
    nan = float("nan")
    spoilt({}, {}, {"critic/loss": [1.0, nan, 2.0, 3.0]}, {"critic/loss": [1.0, np.inf, 2.0, nan]})
    lines = Lines()
    host_loop(lines, env_steps=5 * STEPS)
    assert ["NOT FINITE: critic/loss" in line for line in lines.seen] == [
        *(False, False, True, True, False)
    ]
    rows = read_metrics(folder / "metrics.csv")
    cells = [row["critic/loss"] for row in rows if row["epoch"] in ("3", "4")]
    assert cells == ["1.0", "nan", "2.0", "3.0", "1.0", "inf", "2.0", "nan"]
    counted = [row["nonfinite/metrics"] for row in rows if row["epoch"] in ("3", "4")]
    assert counted == ["0.0", "1.0", "0.0", "0.0", "0.0", "1.0", "0.0", "1.0"]
    losses = {epoch: x for name, x, epoch in written if name == "critic/loss"}
    assert [np.isfinite(losses[epoch]) for epoch in (2, 3, 4, 5)] == [True, False, False, True]


def test_an_epoch_without_updates_has_no_losses_and_nothing_is_wrong(
    host_loop: Loop, folder: Path
) -> None:
    """The toy's first epoch acts at random alone, and ends no whole episode of some seed."""
    lines = Lines()
    host_loop(lines, env_steps=2 * STEPS)
    assert not any("NOT FINITE" in line for line in lines.seen)
    first, *_, last = read_metrics(folder / "metrics.csv")
    assert first["critic/loss"] == ""
    assert first["updates"] == "0"
    assert first["nonfinite/metrics"] == last["nonfinite/metrics"] == "0.0"
    assert float(last["critic/loss"]) > 0


def test_counts_of_an_epoch_and_of_the_run_have_names_of_their_own(
    host_loop: Loop, spoilt: Callable[..., None], folder: Path
) -> None:
    """The program counts both by epoch."""
    resets = "nonfinite/env_resets"
    skipped = "nonfinite/skipped_updates"
    spoilt(
        {resets: [0, 0, 0, 2], skipped: [0, 0, 0, 1]}, {resets: [0, 1, 0, 0], skipped: [3, 0, 0, 0]}
    )
    host_loop(env_steps=2 * STEPS)
    spoilt({resets: [0, 0, 0, 5], skipped: [0, 0, 0, 4]})
    found = host_loop(env_steps=3 * STEPS)
    assert found["nonfinite"] == {"env_resets": 8, "skipped_updates": 8, "eval_episodes": 0}
    rows = [row for row in read_metrics(folder / "metrics.csv") if row["seed"] == "3"]
    assert [float(row[resets]) for row in rows] == [2, 0, 5]
    assert [float(row[f"{resets}_total"]) for row in rows] == [2, 2, 7]
    assert [float(row[skipped]) for row in rows] == [1, 0, 4]
    assert [float(row[f"{skipped}_total"]) for row in rows] == [1, 1, 5]


def test_evaluation_episodes_that_blow_up_are_told(
    evaluating: Callable[..., Loop], folder: Path
) -> None:
    lines = Lines()
    found = evaluating(broken=1, one_step=[1.0, 2.0])(lines, env_steps=2 * STEPS)
    assert all("6 evaluation episodes blew up" in line for line in lines.seen)
    assert found["eval"]["one_step"]["nonfinite_episodes"] == [0, 1, 2, 3]
    assert found["nonfinite"]["eval_episodes"] == 12
    rows = read_metrics(folder / "metrics.csv")
    assert [float(row["eval/nonfinite"]) for row in rows[:4]] == [0, 1, 2, 3]
