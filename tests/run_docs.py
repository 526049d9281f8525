"""Runs every command and program of the documentation, at toy size, page by page.

    python -m tests.run_docs [PAGE ...]

Each page has a copy of the repository of its own, so that its commands find what those above them
made, and nothing that they write stays. Whatever is not run is listed with the reason. The exit
code is 1 if a command failed.
"""

import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from fpmd_mjx.bench.agent.yardstick import CHOSEN
from fpmd_mjx.bench.campaign.cells import REHEARSAL
from fpmd_mjx.bench.plan import PEERS, Peers, peers_of
from tests.pages import PAGES, ROOT, Command, Program, arguments, name, steps

SIZES = {
    "num_envs": "4",
    "env_steps": "64",
    "warmup_steps": "16",
    "epoch_steps": "32",
    "task.reset_pool": "4",
    "task.reset_refresh": "4",
    "actor.hidden": "[16]",
    "critic.hidden": "[16]",
    "algorithm.candidates": "2",
    "algorithm.policy_delay": "2",
    "learn.batch": "8",
    "learn.updates": "2",
    "learn.replay": "400",
    "eval.episodes": "1",
}
"""Settings of everything that trains or is measured, in place of a command's own."""

IMAGES = {"pixels.size": "20", "pixels.channels": "4", "pixels.trunk": "8"}
"""Those of the presets that end in `_pixels`, too."""

PEER_SIZES = {
    "peers-speed": {"peer_divisor": "128"},
    "peers-return": {"peer_divisor": "128", "target": "0"},  # a return that is reached at once
}
"""Those of benchmarks against peers, too."""

PEER_DEFAULTS = {
    "peers": {"task": "playground/CartpoleSwingup", "peer": "sac,ppo"},
    "sbx": {"peer": "sbx_sac"},
}
"""Those of benchmarks against peers where the command says nothing, by the peers' extra."""

MOST_VALUES = 2
"""Of a key with several values, such as task=a,b,c."""

PARITY = {"dmc/*": "dmc/pendulum_swingup", "gym/Ant-v5": "gym/InvertedPendulum-v5"}
"""Tasks that are measured in seconds, in place of those of a command."""

YARDSTICK_TASKS = ("dmc/cartpole_swingup", "dmc/reacher_hard")
"""Tasks of every yardstick."""

OF_OTHERS = {"pip": "installs packages", "tensorboard": "serves until it is interrupted"}
"""Why programs that are not of this project are not run."""

LIMIT = 1800
"""Seconds after which a command is ended."""

STAND_INS = {
    "fpmd": 'exec {python} -m fpmd_mjx.cli "$@"',
    "python": 'exec {python} "$@"',
    # run.sh finds an environment to install into, and installs nothing.
    "uv": 'test "$1" = pip || {{ mkdir -p .venv/bin && cp {bin}/python .venv/bin/python; }}',
}
"""Programs of the PATH of every command: they use the installed environment as it is."""


def toy(words: list[str]) -> list[str]:
    """The command at the size of a toy."""
    fpmd = arguments(words)
    if fpmd is None:
        return [*words, "tests/test_imports.py"] if words == ["./run.sh", "test"] else words
    match fpmd:
        case [_, "--help"]:
            return words
        case ["bench", "campaign", *_]:
            rehearse = [] if "--rehearse" in words else ["--rehearse"]
            return [*words, *rehearse, "--cell", "ceilings"]
        case ["bench", "agent", *_]:
            sizes = {key: value for key, value in SIZES.items() if key not in CHOSEN}
            tiny = " ".join(f"{key}={value}" for key, value in sizes.items())
            words = [f"{word} {tiny}" if "=" in word else word for word in words]
            for option, value in (("--seeds", "1"), ("--env-steps", SIZES["env_steps"])):
                words = _option(words, option, value)
            return [
                *_without(words, "--task"),
                "--task",
                "dmc/cartpole_swingup",
                "dmc/reacher_hard",
            ]
        case ["train" | "suite", *settings]:
            return _resized(words, _sizes(settings))
        case ["bench", *settings]:
            return _option(_resized(words, _sizes(settings)), "--rounds", "1")
        case ["eval", *_]:
            return _option(words, "--episodes", "1")
        case ["render", *_]:
            return _option(_option(words, "--episodes", "1"), "--size", "64")
        case ["tasks", *_]:
            return [PARITY.get(word, word) for word in words]
    return words


def _sizes(settings: list[str]) -> dict[str, str]:
    """The settings of a toy that the command may have."""
    keys = {word.partition("=")[0] for word in settings}
    sizes = dict(SIZES)
    if any(re.fullmatch(r"preset=\w+_pixels", word) for word in settings):
        sizes |= IMAGES
    for benchmark, peers in _peers(settings):
        fixed = {word.partition("=")[0] for word in peers.fixed}
        sizes |= PEER_SIZES[benchmark]
        defaults = PEER_DEFAULTS[peers.extra].items()
        sizes |= {key: value for key, value in defaults if key not in keys}
        sizes = {key: value for key, value in sizes.items() if key not in fixed}
    return sizes


def _peers(words: list[str]) -> Iterator[tuple[str, Peers]]:
    """The benchmarks against peers that a command names, and their peers."""
    for benchmark in PEERS.keys() & set(words):
        yield benchmark, peers_of(benchmark, [word for word in words if "=" in word])


def _resized(words: list[str], sizes: dict[str, str]) -> list[str]:
    """`words` with `sizes`, and with few values of each key. A grid of a size stays one."""
    sizes, kept = dict(sizes), []
    for word in words:
        key, equals, text = word.partition("=")
        values = re.split(r",(?![^\[]*\])", text)[:MOST_VALUES]  # a list's commas are its own
        if equals and key in sizes:
            if len(values) > 1:
                sizes[key] = f"{sizes[key]},{2 * int(sizes[key])}"
        else:
            kept.append(key + equals + ",".join(values))
    return kept + [f"{key}={value}" for key, value in sizes.items()]


def _without(words: list[str], option: str) -> list[str]:
    """`words` without an option of any number of values."""
    if option not in words:
        return words
    at = words.index(option)
    end = next((i for i in range(at + 1, len(words)) if words[i].startswith("--")), len(words))
    return words[:at] + words[end:]


def _option(words: list[str], option: str, value: str) -> list[str]:
    """`words` with this value of an option, in place of its own."""
    if option in words:
        at = words.index(option)
        words = [*words[:at], *words[at + 2 :]]
    return [*words, option, value]


def reason_not_to_run(step: Command | Program) -> str:
    """An empty string for what is run."""
    if isinstance(step, Program):
        return "" if re.search(r"^(import|from) ", step.code, re.MULTILINE) else "a fragment"
    if not step.ours:
        return OF_OTHERS[step.words[0]]
    if "kernels" in step.words and importlib.util.find_spec("jax_cuda13_plugin") is None:
        return "needs JAX's CUDA plugin"
    for _, peers in _peers(step.words):
        for module in peers.modules:
            if importlib.util.find_spec(module) is None:
                return f"needs {module}"
    return ""


class Copy:
    """A copy of the repository in `folder`, and what its commands need."""

    def __init__(self, folder: Path) -> None:
        self.root, self._bin = folder / "clone", folder / "bin"
        unwanted = shutil.ignore_patterns(".*", "__pycache__", "runs", "outputs")
        shutil.copytree(ROOT, self.root, ignore=unwanted)
        self._bin.mkdir()
        quoted = {"python": shlex.quote(sys.executable), "bin": shlex.quote(str(self._bin))}
        for program, script in STAND_INS.items():
            (self._bin / program).write_text(f"#!/bin/sh\n{script.format(**quoted)}\n")
            (self._bin / program).chmod(0o755)

    def run(self, step: Command | Program) -> tuple[list[str], int, str]:
        """Returns the words that ran, their exit code and their output."""
        if isinstance(step, Command):
            words = toy(step.words)
        elif step.file:  # its commands run it
            (self.root / step.file).write_text(step.code)
            words = ["python", "-m", "py_compile", step.file]
        else:
            words = ["python", "-c", step.code]
        env = os.environ | REHEARSAL
        env |= {"PATH": f"{self._bin}:{env['PATH']}", "PYTHONPATH": str(self.root)}
        env |= {"FPMD_PYTHON": str(self._bin / "python")}
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(
                words,
                cwd=self.root,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                process.wait(LIMIT)
            except BaseException as error:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
            output.seek(0)
            return words, process.returncode, output.read()


def run_page(page: Path) -> Counter[str]:
    """Runs a page, prints what happens, and counts it: ran, failed, "not run"."""
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder))
        for step in steps(page.read_text()):
            if reason := reason_not_to_run(step):
                counts["not run"] += 1
                print(f"  not run  {step}: {reason}", flush=True)
                continue
            start = time.perf_counter()
            words, code, output = copy.run(step)
            seconds = time.perf_counter() - start
            counts["failed" if code else "ran"] += 1
            print(f"  {'FAILED' if code else f'{seconds:4.0f} s'}   {step}", flush=True)
            if code:
                ended = f"ended after {LIMIT} s" if code == -signal.SIGKILL else f"exit code {code}"
                print(f"{ended}: {shlex.join(words)}\n{output[-3000:]}", flush=True)
    return counts


def _page(path: str) -> Path:
    page = Path(path).resolve()
    if not page.is_relative_to(ROOT) or not page.is_file():
        sys.exit(f"{path} is no page of this repository: give one such as docs/bench.md.")
    return page


def main(chosen: list[str]) -> int:
    start, counts = time.perf_counter(), Counter[str]()
    for page in [_page(each) for each in chosen] or PAGES:
        if any(steps(page.read_text())):
            print(name(page), flush=True)
            counts += run_page(page)
    parts = [f"{counts[each]} {each}" for each in ("ran", "failed", "not run")]
    print(f"{', '.join(parts)}: {time.perf_counter() - start:.0f} s")
    return int(counts["failed"] > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
