"""The originals on a machine without OpenGL."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT_EGL = """
import ctypes

class Missing(ctypes.CDLL):
    def __init__(self, name, *args, **kwargs):
        if "EGL" in str(name):
            raise OSError(f"{name}: cannot open shared object file")
        super().__init__(name, *args, **kwargs)

ctypes.CDLL = ctypes.cdll._dlltype = Missing

import numpy as np
import envs
from envs.originals import NoOpenGLError, opengl_physics

real = envs.make_real("dmc/pendulum_swingup")
real.reset(seed=0)
print("scored", real.step(np.zeros(1))[1])
for draw in (lambda: real.render(24, 0), lambda: opengl_physics(real.model)):
    try:
        draw()  # the second does not draw yet
    except NoOpenGLError as error:
        print("refused", error)
"""


DM_CONTROL_FIRST = """
from dm_control import suite
import envs
from envs.originals import NoOpenGLError

real = envs.make_real("dmc/pendulum_swingup")
real.reset(seed=0)
for _ in range(2):  # the second image of a renderer that does not start ends the process
    try:
        print("drawn", real.render(24, 0).shape)
    except NoOpenGLError as error:
        print("refused", error)
"""


def run(script: str, settings: dict[str, str]) -> list[str]:
    """What a script of a new process prints, without the settings of this one's renderer."""
    chosen = {"MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY", "PYOPENGL_PLATFORM"}
    environment = {key: value for key, value in os.environ.items() if key not in chosen}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**environment, **settings, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(("settings", "drawn"), [({}, False), ({"MUJOCO_GL": "egl"}, True)])
def test_dm_control_imported_before_us_draws_or_says_why_not(
    settings: dict[str, str], drawn: bool
) -> None:
    lines = run(DM_CONTROL_FIRST, settings)
    expected = "drawn (24, 24, 3)" if drawn else "refused dm_control draws no images here"
    assert len(lines) == 2
    for line in lines:
        assert line.startswith(expected)
        assert drawn or "import envs before dm_control" in line


# MuJoCo itself cannot be imported with MUJOCO_GL=egl and no EGL.
@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({}, "libegl1"),
        ({"MUJOCO_GL": "off"}, "MUJOCO_GL=off says so: unset it"),
        ({"DISPLAY": ":99"}, "libegl1"),  # where there is none
    ],
)
def test_states_are_scored_without_opengl_and_images_refused(
    settings: dict[str, str], remedy: str
) -> None:
    scored, *refused = run(WITHOUT_EGL, settings)
    assert scored.startswith("scored 0")
    assert refused
    for line in refused:
        assert "draws no images here" in line
        assert remedy in line
