"""The run folder: whose it is, and what is stored in it."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import yaml

from fpmd_mjx.config import load as configs
from fpmd_mjx.config.schema import Config, ConfigError
from fpmd_mjx.data.normalizer import Normalizer
from fpmd_mjx.program import Policy, Program, make_program
from fpmd_mjx.run.checkpoint import Checkpoints

# What a run may change when it continues; anything else makes it another run.
_RESUMABLE = ("env_steps", "eval", "checkpoint", "runs", "name")


def checkpoints(config: Config, folder: Path) -> Checkpoints:
    return Checkpoints(
        folder / "checkpoints",
        keep_last=config.checkpoint.keep,
        keep_best=config.checkpoint.best,
        replay=config.checkpoint.replay,
    )


def claim_folder(config: Config) -> Path:
    """The run folder, new or of this very config; ConfigError if it belongs to another.

    A folder with neither checkpoint nor summary holds nothing to lose, and is taken over.
    """
    folder = config.folder
    stored = folder / "config.yaml"
    results = (folder / "checkpoints", folder / "summary.json")
    if stored.exists() and any(path.exists() for path in results):
        ours = _flat(yaml.safe_load(configs.to_yaml(config)))
        theirs = _flat(yaml.safe_load(stored.read_text()))
        for key in sorted(ours.keys() | theirs.keys()):
            if key.split(".")[0] in _RESUMABLE or ours.get(key) == theirs.get(key):
                continue
            raise ConfigError(
                f"{key}={ours.get(key)} does not continue the run in {folder}, which has "
                f"{key}={theirs.get(key)}: choose another name=..., or delete that folder."
            )
    folder.mkdir(parents=True, exist_ok=True)
    part = stored.with_suffix(".part")
    part.write_text(configs.to_yaml(config))
    part.replace(stored)
    return folder


def load_policy(folder: Path, epoch: int | None = None) -> tuple[Program, Policy, int]:
    """Policy-only restore of a run: its program, the policy of all seeds, and its epoch.

    epoch: None for the latest. Raises ConfigError if the folder holds no run, CheckpointError if it
    has no such checkpoint.
    """
    stored = folder / "config.yaml"
    if not stored.exists():
        raise ConfigError(f"{folder} is not a run folder: it has no config.yaml; give runs/...")
    config = configs.from_yaml(stored.read_text())
    with checkpoints(config, folder) as saved:
        epoch = saved.latest() if epoch is None else epoch
        tree = saved.restore_policy(epoch)
    assert epoch is not None
    # Arrays that are bound to a device compile to programs of their own: a score would not find
    # in the compile cache what training left there.
    tree = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), tree)
    normalizer = Normalizer(**tree["normalizer"]) if "normalizer" in tree else None
    policy = Policy(tree.get("encoder", {}), tree["actor"], tree["critic"], normalizer)
    return make_program(config), policy, epoch


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
