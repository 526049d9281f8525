"""run.sh, in a copy of its own folder with stand-ins for uv and Python: nothing is installed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Stands for the interpreter: answers run.sh's two version questions, echoes any other call.
PYTHON = """#!/bin/sh
case "$1 $2" in
  "-c import sys; sys.exit"*) exit "${FAKE_UNSUPPORTED:-0}" ;;
  "-c import sys; print"*) echo 3.12 ;;
  *) echo "ran: $*" ;;
esac
"""

# Stands for uv: `venv` makes an environment around the interpreter, `pip` logs what it was told.
UV = """#!/bin/sh
if [ "$1" = venv ]; then
  for last; do :; done
  mkdir -p "$last/bin" && cp "$(command -v python3.12)" "$last/bin/python"
else
  echo "$*" >> "$FAKE_LOG"
  exit "${FAKE_FAILURE:-0}"
fi
"""


class Clone:
    """A copy of the repository's scripts, run from another directory."""

    def __init__(self, folder: Path):
        self.root = folder / "a clone"  # a space, to catch missing quotes
        self.bin = folder / "bin"
        self.log = folder / "installs.log"
        (self.root / "configs/suite").mkdir(parents=True)
        self.bin.mkdir()
        shutil.copy(ROOT / "run.sh", self.root)
        for name in ("pyproject.toml", "constraints.txt"):
            (self.root / name).write_text("first\n")
        (self.root / "configs/suite/smoke.yaml").write_text(
            '# @package _global_\nname: smoke\ndescription: "one task, for minutes"\n'
        )
        self.stand_in("python3.12", PYTHON)
        self.stand_in("uv", UV)
        self.stand_in("nvidia-smi", "#!/bin/sh\nexit 1\n")

    def stand_in(self, name: str, script: str) -> None:
        (self.bin / name).write_text(script)
        (self.bin / name).chmod(0o755)

    def run(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("FPMD_")}
        path = f"{self.bin}:/usr/bin:/bin"
        return subprocess.run(
            [str(self.root / "run.sh"), *args],
            env=inherited | {"PATH": path, "FAKE_LOG": str(self.log)} | env,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    def installs(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


@pytest.mark.parametrize("args", [(), ("help",), ("--help",)])
def test_help_lists_commands_and_suites_and_installs_nothing(clone: Clone, args: tuple[str, ...]):
    result = clone.run(*args)
    assert result.returncode == 0
    assert "setup" in result.stdout
    assert "smoke              one task, for minutes\n" in result.stdout
    assert not (clone.root / ".venv").exists()


@pytest.mark.parametrize("name", ["unknown", "../suite/smoke", "smoke.yaml", ""])
def test_unknown_names_are_refused_before_installing(clone: Clone, name: str):
    result = clone.run(name)
    assert result.returncode == 2
    assert f"no command or suite named '{name}'" in result.stderr
    assert not (clone.root / ".venv").exists()


def test_passes_arguments_through(clone: Clone):
    run = "ran: -m fpmd_mjx.cli"
    assert clone.run("smoke", "seeds=2", "a b").stdout == f"{run} suite smoke seeds=2 a b\n"
    assert clone.run("fpmd", "train", "--help").stdout == f"{run} train --help\n"
    assert clone.run("gpu", "--minutes", "9").stdout == f"{run} bench campaign gpu --minutes 9\n"


def test_installs_when_what_is_to_be_installed_changed(clone: Clone):
    clone.run("setup")
    clone.run("setup")
    assert len(clone.installs()) == 1
    assert clone.installs()[0].endswith("-c constraints.txt -e .[dev]")
    for name in ("pyproject.toml", "constraints.txt"):
        (clone.root / name).write_text("second\n")
        clone.run("setup")
        clone.run("setup")
    assert len(clone.installs()) == 3
    clone.stand_in("nvidia-smi", "#!/bin/sh\necho 'GPU 0: a GPU'\n")
    clone.run("setup")
    assert clone.installs()[3].endswith("-e .[dev,gpu]")


def test_a_failed_install_is_repeated(clone: Clone):
    assert clone.run("fpmd", FAKE_FAILURE="1").returncode == 1
    assert clone.run("fpmd").stdout.startswith("ran:")
    assert len(clone.installs()) == 2


def test_runs_every_check_and_reports_the_failed_ones(clone: Clone):
    ruff_fails = 'case "$*" in *"ruff check"*) exit 1 ;; esac\necho "ran: $*" ;;'
    clone.stand_in("python3.12", PYTHON.replace('echo "ran: $*" ;;', ruff_fails))
    result = clone.run("test", "-k", "one")
    ran = [line.split()[2] for line in result.stdout.splitlines()]
    assert ran == ["ruff", "mypy", "pytest"]
    assert result.stdout.endswith("ran: -m pytest -k one\n")
    assert result.returncode == 1
    assert "failed: ruff check" in result.stderr


def test_says_which_python_it_needs(clone: Clone):
    result = clone.run("setup", FPMD_PYTHON="/nowhere/python")
    assert result.returncode == 1
    assert "FPMD_PYTHON=/nowhere/python is not a Python 3.11 or 3.12" in result.stderr
    for name in ("python3.11", "python3"):
        clone.stand_in(name, PYTHON)
    result = clone.run("setup", FAKE_UNSUPPORTED="1")
    assert result.returncode == 1
    assert "needs Python 3.12 or 3.11" in result.stderr
    assert clone.installs() == []
