"""The fixture that runs a test on every task."""

from __future__ import annotations

import pytest

import envs

from .harness import Task, load


@pytest.fixture(params=envs.tasks())
def task(request: pytest.FixtureRequest) -> Task:
    """Every task in turn."""
    return load(request.param)
