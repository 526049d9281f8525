"""A process of a benchmark, in this one and with a toy."""

import pytest

import fpmd_mjx.program
from fpmd_mjx import train
from fpmd_mjx.program import Program

from ..conftest import Toy


@pytest.fixture
def toy(plain: Toy, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """What a process builds and compiles from any config."""
    monkeypatch.setattr(
        fpmd_mjx.program,
        "make_program",
        lambda config: Program(config, plain.program.agent, plain.program.vector),
    )
    monkeypatch.setattr(train, "compile_program", lambda program: plain.compiled)
    monkeypatch.setattr(train, "use_compile_cache", lambda: None)
    return plain
