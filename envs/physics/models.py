"""MuJoCo models as the installed gymnasium and dm_control packages ship them."""

from __future__ import annotations

import contextlib
import importlib.util
import threading
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
        edit: makes the suite's own changes before the model is compiled.
    """
    return _load("dmc", "dm_control", "dm-control", Path("suite") / filename, edit)


_SPECS: dict[int, mujoco.MjSpec] = {}
"""The specs of the models compiled here, by MuJoCo's signature of their structure."""


def spec_of(model: mujoco.MjModel) -> mujoco.MjSpec | None:
    """Returns the spec of `model`, or of a model of the same structure. None if neither was
    compiled here.

    It lacks numbers that were changed in the model after its compilation.
    """
    return _SPECS.get(int(model.signature))


def sensor_indices(model: mujoco.MjModel, *names: str) -> np.ndarray:
    """Returns the indices in `sensordata` of the named sensors, in that order."""
    sensors = [model.sensor(name) for name in names]
    return np.concatenate([sensor.adr[0] + np.arange(sensor.dim[0]) for sensor in sensors])


_handling = threading.RLock()


@contextlib.contextmanager
def without_deprecation_notices() -> Iterator[None]:
    """Drops MuJoCo's notices on deprecated XML in the models of other packages, for one thread at a
    time.

    MuJoCo prints each of them and appends it to a log file in the working directory, or gives a
    Python warning for an `MjSpec`. Other warnings of the compiler become Python warnings.
    """

    def handle(message: str) -> None:
        if "deprecated" not in message:
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    with _handling:
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
    # The package is located without an import, which would import rendering.
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
