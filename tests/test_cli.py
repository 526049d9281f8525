"""The command line: a mistake costs one line and no waiting."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import envs
from envs import playground
from envs.registry import cannot
from fpmd_mjx import cli
from fpmd_mjx.config import load as configs
from fpmd_mjx.config import rules
from fpmd_mjx.config.schema import ALGORITHMS, Config
from fpmd_mjx.run.process import child_environment

MISTAKES = [
    ["train", "task=dmc/cartpole_swingup2"],
    ["train", "algorithm=fpmd"],
    ["train", "preset=fast2"],
    ["train", "learn.batsh=8"],
    ["train", "learn.batch=many"],
    ["train", "learn.batch=0"],
    ["train", "warmup_steps=600000", "env_steps=500000"],
    ["train", "+foo=1"],
    ["train", "~task"],
    ["train", "hydra.x=1"],
    ["train", "learn.batch"],
    ["suite", "quik"],
    ["suite", "quick", "learn.batch=0"],
    ["eval", "nowhere", "--episodes", "0"],
    ["bench", "progam"],
    ["bench", "learn", "--rounds", "0"],
    ["bench", "learn", "--rounds", "3", "learn.batch=8,0"],
    ["bench", "target"],
    ["bench", "peers-return"],
    ["bench", "peers-speed", "seeds=2"],
]

SCRIPT = """
import contextlib, io, json, sys
from fpmd_mjx.cli import main
found = []
for argv in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(argv)
    found.append([code, out.getvalue(), err.getvalue(), "jax" in sys.modules])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def answers() -> dict[str, list]:
    """Code, stdout, stderr and whether JAX was imported, by command; all in one process."""
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(MISTAKES)],
        env=child_environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = json.loads(result.stdout)
    return {" ".join(argv): answer for argv, answer in zip(MISTAKES, found, strict=True)}


@pytest.mark.parametrize("command", [" ".join(argv) for argv in MISTAKES])
def test_a_mistake_is_one_line_and_code_2_before_jax_is_imported(
    answers: dict[str, list], command: str
) -> None:
    code, out, err, imported = answers[command]
    assert code == 2
    assert out == ""
    assert err.startswith("fpmd: ")
    assert err.count("\n") == 1
    assert not imported


@pytest.mark.parametrize("override", ["+foo=1", "~task", "hydra.x=1"])
def test_hydras_own_syntax_is_refused(answers: dict[str, list], override: str) -> None:
    assert answers[f"train {override}"][2] == (
        f"fpmd: '{override}' is not an override: write key=value.\n"
    )


def test_the_exit_code_is_that_of_the_process() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "fpmd_mjx.cli", "train", "learn.batch=0"],
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 2
    assert result.stderr.startswith("fpmd: learn.batch=0 is not possible")


def test_a_mistake_that_only_the_run_can_show(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["eval", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"fpmd: {tmp_path} is not a run folder")
    assert cli.main(["eval", str(tmp_path), "--mode", "fast"]) == 2
    assert capsys.readouterr().err.startswith("fpmd: mode=fast is unknown")


@pytest.mark.parametrize(
    ("command", "unbuffered", "merged"),
    [
        ("tasks", "", False),
        ("report benchmarks/cpu", "", False),
        ("report benchmarks/cpu", "1", True),
        ("bench --help", "", False),
        ("bench --help", "1", False),
        ("train --help", "", True),
    ],
)
def test_a_closed_pipe_ends_the_command_silently(
    command: str, unbuffered: str, merged: bool
) -> None:
    """What `| head` does, and `2>&1 | head`: the interpreter's own last words count."""
    with subprocess.Popen(
        [sys.executable, "-m", "fpmd_mjx.cli", *command.split()],
        env=child_environment(PYTHONUNBUFFERED=unbuffered),
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if merged else subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()  # long before anything is written
        said = b"" if process.stderr is None else process.stderr.read()
        assert process.wait(timeout=120) == 141
    # Warp's library itself tells of a missing driver.
    assert [line for line in said.splitlines() if not line.startswith(b"Warp ")] == []


def test_a_command_that_is_read_to_its_end_is_not_a_closed_pipe() -> None:
    command = [sys.executable, "-m", "fpmd_mjx.cli", "report", "benchmarks/cpu"]
    where = {"env": child_environment(), "cwd": Path(__file__).parents[1]}
    done = subprocess.run(command, **where, capture_output=True, check=True, timeout=120)  # type: ignore[call-overload]
    assert b"| dmc/cheetah_run |" in done.stdout


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["eval", "runs/x", "--epoch", "last"], "--epoch=last is not possible: give latest, best"),
        (["eval", "runs/x", "--epoch", "0"], "--epoch=0 is not possible: give latest, best"),
        (["render", "runs/x", "--epoch", "-1"], "--epoch=-1 is not possible: give latest, best"),
        (["eval", "runs/x", "--seed", "-1"], "--seed=-1 is not possible: give a whole number"),
        (["render", "runs/x", "--seed", "4294967296"], "--seed=4294967296 is not possible"),
    ],
)
def test_which_policy_plays_in_which_episodes_is_checked_first(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 2
    assert message in capsys.readouterr().err


def test_epochs_are_words_or_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr("fpmd_mjx.run.score.score", lambda *args: seen.append(args[-1]))
    for epoch in ([], ["--epoch", "best"], ["--epoch", "latest"], ["--epoch", "12"]):
        assert cli.main(["eval", "runs/x", *epoch]) == 0
    assert seen == ["latest", "best", "latest", 12]


def help_of(*command: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", HELP, *command, "--help"],
        env=child_environment(COLUMNS="100"),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert result.stderr == "False\n", "help imports JAX"
    return result.stdout


HELP = """
import sys
from fpmd_mjx.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    print("jax" in sys.modules, file=sys.stderr)
    sys.exit(end.code)
"""


def test_help_of_train_lists_presets_and_every_setting() -> None:
    shown = help_of("train")
    for preset in configs.choices("preset"):
        assert re.search(rf"^  {preset} +[A-Z]", shown, re.M), preset
    for algorithm, kind in ALGORITHMS.items():
        config = Config(algorithm=kind(name=algorithm))
        known = dict(rules.settings(config))
        assert len(known) > 60
        for key in known:
            lines = [line for line in shown.splitlines() if line.split()[:1] == [key]]
            assert lines, key
            default = rules.value(config, key)
            if isinstance(default, int | float) and not isinstance(default, bool):
                assert default in [float(line.split()[1]) for line in lines], lines
    assert re.search(r"^  eval\.every +1 +epochs$", shown, re.M)
    assert re.search(r"^  critic\.hidden +\[256,256,256\]$", shown, re.M)
    assert max(map(len, shown.partition("settings (")[0].splitlines())) <= 100
    assert "fpmd train task=dmc/cheetah_run" in shown


@pytest.mark.parametrize(
    "command",
    ["eval", "render", "suite", "tasks", "bench", "bench campaign", "report"],
)
def test_every_command_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([*command.split(), "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert f"\n  fpmd {command} " in shown.partition("examples:")[2]


@pytest.mark.parametrize(
    "argv", [[], ["fly"], ["train", "--fast"], ["eval"], ["eval", "a", "b"], ["bench", "--fast"]]
)
def test_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 2
    assert "usage: fpmd" in capsys.readouterr().err


def test_tasks_lists_them_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tasks"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    columns = ["task", "obs", "action", "steps", "control", "backends", "parity"]
    assert header.split() == columns
    end = lines.index("")
    lines, notes = lines[:end], lines[end:]
    found = {line.split()[0]: line.split()[1:] for line in lines}
    assert sorted(found) == envs.tasks()
    assert found["dmc/cartpole_swingup"] == ["5", "1", "1000", "10", "ms", "jax/warp", "exact"]
    assert found["dmc/dog_walk"][5] == "warp"
    assert [name for name in cannot() if any(note.startswith(f"{name}: ") for note in notes)] == [
        *cannot()
    ]
    assert set(playground.names()) == set(notes[-1].partition(": ")[2].split(", "))


def test_every_task_has_a_config_and_every_config_a_task() -> None:
    assert configs.choices("task") == envs.tasks()
    for name in envs.tasks():
        assert configs.load([f"task={name}"]).task.name == name
