"""The fixtures that run a test on many tasks."""

from __future__ import annotations

import pytest

from envs.devtools import parity

from .harness import SAMPLE, Task, load, on_c


@pytest.fixture(params=parity.comparable())
def task_on_c(request: pytest.FixtureRequest) -> Task:
    """Every task in turn, on C MuJoCo."""
    return on_c(request.param)


@pytest.fixture(params=SAMPLE)
def sampled_task(request: pytest.FixtureRequest) -> Task:
    """The sample in turn, on MJX."""
    return load(request.param)
