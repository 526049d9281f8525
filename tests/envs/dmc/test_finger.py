"""finger: how hard the hinge is to turn, which differs between the tasks."""

from __future__ import annotations

import numpy as np
import pytest

import envs


@pytest.mark.parametrize("task", ["spin", "turn_easy", "turn_hard"])
def test_damping_is_the_originals(task: str) -> None:
    real = envs.make_real(f"dmc/finger_{task}")
    # The original sets it when an episode begins.
    real.reset(seed=0)
    model = envs.make(f"dmc/finger_{task}").physics.model
    np.testing.assert_array_equal(model.dof_damping, real.model.dof_damping)
