"""The pages of the documentation, and the commands and programs on them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]

RUN_SH = ("help", "setup", "test", "gpu", "fpmd")
"""The commands of run.sh; any other word is a suite."""

CODE = re.compile(
    r"^(?:<!-- (?P<file>\w+\.py) -->\n)?```(?P<kind>\w*)\n(?P<block>.*?)^```$"
    r"|^    (?P<indented>[^\n]+)$",
    re.MULTILINE | re.DOTALL,
)
OURS = re.compile(r"\s*(\./run\.sh|fpmd|python -m|python \w+\.py) ")


@dataclass(frozen=True)
class Command:
    """A line for the shell. ours: whether it is a command of this project."""

    words: list[str]
    ours: bool

    def __str__(self) -> str:
        return shlex.join(self.words)


@dataclass(frozen=True)
class Program:
    """A block of Python. file: the name that the page gives it, or an empty string."""

    code: str
    file: str

    def __str__(self) -> str:
        return self.file or f"python: {self.code.splitlines()[0]} ..."


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def steps(text: str) -> Iterator[Command | Program]:
    """What is in the code blocks of a page, in order."""
    for found in CODE.finditer(text):
        if found["kind"] == "python":
            yield Program(found["block"], found["file"] or "")
        elif found["indented"] or found["kind"] in ("", "sh", "bash"):
            for line in (found["indented"] or found["block"]).splitlines():
                ours = bool(OURS.match(line))
                # Trees of files are indented, too.
                words = shlex.split(line, comments=True) if ours or found["block"] else []
                if words:
                    yield Command(words, ours)


def commands(text: str) -> list[list[str]]:
    """The words of every command of this project in the code blocks of a page."""
    return [step.words for step in steps(text) if isinstance(step, Command) and step.ours]


def arguments(words: list[str]) -> list[str] | None:
    """The arguments of the `fpmd` that a command runs, or None if it runs something else."""
    match words:
        case ["./run.sh", "fpmd", *rest]:
            return rest
        case ["./run.sh", "gpu", *rest]:
            return ["bench", "campaign", "gpu", *rest]
        case ["./run.sh", command, *rest]:
            return None if command in RUN_SH else ["suite", command, *rest]
        case ["python", "-m", *_]:
            return None
        case ["python", _, *rest]:  # a file that is an `fpmd` with a task of its own
            return rest
    return words[1:]
