"""Models that dm_control's suite edits in Python, and that `dmc_model` edits without it."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

import envs
from envs.physics.contacts import complete_models

# Where the model and its strings lie: dm_control hands over files by other names.
NAMES = ("_", "name", "npaths", "nbuffer", "mesh_pathadr", "skin_pathadr", "tex_pathadr")
# By `prepare_model`, where the model disables contacts.
PREPARED = ("geom_contype", "geom_conaffinity")


@pytest.mark.parametrize(
    "name",
    [
        "dmc/cartpole_three_poles",
        "dmc/cartpole_two_poles",
        "dmc/manipulator_bring_ball",
        "dmc/manipulator_bring_peg",
        "dmc/quadruped_fetch",
        "dmc/quadruped_run",
        "dmc/quadruped_walk",
        "dmc/stacker_stack_2",
        "dmc/stacker_stack_4",
    ],
)
def test_edited_model_is_the_originals(name: str) -> None:
    with complete_models():
        ported: mujoco.MjModel = envs.make(name).physics.model
    original = envs.make_real(name).model
    without = original.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_CONTACT
    names = NAMES + (PREPARED if without else ())
    compared = 0
    for field in dir(original):
        value = getattr(original, field)
        if isinstance(value, np.ndarray | int) and not field.startswith(names):
            np.testing.assert_array_equal(getattr(ported, field), value, err_msg=field)
            compared += 1
    assert compared > 400
    assert ported.stat.extent == original.stat.extent
    assert ported.opt.timestep == original.opt.timestep
    assert ported.opt.cone == original.opt.cone
