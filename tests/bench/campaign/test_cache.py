"""Compile caches that travel."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fpmd_mjx.bench.campaign import cache
from fpmd_mjx.config import ConfigError

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


def test_damage_is_told(use: Use, tmp_path: Path) -> None:
    use(tmp_path)
    (tmp_path / "xla").mkdir()
    (tmp_path / "xla/a").write_bytes(bytes(range(256)))
    cache.pack(tmp_path / "keep")
    piece = tmp_path / "keep.000"
    piece.write_bytes(piece.read_bytes()[:40])
    with pytest.raises(ConfigError, match="a piece of it is missing or damaged"):
        cache.unpack(tmp_path / "keep")
    with pytest.raises(ConfigError, match="is not there"):
        cache.unpack(tmp_path / "nothing")
