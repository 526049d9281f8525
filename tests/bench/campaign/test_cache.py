"""Compile caches that travel."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fpmd_mjx.bench.campaign import cache
from fpmd_mjx.config.schema import ConfigError

Use = Callable[[Path], None]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Makes the folders of a machine those of this one."""

    def machine(folder: Path) -> None:
        names = ("xla", "warp", "cuda")
        monkeypatch.setattr(cache, "folders", lambda: {name: folder / name for name in names})

    return machine


def test_caches_are_there_on_the_other_machine(
    use: Use, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "PIECE", 1000)
    here, there = tmp_path / "here", tmp_path / "there"
    use(here)
    noise = np.random.default_rng(0).bytes(5000)  # which cannot be compressed
    contents = {"xla/jit_a-1": noise, "warp/1.18/x.cubin": b"y", "xla/b": b"z"}
    for name, content in contents.items():
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes(content)
    (tmp_path / "keep.007").write_bytes(b"of an earlier call")
    cache.pack(tmp_path / "keep")
    pieces = sorted(tmp_path.glob("keep.*"))
    assert len(pieces) == 6
    assert all(piece.stat().st_size <= 1000 for piece in pieces)

    use(there)
    (there / "xla").mkdir(parents=True)
    (there / "xla/own").write_bytes(b"stays")
    cache.unpack(tmp_path / "keep")
    for name, content in contents.items():
        assert (there / name).read_bytes() == content
    assert (there / "xla/own").read_bytes() == b"stays"


def test_what_was_compiled_last_is_kept_where_not_all_fits(
    use: Use, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "MOST", 400_000)
    use(tmp_path / "here")
    (tmp_path / "here/xla").mkdir(parents=True)
    for age, name in enumerate(("newest", "middle", "oldest")):
        file = tmp_path / "here/xla" / name
        file.write_bytes(np.random.default_rng(age).bytes(150_000))
        os.utime(file, (1e9 - age, 1e9 - age))
    cache.pack(tmp_path / "keep")
    use(tmp_path / "there")
    cache.unpack(tmp_path / "keep")
    assert {path.name for path in (tmp_path / "there/xla").iterdir()} == {"newest", "middle"}


def test_what_is_damaged_is_told_and_the_rest_is_used(
    use: Use, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cache, "PIECE", 2000)
    use(tmp_path / "here")
    (tmp_path / "here/xla").mkdir(parents=True)
    for age in range(3):
        file = tmp_path / f"here/xla/{age}"
        file.write_bytes(np.random.default_rng(age).bytes(1500))
        os.utime(file, (1e9 - age, 1e9 - age))
    cache.pack(tmp_path / "keep")
    (tmp_path / "keep.002").unlink()
    use(tmp_path / "there")
    cache.unpack(tmp_path / "keep")
    assert "is damaged, or a piece of it is missing" in capsys.readouterr().err
    assert (tmp_path / "there/xla/0").read_bytes() == (tmp_path / "here/xla/0").read_bytes()
    with pytest.raises(ConfigError, match="is not there"):
        cache.unpack(tmp_path / "nothing")
