"""A process of a benchmark, in this one and with a toy."""

import pytest

import fpmd_mjx.program
from fpmd_mjx.program import Program
from fpmd_mjx.run import compile as compiling

from ..conftest import Toy


@pytest.fixture
def toy(plain: Toy, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """What a process builds and compiles from any config."""
    monkeypatch.setattr(
        fpmd_mjx.program,
        "make_program",
        lambda config: Program(config, plain.program.algorithm, plain.program.vector),
    )
    monkeypatch.setattr(compiling, "compile_program", lambda program: plain.compiled)
    monkeypatch.setattr(compiling, "use_compile_cache", lambda: None)
    return plain
