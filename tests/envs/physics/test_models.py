"""Models that are compiled in several threads at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import mujoco

from envs.physics.models import without_deprecation_notices


def test_notices_are_dropped_in_several_threads() -> None:
    before = mujoco.get_mju_user_warning()

    def inside(delay: float) -> None:
        time.sleep(delay)
        with without_deprecation_notices():
            time.sleep(0.1)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(inside, (0.0, 0.05)))
    assert mujoco.get_mju_user_warning() is before
