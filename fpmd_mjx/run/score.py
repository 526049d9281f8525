"""Scoring a stored run: restore the policy alone, roll it out, note the result in summary.json."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

import envs
from fpmd_mjx.algorithms.base import Mode
from fpmd_mjx.config.schema import ConfigError
from fpmd_mjx.evaluation.rollout import real_rollout, rollout
from fpmd_mjx.report import records, statistics
from fpmd_mjx.run.compile import use_compile_cache
from fpmd_mjx.run.display import console
from fpmd_mjx.run.folder import load_policy
from fpmd_mjx.seeds import episode_keys

SUMMARY_KEY = {"mjx": "eval", "mujoco": "eval_mujoco"}
"""Where summary.json has the results of each simulator, by mode."""


def score_run(
    folder: Path,
    mode: Mode,
    simulator: str,
    episodes: int,
    seed: int = 0,
    epoch: int | None = None,
) -> dict[str, Any]:
    """Scores a checkpoint (None: the latest) with fresh episodes; see `statistics.summarize`.

    simulator: `mjx`, or `mujoco` for gymnasium or dm_control itself. A result for the checkpoint
    that summary.json describes is added to it.
    """
    use_compile_cache()
    program, policy, epoch = load_policy(folder, epoch)
    config = program.config
    if simulator == "mujoco":
        if not envs.has_original(config.task.name):
            raise ConfigError(f"{config.task.name} exists in MJX alone: score it there.")
        with console.status(f"{config.task.name} in the real simulator") as status:
            returns, _ = real_rollout(
                program,
                mode,
                episodes,
                policy,
                seed,
                lambda done, total: (
                    status.update(
                        f"{config.task.name} in the real simulator: step {done} of {total}"
                    )
                    if done % 50 == 0
                    else None
                ),
            )
    else:
        keys = episode_keys(config, seed)
        play = jax.jit(
            partial(rollout, program, mode, episodes),
            compiler_options=program.compiler_options,
        )
        returns = np.asarray(play(policy, keys)[0])
    env_steps = epoch * config.iterations_per_epoch * config.steps_per_iteration
    result = statistics.summarize(returns, env_steps)
    path = folder / "summary.json"
    if path.exists():
        summary = json.loads(path.read_text())
        if summary["env_steps"] == env_steps:
            summary.setdefault(SUMMARY_KEY[simulator], {})[str(mode)] = result
            records.write_json(path, summary)
    return result


def score(
    folder: Path, mode: str, simulator: str, episodes: int, seed: int, epoch: int | None
) -> str:
    """`score_run` as a line for people."""
    result = score_run(folder, Mode.parse(mode), simulator, episodes, seed, epoch)
    per_seed = ", ".join(f"{x:.1f}" for x in result["per_seed"])
    return (
        f"{folder}: {mode} in {simulator} {result['mean']:.1f}, "
        f"{span('95% interval', result['episode_ci95'])} over its episodes, "
        f"{span('95% interval', result['ci95'])} over seeds; per seed {per_seed} "
        f"({episodes} episodes each, {result['env_steps']:,} env steps)"
    )


def span(name: str, interval: list[float] | None) -> str:
    return f"{name} {interval[0]:.1f} to {interval[1]:.1f}" if interval else f"no {name}"
