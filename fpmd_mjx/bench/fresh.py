"""Runs functions in a new process, where nothing is imported, compiled or allocated yet.

    python -m fpmd_mjx.bench.fresh MODULE FUNCTION ARGUMENTS

calls MODULE.FUNCTION(*ARGUMENTS), where ARGUMENTS is a JSON list, and prints each record that it
yields as a line of JSON.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fpmd_mjx.config.schema import ConfigError
from fpmd_mjx.run.process import child_environment, collect_garbage_rarely, end_with_parent

Record = dict[str, Any]


def run(
    function: Callable[..., Iterator[Record]],
    *arguments: Any,
    env: Mapping[str, str] | None = None,
) -> Generator[Record]:
    """Yields the records of `function(*arguments)`, run in a new process, as they come.

    function: at the top level of a module. Arguments and records are passed as JSON. env: added to
    the environment. Closing the iterator ends the process. Raises ConfigError like the function,
    and RuntimeError if the process fails otherwise. The process writes to the same stderr.
    """
    command = [sys.executable, "-m", __name__, function.__module__, function.__name__]
    command.append(json.dumps(arguments))
    variables = child_environment(**(env or {}))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                record = json.loads(line)
                if "error" in record:
                    raise ConfigError(record["error"])
                yield record
            status = process.wait()
        finally:
            process.kill()
    if status:
        raise RuntimeError(f"{function.__name__} failed in its own process, status {status}")


def empty_caches(folder: Path) -> dict[str, str]:
    """Environment variables that put the compile caches of a process into `folder`."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "xla"),
        "WARP_CACHE_PATH": str(folder / "warp"),
        "CUDA_CACHE_PATH": str(folder / "cuda"),
    }


@contextmanager
def caches(empty: bool) -> Iterator[dict[str, str]]:
    """Environment variables for one process.

    empty: with empty compile caches, deleted at the end of the context, instead of the user's.
    """
    if not empty:
        yield {}
        return
    with TemporaryDirectory() as folder:
        yield empty_caches(Path(folder))


def _main(module: str, function: str, arguments: str) -> None:
    end_with_parent()
    collect_garbage_rarely()
    # Libraries print to stdout, those in C too. The pipe must carry records alone.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.stdout = sys.stderr
    # A terminal interrupts both processes. The parent ends this one and reports it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for record in getattr(importlib.import_module(module), function)(*json.loads(arguments)):
            print(json.dumps(record), file=out, flush=True)
    except ConfigError as error:
        print(json.dumps({"error": str(error)}), file=out, flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
