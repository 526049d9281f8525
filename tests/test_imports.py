"""Imports point one way: no circle of modules, and none of folders beyond what design allows."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ORDER = {
    "fpmd_mjx": [
        ["__main__"],
        ["cli"],
        ["bench"],
        ["run"],
        ["evaluation"],
        ["program"],
        ["algorithms"],
        ["data", "flows", "nn", "seeds"],
        ["report"],
        ["config"],
    ],
    "envs": [
        ["devtools", "__init__"],
        ["render"],
        ["originals", "wrappers"],
        ["registry"],
        ["dmc", "gym", "playground"],
        ["physics"],
        ["base"],
    ],
}
"""Folders and files of each package, from the users to what they use: a row may import only what is
in rows below it, and its own folder."""


def modules(root: Path) -> dict[str, Path]:
    """The files of both packages by the name that one imports them under."""
    found = {}
    for package in ORDER:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, files: dict[str, Path]) -> Iterator[str]:
    """The modules that one imports anywhere in it: at its top, in functions, for types alone."""
    path = files[name]
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in files)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *(node.module or "").split(".")]).strip(".")
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                if whole in files:
                    yield whole
                elif base in files and base != name:
                    yield base


RENDERING = re.compile(r"dm_control(\.(suite|mujoco|viewer|_render)\b.*)?")
"""What of dm_control chooses a renderer for the whole process when it is imported."""


def of_dm_control(text: str) -> set[str]:
    """The modules of dm_control that a file imports anywhere in it, and that choose a renderer."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if RENDERING.fullmatch(name)}


def graph(root: Path) -> dict[str, set[str]]:
    files = modules(root)
    return {name: set(imports(name, files)) for name in files}


def circle(graph: dict[str, set[str]]) -> list[str] | None:
    """A circle of imports, from a module to itself again; None if there is none."""
    done: set[str] = set()

    def search(name: str, path: list[str]) -> list[str] | None:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return None
        for other in sorted(graph[name]):
            found = search(other, [*path, name])
            if found:
                return found
        done.add(name)
        return None

    return next((found for name in graph if (found := search(name, []))), None)


def part(name: str) -> str:
    """The folder or file of a package that a module belongs to."""
    return [*name.split("."), "__init__"][1]


def against_the_order(graph: dict[str, set[str]]) -> list[str]:
    rank = {
        (package, each): row
        for package, rows in ORDER.items()
        for row, members in enumerate(rows)
        for each in members
    }
    found = []
    for name, others in graph.items():
        for other in others:
            package, theirs = name.split(".")[0], other.split(".")[0]
            if package == "envs" and theirs == "fpmd_mjx":
                found.append(f"{name} -> {other}")
            if package != theirs or part(name) == part(other) or "." not in name:
                continue
            if rank[package, part(name)] >= rank[package, part(other)]:
                found.append(f"{name} -> {other}")
    return found


def test_no_module_imports_itself_through_others() -> None:
    assert circle(graph(ROOT)) is None


def test_one_file_chooses_dm_controls_renderer() -> None:
    # Without a display, its own choice draws nothing, and ends the process at the second image.
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in ("fpmd_mjx", "envs", "tests", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        if of_dm_control(path.read_text())
    }
    assert found == {"envs/originals.py"}


@pytest.mark.parametrize(
    ("line", "chooses"),
    [
        ("import dm_control.suite", True),
        ("def f():\n    from dm_control.mujoco.wrapper import MjModel", True),
        ("from dm_control.utils import rewards", False),
    ],
)
def test_a_choice_of_the_renderer_is_found(line: str, chooses: bool) -> None:
    assert bool(of_dm_control(line)) == chooses


def test_imports_point_one_way() -> None:
    found = graph(ROOT)
    known = {(package, each) for package, rows in ORDER.items() for row in rows for each in row}
    assert {(name.split(".")[0], part(name)) for name in found} - known <= {
        ("fpmd_mjx", "__init__")
    }
    assert against_the_order(found) == []


@pytest.mark.parametrize(
    ("path", "line", "expected"),
    [
        (
            "fpmd_mjx/flows/meanflow.py",
            "def f():\n    from fpmd_mjx.algorithms import fpmd\n",
            None,
        ),
        ("envs/physics/jax.py", "from .backend import Physics\n", ["envs.physics.backend"]),
        (
            "fpmd_mjx/config/schema.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
            "    from fpmd_mjx.config import rules\n",
            ["fpmd_mjx.config.rules"],
        ),
    ],
)
def test_a_circle_is_found(
    tmp_path: Path, path: str, line: str, expected: list[str] | None
) -> None:
    for name, file in modules(ROOT).items():
        copy = tmp_path / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(file.read_text() + (line if str(file.relative_to(ROOT)) == path else ""))
        assert name
    found = circle(graph(tmp_path))
    assert found is not None
    assert set(expected or ["fpmd_mjx.algorithms.fpmd"]) <= set(found)


def test_the_trainer_is_unknown_to_the_environments(tmp_path: Path) -> None:
    for package, text in (("envs", "from fpmd_mjx import cli\n"), ("fpmd_mjx", "")):
        (tmp_path / package).mkdir()
        (tmp_path / package / "base.py").write_text(text)
        (tmp_path / package / "cli.py").write_text("")
    assert against_the_order({"envs.base": {"fpmd_mjx.cli"}, "fpmd_mjx.cli": set()}) == [
        "envs.base -> fpmd_mjx.cli"
    ]
