"""Composes a `Config` from `configs/` and the command line, or says in one sentence why not."""

import difflib
import re
from collections.abc import Collection
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import ConfigCompositionException, HydraException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fpmd_mjx.config.rules import refuse_useless, validate
from fpmd_mjx.config.schema import ALGORITHMS, Config, ConfigError


def configs_dir() -> Path:
    """The folder of the YAML files: beside the package in a checkout, in it in a wheel."""
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


def check_keys(
    tree: Any, where: str, needed: Collection[str], optional: Collection[str] = ()
) -> None:
    """Raises ConfigError unless `tree` is a mapping that has every key of `needed`, and no key
    beyond those and `optional`.

    where: the file, and the part of it that `tree` is, for the message.
    """
    known = sorted({*needed, *optional})
    if not isinstance(tree, dict):
        raise ConfigError(f"{where} is not a mapping: give it the keys {', '.join(known)}.")
    for key in tree:
        if key not in known:
            raise ConfigError(f"{where} has the unknown key '{key}': use only {', '.join(known)}.")
    for key in sorted(needed):
        if tree.get(key) is None:
            raise ConfigError(f"{where} has no '{key}': add it.")


def check_counts(tree: dict[str, Any], where: str, keys: Collection[str]) -> None:
    """Raises ConfigError unless the values of `keys` are whole numbers of at least 1."""
    for key in keys:
        if not isinstance(tree[key], int) or tree[key] < 1:
            raise ConfigError(f"{where} has {key}: {tree[key]}: give a whole number of at least 1.")


GROUPS = ("task", "algorithm", "preset")
"""The groups of `configs/` that a run chooses a file of."""

RENAMED = {
    "actor": "algorithm",
    "actor.name": "algorithm.name",
    "actor.flow_steps": "algorithm.flow_steps",
    "actor.prior_std": "algorithm.prior_std",
    "actor.equal_time_share": "algorithm.equal_time_share",
    "actor.time_power": "algorithm.time_power",
    "actor_optim": "actor",
    "improvement": "algorithm",
    "noise": "algorithm.noise",
    "learn.policy_delay": "algorithm.policy_delay",
}
"""Keys and groups of earlier versions, and their names of today."""


def renamed(key: str) -> str:
    """Today's name of a key of an earlier version; any other key is returned as it is."""
    if key in RENAMED:
        return RENAMED[key]
    group, _, rest = key.rpartition(".")
    # The group actor still exists, with other settings.
    return f"{RENAMED[group]}.{rest}" if group in RENAMED and group != "actor" else key


def load(overrides: list[str]) -> Config:
    """Composes `overrides` (`task=dmc/cheetah_run`, `learn.batch=512`) over the defaults."""
    # Playground's tasks have no files in configs/task.
    overrides = [re.sub(r"^task=(?=playground/)", "task.name=", x) for x in overrides]
    for override in overrides:
        key, equals, chosen = override.partition("=")
        if not equals or not re.match(r"[a-z]", key) or key.startswith("hydra"):
            raise ConfigError(f"'{override}' is not an override: write key=value.")
        if renamed(key) != key:
            raise ConfigError(f"{key} is now called {renamed(key)}: write {renamed(key)}={chosen}.")
        if key in GROUPS and chosen not in choices(key):
            raise ConfigError(_unknown(f"{key}={chosen}", chosen, choices(key), f"a known {key}"))
        if key not in GROUPS and choices(key):
            raise ConfigError(
                f"{override} is not possible: a run chooses {', '.join(GROUPS)}; leave it out."
            )
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for name, node in ALGORITHMS.items():
        store.store(group="algorithm", name=f"{name}_schema", node=node)
    try:
        with initialize_config_dir(str(configs_dir().resolve()), version_base="1.3"):
            tree = compose("config", overrides=overrides)
        config = OmegaConf.to_object(tree)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_sentence(error, overrides)) from error
    assert isinstance(config, Config)
    validate(config)
    chosen_keys = [x.partition("=")[0] for x in overrides]
    refuse_useless(config, [key for key in chosen_keys if key not in GROUPS])
    return config


def to_yaml(config: Config) -> str:
    """The whole config, as run folders keep it."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def from_yaml(text: str) -> Config:
    """The config that `to_yaml` wrote, in this version or an earlier one.

    Raises ConfigError if it has a setting that this version does not know.
    """
    stored = _with_new_names(yaml.safe_load(text))
    name = stored.get("algorithm", {}).get("name")
    if name not in ALGORITHMS:
        raise ConfigError(
            f"the stored config does not fit this version: algorithm.name={name} is unknown."
        )
    try:
        config = OmegaConf.to_object(OmegaConf.merge(_schema(name), stored))
    except OmegaConfBaseException as error:
        raise ConfigError(
            f"the stored config does not fit this version: {_first_line(error)}"
        ) from error
    assert isinstance(config, Config)
    validate(config)
    return config


def _with_new_names(stored: dict[str, Any]) -> dict[str, Any]:
    """A stored config with today's keys, without settings that did nothing for its algorithm."""
    if "algorithm" in stored:
        return stored
    flat = OmegaConf.create()
    name = stored.get("actor", {}).get("name")
    known = {each.name for each in fields(ALGORITHMS[name])} if name in ALGORITHMS else set()
    for key in _keys(stored):
        new = renamed(key)
        group, _, last = new.partition(".")
        if group != "algorithm" or last.partition(".")[0] in known:
            OmegaConf.update(flat, new, OmegaConf.select(OmegaConf.create(stored), key))
    return cast(dict[str, Any], OmegaConf.to_container(flat))


def _schema(algorithm: str) -> Any:
    """The schema with the settings of one algorithm, as a tree of OmegaConf."""
    schema = OmegaConf.structured(Config)
    schema.algorithm = OmegaConf.structured(ALGORITHMS[algorithm])
    return schema


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


def _expected(key: str, algorithm: str) -> str:
    """The type of a key, in words."""
    wanted: Any = Config
    for part in key.split("."):
        wanted = ALGORITHMS[algorithm] if part == "algorithm" else get_type_hints(wanted)[part]
    if wanted in _EXPECTED:
        return _EXPECTED[wanted]
    if is_dataclass(wanted):
        return f"a value to one of its keys, such as {key}.{fields(wanted)[0].name}"
    return " or ".join(_EXPECTED.get(option, "null") for option in get_args(wanted))


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]


def _sentence(error: BaseException, overrides: list[str]) -> str:
    """One sentence in place of the many lines of Hydra and OmegaConf."""
    text = f"{error}\n{error.__cause__ or ''}"
    if isinstance(error, OverrideParseException):
        return f"'{error.override}' cannot be read: write key=value, with no spaces around '='."
    algorithm = next((x[10:] for x in overrides if x.startswith("algorithm=")), "fpmd_m")
    known = _keys(OmegaConf.to_container(_schema(algorithm)))
    missing = re.search(r"Could not override '([^']+)'|Key '([^']+)' (?:is )?not in", text)
    full = re.search(r"full_key: ([^\s\[]+)", text)
    named = full or missing
    if named:
        key = next(group for group in named.groups() if group)
        shown = next((o for o in overrides if re.match(rf"{re.escape(key)}[.=]", o)), key)
        owners = [x for x in ALGORITHMS if key in _keys(OmegaConf.to_container(_schema(x)))]
        if missing and owners:
            return (
                f"{shown} does nothing with algorithm={algorithm}: leave it out, or choose "
                f"{' or '.join(f'algorithm={owner}' for owner in owners)}."
            )
        if missing:
            return _unknown(shown, shown.partition("=")[0], known, "a key of the schema")
        return f"{shown} has the wrong type: give {_expected(key, algorithm)}."
    if isinstance(error, ConfigCompositionException | HydraException):
        return f"the configuration cannot be composed: {_first_line(error)}"
    return _first_line(error)
