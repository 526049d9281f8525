"""A run that was killed or stopped ends bit for bit where one that was not ends."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from fpmd_mjx import cli
from fpmd_mjx.report.records import read_metrics
from fpmd_mjx.run import train
from fpmd_mjx.run.checkpoint import CheckpointError, Checkpoints
from fpmd_mjx.run.display import Display
from fpmd_mjx.run.process import child_environment
from fpmd_mjx.run.signals import Interrupted

from ..conftest import EPOCHS, Run, Toy, host
from ..toy import TINY

STEPS = 40  # of an epoch
Loop = Callable[..., dict[str, Any]]


def same(a: Any, b: Any) -> bool:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(x.dtype == y.dtype and x.tobytes() == y.tobytes() for x, y in pairs)


def epochs_on_disk(folder: Path) -> list[int]:
    """Finished checkpoints: an unfinished one has another name."""
    folder = folder / "checkpoints"
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    return sorted(int(name) for name in names if name.isdigit())


def read_state(run: Run, folder: Path, epoch: int) -> tuple[Any, dict[str, Any]]:
    with Checkpoints(folder / "checkpoints", keep_last=2, keep_best=True, replay=True) as saved:
        state, meta = saved.restore(run.program.traced_init.out_info, epoch)
    return host(state), meta


def metrics(folder: Path) -> list[dict[str, str]]:
    rows = read_metrics(folder / "metrics.csv")
    return [{name: x for name, x in row.items() if name != "train_seconds"} for row in rows]


# ------------------------------------------------------------------- the command line, killed


@dataclass
class Stage:
    """One process of a run: how it ended, and the newest checkpoint it left."""

    code: int
    stderr: str
    latest: int


@dataclass
class Story:
    """A run in three processes: killed, stopped, and continued to its end."""

    folder: Path
    killed: Stage
    stopped: Stage
    ended: Stage


@pytest.fixture(scope="module")
def story(cartpole: Run, tmp_path_factory: pytest.TempPathFactory) -> Story:
    runs = tmp_path_factory.mktemp("story")
    folder = dataclasses.replace(cartpole.config, runs=str(runs)).folder
    cache = str(jax.config.jax_compilation_cache_dir)  # type: ignore[attr-defined]
    variables = child_environment(JAX_COMPILATION_CACHE_DIR=cache)

    def process(epochs: int, signum: int | None = None, after: int = 0) -> Stage:
        """The command, signalled as soon as the checkpoint of epoch `after` is on disk."""
        command = [sys.executable, "-m", "fpmd_mjx.cli", "train", *TINY, *cartpole.overrides]
        command += [f"runs={runs}", f"env_steps={epochs * STEPS}"]
        with subprocess.Popen(
            command, cwd=runs, env=variables, stderr=subprocess.PIPE, text=True
        ) as child:
            if signum is not None:
                deadline = time.monotonic() + 300
                while max(epochs_on_disk(folder), default=0) < after:
                    assert child.poll() is None, child.communicate()[1]
                    assert time.monotonic() < deadline
                    time.sleep(0.001)
                child.send_signal(signum)
            stderr = child.communicate(timeout=300)[1]
        return Stage(child.returncode, stderr, max(epochs_on_disk(folder)))

    killed = process(EPOCHS - 2, signal.SIGKILL, after=2)
    stopped = process(EPOCHS, signal.SIGTERM, after=killed.latest + 1)
    return Story(folder, killed, stopped, process(EPOCHS))


def test_the_process_was_killed_in_the_middle(story: Story) -> None:
    assert story.killed.code == -signal.SIGKILL
    assert 2 <= story.killed.latest < EPOCHS - 2


def test_sigterm_ends_the_epoch_saves_and_says_how_to_continue(story: Story) -> None:
    stopped = story.stopped
    assert stopped.code == 128 + signal.SIGTERM
    assert story.killed.latest < stopped.latest < EPOCHS
    last = stopped.stderr.strip().splitlines()[-1]
    assert last.startswith(f"fpmd: stopped after {stopped.latest * STEPS} of {EPOCHS * STEPS} env")
    assert last.endswith(f"the same command continues in {story.folder}")


def test_the_resumed_run_ends_where_the_uninterrupted_one_does(story: Story, cartpole: Run) -> None:
    assert story.ended.code == 0
    assert story.ended.latest == EPOCHS
    ours, our_meta = read_state(cartpole, story.folder, EPOCHS)
    theirs, their_meta = read_state(cartpole, cartpole.folder, EPOCHS)
    assert same(ours, theirs)
    for name in ("epoch", "evaluations", "nonfinite"):
        assert our_meta[name] == their_meta[name]
    assert metrics(story.folder) == metrics(cartpole.folder)
    assert len(metrics(story.folder)) == EPOCHS * cartpole.config.seeds


def test_the_comparison_sees_a_difference(cartpole: Run) -> None:
    last, _ = read_state(cartpole, cartpole.folder, EPOCHS)
    before, _ = read_state(cartpole, cartpole.folder, EPOCHS - 1)
    for part in ("learner", "replay", "env", "key", "vector_steps", "updates"):
        assert not same(getattr(last, part), getattr(before, part))
    assert int(last.updates.low) > 0
    assert int(last.vector_steps.low) > cartpole.config.replay_rows  # the ring has gone round


def test_another_config_is_refused_before_anything_is_compiled(
    cartpole: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train, "compile_program", lambda program: pytest.fail("compiles"))
    before = (cartpole.folder / "config.yaml").read_bytes()
    overrides = [*TINY, *cartpole.overrides, f"runs={cartpole.config.runs}", "learn.batch=16"]
    assert cli.main(["train", *overrides]) == 2
    assert capsys.readouterr().err == (
        f"fpmd: learn.batch=16 does not continue the run in {cartpole.folder}, which has "
        "learn.batch=8: choose another name=..., or delete that folder.\n"
    )
    assert (cartpole.folder / "config.yaml").read_bytes() == before


# ------------------------------------------------------------- the host loop, in this process


class Signal(Display):
    """Sends this process a signal during an epoch."""

    def __init__(self, signum: int, epoch: int) -> None:
        super().__init__()
        self.signum, self.left = signum, epoch

    def update(self, done: int, text: str) -> None:
        super().update(done, text)
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.signum)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_run_and_the_same_call_continues_it(
    host_loop: Loop, plain: Toy, tmp_path: Path, signum: int
) -> None:
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="stopped after 320 of 640 env steps") as stop:
        host_loop(Signal(signum, epoch=2), env_steps=640)
    assert stop.value.signum == signum
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    [folder] = [path.parent for path in tmp_path.rglob("checkpoints")]
    assert not (folder / "summary.json").exists()
    assert epochs_on_disk(folder)[-1] == 2
    summary = host_loop(env_steps=640)
    assert summary["env_steps"] == 640
    state, _ = plain.run(4)
    with Checkpoints(folder / "checkpoints", keep_last=2, keep_best=True, replay=True) as saved:
        assert same(host(saved.restore(state)[0]), host(state))


def test_a_signal_in_the_last_epoch_stops_a_suite_but_not_the_run(
    host_loop: Loop, tmp_path: Path
) -> None:
    with pytest.raises(Interrupted, match="is complete") as stop:
        host_loop(Signal(signal.SIGTERM, epoch=2), env_steps=320)
    assert stop.value.signum == signal.SIGTERM
    [summary] = tmp_path.rglob("summary.json")
    assert epochs_on_disk(summary.parent)[-1] == 2


def test_env_steps_may_be_raised_and_lowered(host_loop: Loop, tmp_path: Path) -> None:
    first = host_loop(env_steps=320)
    further = host_loop(env_steps=640)
    assert (first["env_steps"], further["env_steps"]) == (320, 640)
    assert further["updates"] > first["updates"]
    # Lowered: nothing is left to train, and what is scored is the policy there is.
    same_again = host_loop(env_steps=320)
    assert same_again["env_steps"] == 640
    assert same_again["eval"] == further["eval"]
    [folder] = [path.parent for path in tmp_path.rglob("metrics.csv")]
    assert [row["epoch"] for row in metrics(folder) if row["seed"] == "0"] == ["1", "2", "3", "4"]


def test_the_end_of_a_run_is_evaluated_wherever_it_is(
    host_loop: Loop, plain: Toy, tmp_path: Path
) -> None:
    every = {"eval": dataclasses.replace(plain.config.eval, every=5)}
    with pytest.raises(Interrupted):
        host_loop(Signal(signal.SIGTERM, epoch=2), env_steps=640, **every)
    summary = host_loop(env_steps=320, **every)  # 2 epochs, none of which was evaluated
    assert summary["eval"]["one_step"]["env_steps"] == summary["env_steps"] == 320


def test_a_resumed_run_takes_the_memory_of_one_state(
    host_loop: Loop, plain: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    host_loop(env_steps=320)
    restore = Checkpoints.restore

    def checked(self: Checkpoints, template: Any, epoch: int | None = None) -> Any:
        assert not [x for x in jax.tree.leaves(template) if isinstance(x, jax.Array)]
        return restore(self, template, epoch)

    monkeypatch.setattr(Checkpoints, "restore", checked)
    assert host_loop(env_steps=480)["env_steps"] == 480


def test_without_its_replay_a_run_refills_it_before_it_learns(
    host_loop: Loop, plain: Toy, tmp_path: Path
) -> None:
    small = {"checkpoint": dataclasses.replace(plain.config.checkpoint, replay=False)}
    first = host_loop(env_steps=320, **small)
    refilled = host_loop(env_steps=480, **small)  # 10 of the 11 rows that learning needs
    assert refilled["updates"] == first["updates"] > 0
    further = host_loop(env_steps=640, **small)  # refills once more
    assert further["updates"] == first["updates"]
    more = host_loop(env_steps=960, **small)
    assert more["updates"] == first["updates"] + 10 * plain.config.learn.updates
    assert not list(tmp_path.rglob("checkpoints/*/replay"))
    with pytest.raises(CheckpointError, match="replay"):
        host_loop(env_steps=1120)


def test_logged_metrics_are_those_of_the_program(
    host_loop: Loop, plain: Toy, tmp_path: Path
) -> None:
    host_loop(env_steps=480, eval=dataclasses.replace(plain.config.eval, every=2))
    _, seen = plain.run(3)
    [path] = tmp_path.rglob("metrics.csv")
    rows = read_metrics(path)
    assert [(row["epoch"], row["seed"]) for row in rows] == [
        (str(epoch), str(seed)) for epoch in (1, 2, 3) for seed in range(plain.config.seeds)
    ]
    for row in rows:
        expected = seen[int(row["epoch"]) - 1]
        for name, x in expected.items():
            # An empty cell: there was nothing to average.
            np.testing.assert_equal(np.float32(row[name] or "nan"), x[int(row["seed"])])
        assert int(row["env_steps"]) == 160 * int(row["epoch"])
        assert (row["eval/one_step"] == "") == (row["epoch"] == "1")
