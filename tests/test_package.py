"""What the import of the trainer checks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in `folder`, which it searches before our packages."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("foreign", ["envs/__init__.py", "envs.py"])
def test_another_package_of_the_name_envs_is_refused(tmp_path: Path, foreign: str) -> None:
    path = tmp_path / foreign
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    done = command(tmp_path, "-m", "fpmd_mjx.cli", "--help")
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert str(path) in last
    assert str(ROOT / "envs") in last
    assert "rename" in last
    assert "pip uninstall envs" in last


def test_a_folder_of_that_name_that_is_no_package_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "envs").mkdir()
    done = command(tmp_path, "-c", "import fpmd_mjx, sys; print('jax' in sys.modules)")
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
    done = command(tmp_path, "-m", "fpmd_mjx.cli", "--help")
    assert done.returncode == 0, done.stderr
