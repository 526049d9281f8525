"""A function in another process: what crosses over, and how it ends."""

import importlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from jax._src import xla_bridge  # what it tells has no public name

from fpmd_mjx.bench import fresh
from fpmd_mjx.config.schema import ConfigError


def well(text: str, numbers: list[int]) -> Iterator[fresh.Record]:
    print("a library says hello on stdout")
    os.write(1, b"and so does one in C")
    yield {"pid": os.getpid(), "text": text, "numbers": numbers}
    yield {"cache": os.environ["JAX_COMPILATION_CACHE_DIR"]}


def refuses() -> Iterator[fresh.Record]:
    yield {"so far": 1}
    raise ConfigError("learn.batch=0 is not possible: give more.")


def fails() -> Iterator[fresh.Record]:
    yield {"so far": 1}
    raise ZeroDivisionError


def waits() -> Iterator[fresh.Record]:
    yield {"pid": os.getpid()}
    time.sleep(600)


def test_what_it_yields_comes_over() -> None:
    env = fresh.empty_caches(Path("somewhere"))
    first, second = fresh.run(well, "a b\n'c'", [1, 2], env=env)
    assert first.pop("pid") != os.getpid()
    assert first == {"text": "a b\n'c'", "numbers": [1, 2]}
    assert second == {"cache": "somewhere/xla"}


def test_a_process_has_empty_caches_or_those_of_the_user() -> None:
    with fresh.caches(empty=True) as env:
        folders = [Path(folder) for folder in env.values()]
        assert env.keys() == fresh.empty_caches(Path()).keys()
        assert folders[0].parent.is_dir()
        assert not any(folder.exists() for folder in folders)
    assert not folders[0].parent.exists()
    with fresh.caches(empty=False) as env:
        assert env == {}


def test_a_users_mistake_is_raised_here() -> None:
    found = fresh.run(refuses)
    assert next(found) == {"so far": 1}
    with pytest.raises(ConfigError, match=r"learn\.batch=0 is not possible: give more\."):
        next(found)


def test_a_failure_is_no_short_result() -> None:
    found = fresh.run(fails)
    next(found)
    with pytest.raises(RuntimeError, match="fails failed in its own process, status 1"):
        next(found)


def test_closing_ends_the_process() -> None:
    found = fresh.run(waits)
    pid = next(found)["pid"]
    start = time.monotonic()
    found.close()
    assert time.monotonic() - start < 60
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def parent() -> Iterator[fresh.Record]:
    """A process that has one of its own, and waits for it."""
    yield from fresh.run(waits)


def test_a_process_does_not_outlive_the_one_that_started_it() -> None:
    """Killed, it cannot end what it has started: a GPU would stay occupied."""
    found = fresh.run(parent)
    child = next(found)["pid"]
    found.close()  # kills the parent
    deadline = time.monotonic() + 60
    while Path(f"/proc/{child}").exists() and "zombie" not in _state(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return "zombie"


def interrupted() -> Iterator[fresh.Record]:
    os.kill(os.getpid(), signal.SIGINT)
    yield {"alive": True}


def test_a_terminals_interruption_is_left_to_the_one_that_reads() -> None:
    assert list(fresh.run(interrupted)) == [{"alive": True}]


def backend() -> Iterator[fresh.Record]:
    importlib.import_module("fpmd_mjx.bench.run")
    yield {"in use": xla_bridge.backends_are_initialized()}


def test_bench_leaves_the_device_to_its_processes() -> None:
    """A process that has looked at a GPU holds most of its memory."""
    assert list(fresh.run(backend)) == [{"in use": False}]
