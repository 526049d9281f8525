"""MuJoCo models as the installed gymnasium and dm_control packages ship them."""

from __future__ import annotations

import contextlib
import importlib.util
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import mujoco
import numpy as np

from .contacts import exclude_impossible


def gym_model(filename: str) -> mujoco.MjModel:
    """Compiles a model of gymnasium's MuJoCo tasks, such as "reacher.xml", without the contacts
    that can never happen."""
    return _load("gym", "gymnasium", "gymnasium", Path("envs/mujoco/assets") / filename)


def dmc_model(filename: str, edit: Callable[[mujoco.MjSpec], None] | None = None) -> mujoco.MjModel:
    """Compiles a model of dm_control's suite, without the contacts that can never happen.

    Args:
        filename: such as "cheetah.xml".
        edit: makes the changes that the suite makes in Python before it compiles the model.
    """
    return _load("dmc", "dm_control", "dm-control", Path("suite") / filename, edit)


_SPECS: dict[int, mujoco.MjSpec] = {}
"""What the models here were compiled from, by MuJoCo's signature of their structure."""


def spec_of(model: mujoco.MjModel) -> mujoco.MjSpec | None:
    """Returns what `model`, or a model of the same structure, was compiled from; None if nothing
    here has compiled one.

    Numbers that were changed in the model since are not in it.
    """
    return _SPECS.get(int(model.signature))


def sensor_indices(model: mujoco.MjModel, *names: str) -> np.ndarray:
    """Returns where in `sensordata` the values of the named sensors are, in that order."""
    sensors = [model.sensor(name) for name in names]
    return np.concatenate([sensor.adr[0] + np.arange(sensor.dim[0]) for sensor in sensors])


@contextlib.contextmanager
def without_deprecation_notices() -> Iterator[None]:
    """Drops MuJoCo's notices on deprecated XML in models that are not ours to change.

    MuJoCo would print each of them and append it to a log file in the working directory, or warn
    in Python of those in an `MjSpec`. Other warnings of the compiler become Python warnings.
    """

    def handle(message: str) -> None:
        if "deprecated" not in message:
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    previous = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(handle)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*deprecated.*", UserWarning)
            yield
    finally:
        mujoco.set_mju_user_warning(previous)


def _load(
    family: str,
    package: str,
    distribution: str,
    path: Path,
    edit: Callable[[mujoco.MjSpec], None] | None = None,
) -> mujoco.MjModel:
    # The package is located without importing it: its import would pull in rendering.
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(
            f"The models of this task are part of {package}: run `pip install {distribution}`."
        )
    with without_deprecation_notices():
        spec = mujoco.MjSpec.from_file(str(Path(found.submodule_search_locations[0]) / path))
        if edit is not None:
            edit(spec)
        exclude_impossible(spec, f"{family}/{path.name}")
        model = spec.compile()
        _SPECS[int(model.signature)] = spec
        return model
