"""Compiled programs in files, so that another machine with the same card need not compile them."""

import io
import os
import tarfile
from pathlib import Path

from fpmd_mjx.config import ConfigError
from fpmd_mjx.display import console
from fpmd_mjx.memory import human
from fpmd_mjx.train import compile_cache

PIECE = 15 * 2**20
"""Bytes of a file: below what many tools take as one."""


def folders() -> dict[str, Path]:
    """Where compilers keep what they made, by the name that it has in an archive."""
    home = Path.home()
    return {
        "xla": compile_cache(),
        "warp": Path(os.environ.get("WARP_CACHE_PATH", home / ".cache" / "warp")),
        "cuda": Path(os.environ.get("CUDA_CACHE_PATH", home / ".nv" / "ComputeCache")),
    }


def pack(path: Path) -> None:
    """Writes the caches to PATH.000, PATH.001, ..., replacing what an earlier call left there."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz", compresslevel=3) as tar:
        for name, folder in folders().items():
            if folder.is_dir():
                tar.add(folder, name)
    data = archive.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in _pieces(path):
        old.unlink()
    for i, begin in enumerate(range(0, len(data), PIECE)):
        path.with_name(f"{path.name}.{i:03}").write_bytes(data[begin : begin + PIECE])
    console.print(f"compile caches: {human(len(data))} in {path}.*", markup=False)


def unpack(path: Path) -> None:
    """Adds what `pack` wrote to the caches of this machine.

    Raises ConfigError if there is no such file, or if it is damaged.
    """
    pieces = _pieces(path)
    if not pieces:
        raise ConfigError(f"--cache {path} is not there: give the FILE of --keep-cache FILE.")
    archive = io.BytesIO(b"".join(piece.read_bytes() for piece in pieces))
    try:
        with tarfile.open(fileobj=archive, mode="r:gz") as tar:
            members = tar.getmembers()
            for name, folder in folders().items():
                folder.mkdir(parents=True, exist_ok=True)
                for member in members:
                    root, _, rest = member.name.partition("/")
                    if root == name and rest:
                        tar.extract(member.replace(name=rest), folder, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ConfigError(
            f"--cache {path} cannot be read ({error}): a piece of it is missing or damaged; leave "
            "--cache out."
        ) from error


def _pieces(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}.[0-9][0-9][0-9]"))
