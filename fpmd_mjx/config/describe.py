"""The help of `fpmd train`: presets and settings, read from `configs/` and the schema."""

import ast
import inspect
import textwrap
import tokenize
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from io import StringIO
from typing import Any, get_type_hints

from omegaconf import MISSING as CHOSEN

from fpmd_mjx.config.load import choices, group_file
from fpmd_mjx.config.schema import ALGORITHMS, Config

_WIDTH = 100
_LISTED = 12  # a group with more choices shows one of them as an example


def train_help() -> str:
    """Presets with their first sentence, the other groups, and every setting with its default."""
    lines = ["presets (preset=NAME):"]
    for name in choices("preset"):
        text = f"{name:16} {first_sentence('preset', name)}"
        lines += textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent=" " * 19)
    lines += ["", "settings (key=value); a preset changes many of these defaults:"]
    for group, about, settings in _groups(Config):
        lines += ["", f"{group or 'run'}: {about}" if about else group or "run"]
        for key, default, comment in settings:
            lines.append(f"  {key:28} {default:16} {comment}".rstrip())
    return "\n".join(lines)


def first_sentence(group: str, name: str) -> str:
    """Returns that of the comment at the top of a file in `configs/`, without its full stop."""
    words: list[str] = []
    for line in group_file(group, name).read_text().splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @"):
            words += line.lstrip("# ").split()
    return " ".join(words).partition(". ")[0].rstrip(".")


Setting = tuple[str, str, str]  # key, default, comment


def _groups(schema: Any, group: str = "") -> Iterator[tuple[str, str, list[Setting]]]:
    """Yields a dataclass, then the dataclasses in it: the name of the group, the first line of its
    docstring, and its settings."""
    hints, comments, settings, inner = get_type_hints(schema), _comments(schema), [], []
    for each in fields(schema):
        key = f"{group}.{each.name}" if group else each.name
        if key == "algorithm":  # each algorithm has its own settings
            inner += [(kind, key) for kind in ALGORITHMS.values()]
        elif is_dataclass(hints[each.name]):
            inner.append((hints[each.name], key))
        else:
            settings.append((key, _default(each), _comment(key, each, comments)))
    yield group, (schema.__doc__ or "").strip().partition("\n")[0], settings
    for of, key in inner:
        yield from _groups(of, key)


def _default(each: Field) -> str:
    value: Any = each.default
    if each.default_factory is not MISSING:
        value = each.default_factory()
    if value is MISSING or value == CHOSEN:
        return "-"
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _comment(key: str, setting: Field, comments: dict[str, str]) -> str:
    """The words that a setting can be, if there are few, and the comment behind it."""
    group = key.removesuffix(".name")
    known = choices(group)
    if not known:
        remedy = setting.metadata["allowed"].remedy
        words = remedy.removeprefix("choose one of ") if remedy.startswith("choose one of ") else ""
        only = setting.metadata["only"]
        parts = (
            words.replace(", ", " | "),
            comments.get(setting.name, ""),
            f"with {only}" if only else "",
        )
        return "; ".join(part for part in parts if part)
    if len(known) > _LISTED:
        return f"chosen by {group}=NAME, such as {known[0]}"
    return f"chosen by {group}={' | '.join(known)}"


def _comments(schema: Any) -> dict[str, str]:
    """The comment behind each field of a dataclass, inherited ones too, or the string below it."""
    found: dict[str, str] = {}
    for kind in reversed(schema.__mro__[:-1]):
        found |= _own_comments(kind)
    return found


def _own_comments(schema: Any) -> dict[str, str]:
    source = inspect.cleandoc(inspect.getsource(schema))
    behind = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found: dict[str, str] = {}
    body = ast.parse(source).body[0].body  # type: ignore[attr-defined]
    for i, node in enumerate(body):
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        below: Any = body[i + 1] if i + 1 < len(body) else None
        text = behind.get(node.end_lineno or 0, "")
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            text = " ".join(str(below.value.value).split())
        found[node.target.id] = text
    return found
