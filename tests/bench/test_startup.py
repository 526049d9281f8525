"""What the processes of `startup` and `memory` do, in this one and with a toy."""

from collections.abc import Callable, Generator
from typing import Any

import pytest

from fpmd_mjx.bench import fresh, startup
from fpmd_mjx.bench.plan import Cell
from fpmd_mjx.config import load as configs
from fpmd_mjx.run import memory

from ..conftest import Toy


def test_a_start_tells_when_it_could_train_and_what_it_held(toy: Toy) -> None:
    ready, held = startup.start(configs.to_yaml(toy.config))
    assert ready == {"compile_seconds": toy.compiled.seconds}
    assert held["plan"] == memory.plan(toy.program)
    state = memory.size(toy.program.traced_init.out_info)
    assert held["program"] - held["temporary"] == pytest.approx(state, rel=0.02)
    assert held["temporary"] == toy.compiled.train_epoch.memory_analysis().temp_size_in_bytes
    assert held["peak"] is None  # a CPU does not tell


def test_memory_is_compared_with_the_plan() -> None:
    planned = {"replay": 60, "parameters": 20, "environments": 10, "batches": 4, "activations": 6}
    record: dict[str, Any] = {"plan": planned, "program": 120, "temporary": 30, "peak": None}
    found = startup.memory_metrics(record)
    assert found == {
        "memory.plan_bytes": 100,
        "memory.program_bytes": 120,
        "memory.program_to_plan": 1.2,
        "memory.plan_temporary_bytes": 10,
        "memory.temporary_bytes": 30,
    }
    more = startup.memory_metrics(record | {"peak": 150})
    assert more == found | {"memory.peak_bytes": 150, "memory.peak_to_plan": 1.5}


def test_the_second_start_finds_the_caches_of_the_first(
    plain: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, str]] = []

    def run(function: Callable[..., Any], text: str, env: dict[str, str]) -> Generator[Any]:
        assert function is startup.start
        assert configs.from_yaml(text) == plain.config
        seen.append(env)
        yield {"compile_seconds": 10.0 - len(seen)}
        raise AssertionError("nothing is asked of a start once it could train")

    monkeypatch.setattr(fresh, "run", run)
    found = startup.startup(Cell("", plain.config))
    assert found["startup.cold_compile_seconds"] == 9.0
    assert found["startup.cached_compile_seconds"] == 8.0
    assert found["startup.cold_seconds"] >= 0
    assert found["startup.cached_seconds"] >= 0
    assert seen[0] == seen[1]
