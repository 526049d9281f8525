"""swimmer: the model, which is written here anew."""

from __future__ import annotations

import numpy as np
import pytest

import envs

# By `prepare_model`.
SET_LATER = {"geom_contype", "geom_conaffinity"}


@pytest.mark.parametrize("links", [6, 15])
def test_model_is_what_dm_control_builds(links: int) -> None:
    name = f"dmc/swimmer_swimmer{links}"
    original = envs.make_real(name).model
    model = envs.make(name, iterations=None, ls_iterations=None).physics.model
    assert model.names == original.names
    for ours, theirs in ((model, original), (model.opt, original.opt)):
        for field in dir(theirs):
            expected = getattr(theirs, field)
            is_number = isinstance(expected, np.ndarray | int | float)
            if is_number and not field.startswith("_") and field not in SET_LATER:
                np.testing.assert_array_equal(getattr(ours, field), expected, err_msg=field)
