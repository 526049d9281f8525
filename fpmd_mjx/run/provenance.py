"""The provenance of a result."""

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax


def provenance() -> dict[str, Any]:
    """Device, versions and commit of this process."""
    return {"device": device(), "versions": versions(), "commit": commit()}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    names = [
        "fpmd-mjx",
        "jax",
        "jaxlib",
        "flax",
        "optax",
        "mujoco",
        "mujoco-mjx",
        "dm-control",
        "gymnasium",
        "warp-lang",
        "playground",
        "brax",
        "sbx-rl",
        "stable-baselines3",
    ]
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit() -> str | None:
    """Returns the commit of the checkout that runs, with `+` if tracked files were changed.

    Outside of a git repository it is the value of FPMD_COMMIT, or None.
    """
    try:
        # A repository that does not track this file is another project's.
        _git("ls-files", "--error-unmatch", Path(__file__).name)
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "-uno")
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("FPMD_COMMIT") or None
    return head + ("+" if changed else "")


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def device() -> str:
    """The accelerator's name, or the architecture and number of cores of the CPU."""
    kind = jax.local_devices()[0].device_kind
    return f"{platform.machine()} CPU, {os.cpu_count()} cores" if kind == "cpu" else kind
