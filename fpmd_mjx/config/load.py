"""Composes a `Config` from `configs/` and the command line, or says in one sentence why not."""

import difflib
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import ConfigCompositionException, HydraException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fpmd_mjx.config.rules import validate
from fpmd_mjx.config.schema import Config, ConfigError


def configs_dir() -> Path:
    """The YAML groups: beside the package in a checkout, inside of it in an installed wheel."""
    inside = Path(__file__).parents[1] / "configs"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "configs"


def choices(group: str) -> list[str]:
    """Names in a config group, such as `dmc/cheetah_run` in `task`."""
    root = configs_dir() / group
    return sorted(str(p.relative_to(root).with_suffix("")) for p in root.rglob("*.yaml"))


def group_file(group: str, name: str) -> Path:
    """The file of a config group, such as `cpu` in `suite`; ConfigError if there is none."""
    known = choices(group)
    if name not in known:
        close = difflib.get_close_matches(name, known) or known
        raise ConfigError(f"{group} {name} is unknown: choose one of {', '.join(close)}.")
    return configs_dir() / group / f"{name}.yaml"


def load(overrides: list[str]) -> Config:
    """Composes `overrides` (`task=dmc/cheetah_run`, `learn.batch=512`) over the defaults."""
    # Playground's registry is not ours to write files for.
    overrides = [re.sub(r"^task=(?=playground/)", "task.name=", x) for x in overrides]
    for override in overrides:
        key, equals, chosen = override.partition("=")
        if not equals or not re.match(r"[a-z]", key) or key.startswith("hydra"):
            raise ConfigError(f"'{override}' is not an override: write key=value.")
        if key in ("task", "actor", "preset") and chosen not in choices(key):
            raise ConfigError(_unknown(f"{key}={chosen}", chosen, choices(key), f"a known {key}"))
    ConfigStore.instance().store(name="schema", node=Config)
    try:
        with initialize_config_dir(str(configs_dir().resolve()), version_base="1.3"):
            tree = compose("config", overrides=overrides)
        config = OmegaConf.to_object(tree)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_sentence(error, overrides)) from error
    assert isinstance(config, Config)
    validate(config)
    return config


def to_yaml(config: Config) -> str:
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def from_yaml(text: str) -> Config:
    """The config that `to_yaml` wrote; what this version does not know raises ConfigError."""
    try:
        tree = OmegaConf.merge(OmegaConf.structured(Config), yaml.safe_load(text))
        config = OmegaConf.to_object(tree)
    except OmegaConfBaseException as error:
        raise ConfigError(
            f"the stored config does not fit this version: {_first_line(error)}"
        ) from error
    assert isinstance(config, Config)
    validate(config)
    return config


def _keys(tree: Any, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in tree.items():
        keys += _keys(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]
    return keys


def _unknown(what: str, wrong: str, known: list[str], remedy: str) -> str:
    close = difflib.get_close_matches(wrong, known, 3, 0.5)
    hint = f"did you mean {' or '.join(close)}" if close else f"known: {', '.join(known[:12])}"
    return f"{what} is unknown; use {remedy} ({hint})."


_EXPECTED = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a word",
    list[int]: "layer widths such as [256,256]",
    list[str]: "words such as [one_step,best_of_n]",
}


def _expected(key: str) -> str:
    """What the schema wants of a key, in words."""
    wanted: Any = Config
    for part in key.split("."):
        wanted = get_type_hints(wanted)[part]
    if wanted in _EXPECTED:
        return _EXPECTED[wanted]
    if is_dataclass(wanted):
        return f"a value to one of its keys, such as {key}.{fields(wanted)[0].name}"
    return " or ".join(_EXPECTED.get(option, "null") for option in get_args(wanted))


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]


def _sentence(error: BaseException, overrides: list[str]) -> str:
    """One sentence of what Hydra and OmegaConf spread over many lines."""
    text = f"{error}\n{error.__cause__ or ''}"
    if isinstance(error, OverrideParseException):
        return f"'{error.override}' cannot be read: write key=value, with no spaces around '='."
    known = _keys(OmegaConf.to_container(OmegaConf.structured(Config)))
    missing = re.search(r"Could not override '([^']+)'|Key '([^']+)' (?:is )?not in", text)
    full = re.search(r"full_key: ([^\s\[]+)", text)
    named = full or missing
    if named:
        key = next(group for group in named.groups() if group)
        shown = next((o for o in overrides if re.match(rf"{re.escape(key)}[.=]", o)), key)
        if missing:
            return _unknown(shown, shown.partition("=")[0], known, "a key of the schema")
        return f"{shown} has the wrong type: give {_expected(key)}."
    if isinstance(error, ConfigCompositionException | HydraException):
        return f"the configuration cannot be composed: {_first_line(error)}"
    return _first_line(error)
