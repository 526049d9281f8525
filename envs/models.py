"""MuJoCo models as the installed gymnasium and dm_control packages ship them."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mujoco


def gym_model(filename: str) -> mujoco.MjModel:
    """Compiles a model of gymnasium's MuJoCo tasks, such as "reacher.xml"."""
    return _load("gymnasium", "gymnasium", Path("envs/mujoco/assets") / filename)


def dmc_model(filename: str) -> mujoco.MjModel:
    """Compiles a model of dm_control's suite, such as "cheetah.xml"."""
    return _load("dm_control", "dm-control", Path("suite") / filename)


def dmc_generated_model(domain: str, *args: Any) -> mujoco.MjModel:
    """Compiles a model that dm_control's suite writes itself, such as ("swimmer", 6).

    It is written by the domain's own module, so that this one imports dm_control, with all of
    its suite and its rendering.

    Args:
        domain: module of the suite.
        *args: of the `get_model_and_assets` there.
    """
    xml, assets = getattr(dmc_suite(), domain).get_model_and_assets(*args)
    with without_deprecation_notices():
        return mujoco.MjModel.from_xml_string(xml, assets)


def dmc_suite() -> Any:
    """Imports dm_control's suite; the import looks for a display, which nothing here needs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("dm_control.suite")


@contextlib.contextmanager
def without_deprecation_notices() -> Iterator[None]:
    """Drops MuJoCo's notices on deprecated XML in models that are not ours to change.

    MuJoCo would print each of them and append it to a log file in the working directory. Other
    warnings of the compiler become Python warnings.
    """

    def handle(message: str) -> None:
        if "deprecated" not in message:
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    previous = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(handle)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(previous)


def _load(package: str, distribution: str, path: Path) -> mujoco.MjModel:
    # The package is located without importing it: its import would pull in rendering.
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(
            f"The models of this task are part of {package}: run `pip install {distribution}`."
        )
    with without_deprecation_notices():
        return mujoco.MjModel.from_xml_path(str(Path(found.submodule_search_locations[0]) / path))
