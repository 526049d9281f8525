"""Packs compiled programs into files, for another machine with the same card."""

import io
import os
import tarfile
import zlib
from pathlib import Path

from fpmd_mjx.config.schema import ConfigError
from fpmd_mjx.report.text import human
from fpmd_mjx.run.compile import compile_cache
from fpmd_mjx.run.display import console

PIECE = 15 * 2**20
MOST = 3 * PIECE
"""Most bytes of one file, and of all files: below the limits of many tools. The newest programs
come first."""


def folders() -> dict[str, Path]:
    """The folders of the compile caches, by their name in an archive."""
    home = Path.home()
    return {
        "xla": compile_cache(),
        "warp": Path(os.environ.get("WARP_CACHE_PATH", home / ".cache" / "warp")),
        "cuda": Path(os.environ.get("CUDA_CACHE_PATH", home / ".nv" / "ComputeCache")),
    }


def pack(path: Path) -> None:
    """Writes the caches to PATH.000, PATH.001, ..., in place of those of an earlier call."""
    archive, left_out = io.BytesIO(), 0
    found = [(name, file) for name, folder in folders().items() for file in folder.rglob("*")]
    newest = sorted((pair for pair in found if pair[1].is_file()), key=_age)
    with tarfile.open(fileobj=archive, mode="w:gz", compresslevel=3) as tar:
        for name, file in newest:
            if archive.tell() + file.stat().st_size > MOST:
                left_out += 1
            else:
                tar.add(file, f"{name}/{file.relative_to(folders()[name])}")
    data = archive.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    pieces = [data[begin : begin + PIECE] for begin in range(0, len(data), PIECE)]
    for i, piece in enumerate(pieces):
        part = path.with_name(f"{path.name}.part")
        part.write_bytes(piece)
        part.replace(path.with_name(f"{path.name}.{i:03}"))
    for old in _pieces(path)[len(pieces) :]:
        old.unlink()
    more = f", {left_out} older files left out" if left_out else ""
    console.print(
        f"compile caches: {human(len(data))} in {path}.*{more}", markup=False, soft_wrap=True
    )


def unpack(path: Path) -> None:
    """Adds the files that `pack` wrote to the caches of this machine, up to the first damage.

    Raises ConfigError if there is no such file.
    """
    pieces = _pieces(path)
    if not pieces:
        raise ConfigError(f"--cache {path} is not there: give the FILE of --keep-cache FILE.")
    archive = io.BytesIO(b"".join(piece.read_bytes() for piece in pieces))
    try:
        with tarfile.open(fileobj=archive, mode="r|gz") as tar:
            for member in tar:
                root, _, rest = member.name.partition("/")
                if rest and root in folders():
                    folders()[root].mkdir(parents=True, exist_ok=True)
                    tar.extract(member.replace(name=rest), folders()[root], filter="data")
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        console.print(
            f"--cache {path} is damaged, or a piece of it is missing ({error}): the programs after "
            "that point are compiled here.",
            markup=False,
            soft_wrap=True,
        )


def _age(pair: tuple[str, Path]) -> float:
    return -pair[1].stat().st_mtime


def _pieces(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}.[0-9][0-9][0-9]"))
