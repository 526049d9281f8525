"""Scores a stored run: restores its policy, rolls it out, and adds the result to summary.json."""

from functools import partial
from pathlib import Path
from typing import Any

import jax

import envs
from fpmd_mjx.algorithms.base import Mode, Policy
from fpmd_mjx.config.schema import ConfigError
from fpmd_mjx.evaluation.rollout import Episodes, real_rollout, rollout
from fpmd_mjx.program import Program
from fpmd_mjx.report import scores
from fpmd_mjx.run import provenance, summary
from fpmd_mjx.run.compile import use_compile_cache
from fpmd_mjx.run.display import console
from fpmd_mjx.run.folder import load_policy
from fpmd_mjx.seeds import Stream, seed_array, stream_keys

SIMULATORS = ("mjx", "mujoco")
"""`mujoco` is the original simulator: gymnasium or dm_control itself."""


def score_run(
    folder: Path,
    mode: Mode,
    simulator: str,
    episodes: int,
    seed: int = 0,
    epoch: int | str = "latest",
) -> dict[str, Any]:
    """Scores a checkpoint with fresh episodes; see `scores.entry`.

    simulator: one of `SIMULATORS`; episodes: per seed; seed: of the episodes; epoch: as of
    `stored_policy`. Adds the result to the run's summary.json if there is one.
    """
    use_compile_cache()
    program, policy, epoch = load_policy(folder, epoch)
    config = program.config
    play = _in_original if simulator == "mujoco" else _in_mjx
    result = scores.entry(
        play(program, mode, episodes, policy, seed),
        mode=str(mode),
        simulator=simulator,
        seed=seed,
        epoch=epoch,
        env_steps=epoch * config.iterations_per_epoch * config.steps_per_iteration,
        **provenance.provenance(),
    )
    summary.add_score(folder, result)
    return result


def _in_mjx(program: Program, mode: Mode, episodes: int, policy: Policy, seed: int) -> Episodes:
    play = jax.jit(
        partial(rollout, program, mode, episodes), compiler_options=program.compiler_options
    )
    keys = stream_keys(Stream.SCORING, seed_array(program.config), seed)
    return jax.device_get(play(policy, keys))


def _in_original(
    program: Program, mode: Mode, episodes: int, policy: Policy, seed: int
) -> Episodes:
    task = program.config.task.name
    if not envs.has_original(task):
        raise ConfigError(f"{task} exists in MJX alone: score it there.")
    with console.status(f"{task} in the original simulator") as status:

        def show(done: int, total: int) -> None:
            if done % 50 == 0:
                status.update(f"{task} in the original simulator: step {done} of {total}")

        return real_rollout(program, mode, episodes, policy, seed, show)


def score(
    folder: Path, mode: str, simulator: str, episodes: int, seed: int, epoch: int | str
) -> str:
    """`score_run` as one line of text."""
    parsed = Mode.parse(mode)
    result = score_run(folder, parsed, simulator, episodes, seed, epoch)
    per_seed = ", ".join(f"{x:.1f}" for x in result["per_seed"])
    broken = sum(result["nonfinite_episodes"])
    return (
        f"{folder}: {mode} in {simulator} {result['mean']:.1f}, "
        f"{span('95% interval', result['episode_ci95'])} over its episodes, "
        f"{span('95% interval', result['ci95'])} over seeds; per seed {per_seed} "
        f"({episodes} episodes each, epoch {result['epoch']}, {result['env_steps']:,} env steps"
        + (f"; {broken} EPISODES BLEW UP and count with their return until then" if broken else "")
        + (")" if summary.read(folder) else "; not kept, as the run has not ended)")
    )


def span(name: str, interval: list[float] | None) -> str:
    return f"{name} {interval[0]:.1f} to {interval[1]:.1f}" if interval else f"no {name}"
