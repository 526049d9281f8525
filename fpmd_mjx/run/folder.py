"""The run folder: whose it is, and what is stored in it."""

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

# What a run may change when it continues; anything else makes it another run.
_RESUMABLE = ("env_steps", "eval", "checkpoint", "runs", "name")


def checkpoints(config: Config, folder: Path) -> Checkpoints:
    return Checkpoints(
        folder / "checkpoints",
        keep_last=config.checkpoint.keep,
        keep_best=config.checkpoint.best,
        replay=config.checkpoint.replay,
    )


def check_folder(config: Config) -> None:
    """ConfigError if the run folder belongs to another config.

    A folder with neither checkpoint nor summary holds nothing to lose, and belongs to nobody.
    """
    folder = config.folder
    stored = folder / "config.yaml"
    results = (folder / "checkpoints", folder / summary.NAME)
    if not (stored.exists() and any(path.exists() for path in results)):
        return
    ours = _settings(yaml.safe_load(configs.to_yaml(config)))
    # Read and written again, it has the names of this version.
    theirs = _settings(yaml.safe_load(configs.to_yaml(configs.from_yaml(stored.read_text()))))
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key):
            raise ConfigError(
                f"{key}={ours.get(key)} does not continue the run in {folder}, which has "
                f"{key}={theirs.get(key)}: choose another name=..., or delete that folder."
            )


def claim_folder(config: Config) -> Path:
    """The run folder, new or of this very config; raises like `check_folder`."""
    check_folder(config)
    config.folder.mkdir(parents=True, exist_ok=True)
    stored = config.folder / "config.yaml"
    part = stored.with_suffix(".part")
    part.write_text(configs.to_yaml(config))
    part.replace(stored)
    return config.folder


def complete(config: Config) -> dict[str, Any] | None:
    """The summary of a run that has all its env steps, None of one that has not; raises like
    `check_folder`."""
    check_folder(config)
    found = summary.read(config.folder)
    return found if found and found["env_steps"] >= config.env_steps else None


@dataclass(frozen=True)
class Stored:
    """A policy as a checkpoint keeps it. policy: of all seeds, leaves (seeds, ...); spec: how it
    acts, and on what."""

    config: Config
    policy: Policy
    spec: PolicySpec
    epoch: int


def stored_policy(folder: Path, epoch: int | str = "latest") -> Stored:
    """The policy of a run, without its environment: `deployable(policy, spec)` acts.

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
    # Arrays that are bound to a device compile to programs of their own: a score would not find
    # in the compile cache what training left there.
    tree = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), tree)
    normalizer = Normalizer(**tree["normalizer"]) if "normalizer" in tree else None
    policy = Policy(tree.get("encoder", {}), tree["actor"], tree["critic"], normalizer)
    if layout is None:  # version 0.1 kept none
        layout = Layout.of(make_program(config).vector.env.spec).to_json()
    return Stored(config, policy, PolicySpec.of(config, Layout.from_json(layout)), epoch)


def load_policy(folder: Path, epoch: int | str = "latest") -> tuple[Program, Policy, int]:
    """The program of a run, the policy of all seeds, and its epoch; raises like
    `stored_policy`."""
    found = stored_policy(folder, epoch)
    return make_program(found.config), found.policy, found.epoch


def _epoch(config: Config, folder: Path, saved: Checkpoints, wanted: int | str) -> int:
    """The number of an epoch; whether there is a numbered one is left to `restore_policy`."""
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
    """What must not change when a run continues, by key. Scores of another mode would not compare
    with that of the best checkpoint."""
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
