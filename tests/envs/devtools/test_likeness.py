"""Which picture the comparison of the two renderers writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from envs.devtools import likeness


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        ([], ["docs/pixels.png"]),
        (["dmc/cheetah_run"], []),
        (["dmc/cheetah_run", "--sheet", "cheetah.png"], ["cheetah.png"]),
        (["--sheet", "all.png"], ["all.png"]),
    ],
)
def test_the_picture_of_the_page_is_that_of_all_tasks(
    arguments: list[str], written: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.zeros((1, 2, 2, 3), np.uint8)
    monkeypatch.setattr(likeness, "compare", lambda name: likeness.Pair(images, images))
    monkeypatch.chdir(tmp_path)
    Path("docs").mkdir()
    likeness.main(arguments)
    assert [str(path) for path in Path().rglob("*.png")] == written
