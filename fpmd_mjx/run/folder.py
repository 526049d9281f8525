"""The run folder: the config that it belongs to, and the policies stored in it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import yaml

from fpmd_mjx.algorithms.base import Policy
from fpmd_mjx.config import load as configs
from fpmd_mjx.config.schema import Config, ConfigError
from fpmd_mjx.data.normalizer import Normalizer
from fpmd_mjx.evaluation.deploy import Layout, PolicySpec
from fpmd_mjx.program import Program, make_program
from fpmd_mjx.run import summary
from fpmd_mjx.run.checkpoint import CheckpointError, Checkpoints

# The settings that may change when a run continues. Any other change makes it another run.
_RESUMABLE = ("env_steps", "eval", "checkpoint", "runs", "name")


def checkpoints(config: Config, folder: Path) -> Checkpoints:
    return Checkpoints(
        folder / "checkpoints",
        keep_last=config.checkpoint.keep,
        keep_best=config.checkpoint.best,
        replay=config.checkpoint.replay,
    )


def check_folder(config: Config) -> None:
    """Raises ConfigError if the run folder belongs to another config.

    A folder with neither checkpoint nor summary holds nothing to lose: any config may take it.
    """
    folder = config.folder
    stored = folder / "config.yaml"
    results = (folder / "checkpoints", folder / summary.NAME)
    if not (stored.exists() and any(path.exists() for path in results)):
        return
    ours = _settings(yaml.safe_load(configs.to_yaml(config)))
    # Reading and writing it again gives the settings the names of this version.
    theirs = _settings(yaml.safe_load(configs.to_yaml(configs.from_yaml(stored.read_text()))))
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key):
            raise ConfigError(
                f"{key}={ours.get(key)} does not continue the run in {folder}, which has "
                f"{key}={theirs.get(key)}: choose another name=..., or delete that folder."
            )


def claim_folder(config: Config) -> Path:
    """Makes the run folder, writes its config.yaml and returns it. Raises like `check_folder`."""
    check_folder(config)
    config.folder.mkdir(parents=True, exist_ok=True)
    stored = config.folder / "config.yaml"
    part = stored.with_suffix(".part")
    part.write_text(configs.to_yaml(config))
    part.replace(stored)
    return config.folder


def complete(config: Config) -> dict[str, Any] | None:
    """The summary of a run that has all its env steps, else None. Raises like `check_folder`."""
    check_folder(config)
    found = summary.read(config.folder)
    return found if found and found["env_steps"] >= config.env_steps else None


@dataclass(frozen=True)
class Stored:
    """A policy from a checkpoint. policy: of all seeds, leaves (seeds, ...); spec: how it acts, and
    the layout of its observations and actions."""

    config: Config
    policy: Policy
    spec: PolicySpec
    epoch: int


def stored_policy(folder: Path, epoch: int | str = "latest") -> Stored:
    """The policy of a run, without its environment; `deployable(policy, spec)` acts.

    epoch: a number, `latest` or `best`. Raises ConfigError if the folder holds no run,
    CheckpointError if it has no such checkpoint.
    """
    stored = folder / "config.yaml"
    if not stored.exists():
        raise ConfigError(f"{folder} is not a run folder: it has no config.yaml; give runs/...")
    config = configs.from_yaml(stored.read_text())
    with checkpoints(config, folder) as saved:
        epoch = _epoch(config, folder, saved, epoch)
        tree, layout = saved.restore_policy(epoch), saved.meta(epoch).get("layout")
    # Arrays that are committed to a device compile to another program. Scoring would then not find
    # the one of training in the compile cache.
    tree = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), tree)
    normalizer = Normalizer(**tree["normalizer"]) if "normalizer" in tree else None
    policy = Policy(tree.get("encoder", {}), tree["actor"], tree["critic"], normalizer)
    if layout is None:  # version 0.1 stored none
        layout = Layout.of(make_program(config).vector.env.spec).to_json()
    return Stored(config, policy, PolicySpec.of(config, Layout.from_json(layout)), epoch)


def load_policy(folder: Path, epoch: int | str = "latest") -> tuple[Program, Policy, int]:
    """The program of a run, the policy of all seeds, and its epoch. Raises like
    `stored_policy`."""
    found = stored_policy(folder, epoch)
    return make_program(found.config), found.policy, found.epoch


def _epoch(config: Config, folder: Path, saved: Checkpoints, wanted: int | str) -> int:
    """The number of an epoch. A given number is not checked here; `restore_policy` checks it."""
    if isinstance(wanted, int):
        return wanted
    there = saved.epochs()
    if not there:
        raise CheckpointError(f"{folder} has no checkpoint yet: train it until its first one.")
    if wanted == "best" and not config.checkpoint.best:
        raise CheckpointError(
            f"epoch best of {folder} was not kept, as it has checkpoint.best=false: give one of "
            f"{there}."
        )
    found = saved.best() if wanted == "best" else saved.latest()
    if found is None:
        reason = "was evaluated" if wanted == "best" else "can be continued"
        raise CheckpointError(
            f"epoch {wanted} of {folder} is unknown, as none of its checkpoints {reason}: give one "
            f"of {there}."
        )
    return found


def _settings(tree: dict[str, Any]) -> dict[str, Any]:
    """The settings that must not change when a run continues, by key.

    The first evaluation mode is one of them: scores of another mode do not compare with that of the
    best checkpoint.
    """
    settings = {k: x for k, x in _flat(tree).items() if k.split(".")[0] not in _RESUMABLE}
    return settings | {"eval.modes[0]": tree["eval"].get("modes", ["one_step"])[0]}


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
