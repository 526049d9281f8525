"""Peers: brax's SAC and PPO, as published, beside this program on MuJoCo Playground's tasks.

    python -m fpmd_mjx.bench.peers speed playground/CheetahRun --output speed.json
    python -m fpmd_mjx.bench.peers return playground/CheetahRun 800 --output sac.json

`speed` steps brax's SAC and this program in turns at equal settings. `return` trains a peer with
Playground's own tuned settings until its policy reaches a return. Compilation, training and
evaluation are timed apart from each other everywhere.

brax offers `train` as one blocking function and nothing inside of it. So `train` runs unchanged,
with a stand-in for the name `jax` in its module: it adds the one function that JAX has dropped
since, and it compiles and times what `train` maps over devices, which is all of its training.
"""

import argparse
import dataclasses
import functools
import importlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import yaml

from envs.physics import COMPILER_OPTIONS, Impl, resolve_impl
from envs.playground import PREFIX
from fpmd_mjx import config as configs
from fpmd_mjx import logs
from fpmd_mjx.bench import timing
from fpmd_mjx.config import Config, ConfigError
from fpmd_mjx.program import make_program
from fpmd_mjx.train import seed_array

BRAX = "brax_sac"


@dataclass
class Chunk:
    """`Measured` over a training state. compile_seconds: of tracing and compiling its epoch."""

    name: str
    env_steps: int
    updates: int
    compile_seconds: float
    epoch: Callable[[Any], Any]
    state: Any

    def run(self) -> None:
        self.state = jax.block_until_ready(self.epoch(self.state))


@dataclass(frozen=True)
class Settings:
    """What both sides share.

    updates: gradient updates per vector step, each of policy, critic and target networks;
    hidden: widths of the layers of policy and critics; replay: transitions; warmup: env steps
    before learning; chunk: vector steps of a chunk; impl: the physics, as of a task's config.
    """

    task: str
    num_envs: int = 64
    batch: int = 256
    updates: int = 2
    hidden: tuple[int, ...] = (256, 256)
    layer_norm: bool = False
    replay: int = 1_000_000
    warmup: int = 1024
    chunk: int = 256
    impl: Impl = "auto"

    @property
    def env_steps(self) -> int:
        return self.num_envs * self.chunk


def fpmd(settings: Settings, actor: str, candidates: int, flow_steps: int, seed: int = 0) -> Chunk:
    """This program at `settings`, past its warm-up.

    actor: fpmd_r or fpmd_m; candidates: for each action; flow_steps: network calls of each.

    Raises:
        ConfigError: if the settings are not possible.
    """
    config = fpmd_config(settings, actor, candidates, flow_steps, seed)
    program = make_program(config)
    options: Any = dict(COMPILER_OPTIONS)
    init = program.traced_init.lower().compile(options)
    start = time.perf_counter()
    epoch = jax.jit(program.train_epoch, donate_argnums=0).lower(program.traced_init.out_info)
    compiled = epoch.compile(options)
    chunk = Chunk(
        name=f"{actor} candidates={candidates} flow_steps={flow_steps}",
        env_steps=config.iterations_per_epoch * config.steps_per_iteration,
        updates=config.iterations_per_epoch * config.learn.updates,
        compile_seconds=time.perf_counter() - start,
        epoch=lambda state: compiled(state)[0],
        state=init(seed_array(config)),
    )
    while not program.ready(chunk.state):
        chunk.run()
    return chunk


def fpmd_config(
    settings: Settings, actor: str, candidates: int, flow_steps: int, seed: int
) -> Config:
    """`settings` as a config of this program; what they leave open is as in preset=paper."""
    widths = list(settings.hidden)
    return configs.load(
        [
            f"task={settings.task}",
            f"task.impl={settings.impl}",
            f"actor={actor}",
            "preset=paper",
            f"seed={seed}",
            f"num_envs={settings.num_envs}",
            f"warmup_steps={settings.warmup}",
            f"env_steps={2**40}",
            f"epoch_steps={settings.env_steps}",
            f"improvement.candidates={candidates}",
            f"actor.flow_steps={flow_steps}",
            "learn.n_step=1",
            "learn.collect_steps=1",
            "learn.policy_delay=1",
            "learn.normalize_obs=true",
            "learn.dtype=float32",
            f"learn.batch={settings.batch}",
            f"learn.updates={settings.updates}",
            f"learn.replay={settings.replay}",
            "critic.kind=scalar",
            *(
                f"{part}.{key}={value}"
                for part in ("actor", "critic")
                for key, value in (
                    ("hidden", widths),
                    ("activation", "relu"),
                    ("layer_norm", settings.layer_norm),
                )
            ),
        ]
    )


def brax_sac(settings: Settings, seed: int = 0) -> Chunk:
    """brax's SAC at `settings`, past its warm-up: its own compiled `training_epoch`.

    It compiles with XLA's own options, as for everyone who uses brax.

    Raises:
        ConfigError: if brax or Playground is missing, or the task is not one of Playground's.
    """
    train, environment, wrap = _brax("sac"), _environment(settings.task, settings.impl), _wrapper()
    from brax.training.agents.sac.networks import make_sac_networks

    def pmap(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        mapped = jax.pmap(function, **options)
        if function.__name__ != "training_epoch":
            return mapped

        def reached(*arguments: Any) -> Any:
            raise _Reached(mapped, arguments)

        return reached

    try:
        with mock.patch.object(train, "jax", _StandIn(pmap)):
            train.train(
                environment,
                num_timesteps=settings.warmup + settings.env_steps,
                min_replay_size=settings.warmup,
                max_replay_size=settings.replay,
                num_envs=settings.num_envs,
                batch_size=settings.batch,
                grad_updates_per_step=settings.updates,
                network_factory=functools.partial(
                    make_sac_networks,
                    hidden_layer_sizes=settings.hidden,
                    policy_network_layer_norm=settings.layer_norm,
                    q_network_layer_norm=settings.layer_norm,
                ),
                normalize_observations=True,
                episode_length=_episode_length(settings.task),
                wrap_env_fn=wrap,
                num_eval_envs=1,  # made, never run
                max_devices_per_host=1,
                seed=seed,
            )
    except _Reached as reached:
        mapped, (*state, keys) = reached.epoch, reached.arguments
    start = time.perf_counter()
    compiled = mapped.lower(*state, keys).compile()
    seconds = time.perf_counter() - start

    def epoch(state: Any) -> Any:
        *state, keys = state
        *state, _ = compiled(*state, keys)
        return *state, jax.random.split(keys[0], 1)

    chunk = Chunk(
        name=BRAX,
        env_steps=settings.env_steps,
        updates=settings.chunk * settings.updates,
        compile_seconds=seconds,
        epoch=epoch,
        state=(*state, keys),
    )
    chunk.run()
    return chunk


def compare(
    settings: Settings,
    actor: str = "fpmd_m",
    candidates: Sequence[int] = (1, 8, 32),
    flow_steps: int = 1,
    rounds: int = 5,
) -> dict[str, Any]:
    """Speed of brax's SAC and of this program: each runs a chunk in each round, in turns.

    `ratio_to_brax` is this program's env steps per second over brax's, in quartiles of the rounds.
    """
    ours = [fpmd(settings, actor, count, flow_steps) for count in candidates]
    runners = [brax_sac(settings), *ours]
    seconds = timing.interleave(runners, rounds)
    results = []
    for runner, own in zip(runners, seconds, strict=True):
        median = statistics.median(own)
        # Chunks of both sides are as many env steps long.
        ratios = timing.ratio(seconds[0], own)
        results.append(
            {
                "name": runner.name,
                "compile_seconds": round(runner.compile_seconds, 2),
                "chunk_seconds": [round(x, 4) for x in own],
                "env_steps_per_second": round(runner.env_steps / median, 1),
                "updates_per_second": round(runner.updates / median, 1),
                "ratio_to_brax": {
                    what: round(x, 3) for what, x in dataclasses.asdict(ratios).items()
                },
            }
        )
    return {
        "settings": dataclasses.asdict(settings) | {"impl": resolve_impl(settings.impl)},
        "rounds": rounds,
        "results": results,
        **_provenance(),
    }


# ---------------------------------------------------------------------------- time to a return


class Clock:
    """Seconds by what they went to: compile, train and eval."""

    def __init__(self) -> None:
        self.seconds = {"compile": 0.0, "train": 0.0, "eval": 0.0}

    @contextmanager
    def time(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[what] += time.perf_counter() - start

    def compiled(self, function: Any, what: str) -> Callable[..., Any]:
        """`function`, jitted or mapped, compiled ahead of each call with new types; its calls
        block and count as `what`."""
        executables: dict[Any, Any] = {}

        def call(*arguments: Any) -> Any:
            types = tuple(jax.typeof(leaf) for leaf in jax.tree.leaves(arguments))
            if types not in executables:
                with self.time("compile"):
                    executables[types] = function.lower(*arguments).compile()
            with self.time(what):
                return jax.block_until_ready(executables[types](*arguments))

        return call


def time_to_return(
    task: str,
    target: float,
    algorithm: str,
    seed: int,
    changes: dict[str, Any] | None = None,
    impl: Impl = "auto",
) -> dict[str, Any]:
    """Trains brax's `algorithm` with Playground's tuned settings until a return is reached.

    The settings ask for num_evals evaluations, between which PPO's environments are all reset
    num_resets_per_eval times; here an evaluation follows each of these resets, which changes
    nothing in training (brax's SAC has no such resets, and is evaluated as often). Evaluations
    are of the mean action.

    Args:
        task: a name such as playground/CheetahRun.
        target: mean return of the evaluation's episodes that ends the run.
        algorithm: sac or ppo.
        seed: of the run.
        changes: settings of brax's `train` that differ from the tuned ones.
        impl: the physics, as of a task's config.

    Returns:
        train_seconds: of all that trains, initial resets and replay's warm-up included, without
        compilation; wall_seconds: of all, from the call to the evaluation that reached the target;
        compile_seconds, eval_seconds; env_steps; reached: whether the target was; the curve, a
        point an evaluation; the settings, what was changed in them, and the provenance.

    Raises:
        ConfigError: if brax or Playground is missing, or task or algorithm is none of theirs.
    """
    train, environment = _brax(algorithm), _environment(task, impl)
    settings = _tuned(task, algorithm) | (changes or {})
    arguments, clock, curve = dict(settings), Clock(), []
    resets = arguments.pop("num_resets_per_eval")
    arguments["num_evals"] = (arguments["num_evals"] - 1) * resets + 1
    if algorithm == "ppo":
        arguments["num_resets_per_eval"] = 1
    networks = importlib.import_module(f"brax.training.agents.{algorithm}.networks")
    factory = getattr(networks, f"make_{algorithm}_networks")
    arguments["network_factory"] = functools.partial(
        factory, **arguments.pop("network_factory", {})
    )

    def progress(env_steps: int, metrics: dict[str, Any]) -> None:
        curve.append(
            {
                "env_steps": int(env_steps),
                "return": float(metrics["eval/episode_reward"]),
                "wall_seconds": round(time.perf_counter() - start, 3),
                **{f"{what}_seconds": round(x, 3) for what, x in clock.seconds.items()},
            }
        )
        if curve[-1]["return"] >= target:
            raise _Done

    def pmap(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        return clock.compiled(jax.pmap(function, **options), "train")

    start = time.perf_counter()
    try:
        with (
            mock.patch.object(train, "jax", _StandIn(pmap)),
            mock.patch.object(train.acting, "Evaluator", _timed(train.acting.Evaluator, clock)),
        ):
            train.train(
                environment,
                **arguments,
                wrap_env_fn=_wrapper(),
                max_devices_per_host=1,
                deterministic_eval=True,
                progress_fn=progress,
                seed=seed,
            )
    except _Done:
        pass
    return {
        "task": task,
        "algorithm": f"brax_{algorithm}",
        "seed": seed,
        "target": target,
        "reached": curve[-1]["return"] >= target,
        "best": max(point["return"] for point in curve),
        **{key: value for key, value in curve[-1].items() if key != "return"},
        "curve": curve,
        "impl": resolve_impl(impl),
        "settings": settings,
        "changes": changes or {},
        **_provenance(),
    }


def _timed(evaluator: Callable[..., Any], clock: Clock) -> Callable[..., Any]:
    """Makes brax's evaluators such that `clock` counts their compilation and their episodes."""

    def make(*args: Any, **kwargs: Any) -> Any:
        with clock.time("compile"):  # of a reset, which is also run once
            made = evaluator(*args, **kwargs)
        made._generate_eval_unroll = clock.compiled(made._generate_eval_unroll, "eval")
        return made

    return make


def _tuned(task: str, algorithm: str) -> dict[str, Any]:
    from mujoco_playground.config import dm_control_suite_params as tuned

    return getattr(tuned, f"brax_{algorithm}_config")(task.removeprefix(PREFIX)).to_dict()


# ------------------------------------------------------------------------------------- brax itself


class _Done(Exception):
    """The target is reached: `train` knows no other way to end early."""


class _Reached(Exception):
    """`train` is about to call the epoch for the first time."""

    def __init__(self, epoch: Any, arguments: tuple[Any, ...]) -> None:
        super().__init__()
        self.epoch, self.arguments = epoch, arguments


class _StandIn:
    """What brax's `train` modules see as `jax`: JAX, with `pmap` replaced, and with
    `device_put_replicated`, which brax 0.14.2 calls and JAX 0.10 has removed."""

    def __init__(self, pmap: Callable[..., Any]) -> None:
        self.pmap = pmap

    def device_put_replicated(self, tree: Any, devices: Sequence[Any]) -> Any:
        """Copies, on a leading axis over `devices`; the mapped functions distribute them."""
        return jax.tree.map(lambda leaf: jnp.stack([leaf] * len(devices)), tree)

    def __getattr__(self, name: str) -> Any:
        return getattr(jax, name)


def _brax(algorithm: str) -> Any:
    """The module of `train`, which its package hides behind the function of the same name."""
    if algorithm not in ("sac", "ppo"):
        raise ConfigError(f"algorithm={algorithm} is unknown: choose sac or ppo.")
    try:
        return importlib.import_module(f"brax.training.agents.{algorithm}.train")
    except ModuleNotFoundError as error:
        raise ConfigError("peers need brax: run `pip install 'fpmd-mjx[peers]'`.") from error


def _environment(task: str, impl: Impl) -> Any:
    """Playground's own environment, with the physics that this program's adapter would choose."""
    from mujoco_playground import registry

    name = task.removeprefix(PREFIX)
    if name == task or name not in registry.ALL_ENVS:
        raise ConfigError(f"task={task} is not one of {PREFIX}..., which peers train on.")
    return registry.load(name, config_overrides={"impl": resolve_impl(impl)})


def _episode_length(task: str) -> int:
    from mujoco_playground import registry

    return int(registry.get_default_config(task.removeprefix(PREFIX)).episode_length)


def _wrapper() -> Callable[..., Any]:
    from mujoco_playground import wrapper

    return wrapper.wrap_for_brax_training


def _provenance() -> dict[str, Any]:
    found = logs.provenance()
    return {
        **found,
        "versions": found["versions"] | {name: version(name) for name in ("brax", "playground")},
        "date": time.strftime("%Y-%m-%d"),
        "arguments": sys.argv[1:],
        # A program found there is loaded, not compiled: compile_seconds are then of no compilation.
        "compile_cache": jax.config.jax_compilation_cache_dir,  # type: ignore[attr-defined]
    }


# --------------------------------------------------------------------------------- command line


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        result = args.run(args)
    except ConfigError as error:
        print(f"peers: {error}", file=sys.stderr)
        return 2
    logs.write_json(args.output, result)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fpmd_mjx.bench.peers")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    speed = commands.add_parser("speed", help="env steps per second at equal settings, in turns")
    defaults = Settings("")
    speed.add_argument("task", help=f"{PREFIX}CheetahRun, for example")
    for name in ("num_envs", "batch", "updates", "replay", "warmup", "chunk"):
        speed.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(defaults, name))
    speed.add_argument("--hidden", type=int, nargs="+", default=defaults.hidden)
    speed.add_argument("--layer-norm", action="store_true")
    speed.add_argument("--actor", choices=("fpmd_r", "fpmd_m"), default="fpmd_m")
    speed.add_argument("--candidates", type=int, nargs="+", default=(1, 8, 32))
    speed.add_argument("--flow-steps", type=int, default=1, help="network calls of a sample")
    speed.add_argument("--rounds", type=int, default=5)
    speed.set_defaults(run=_speed)

    goal = commands.add_parser("return", help="a peer's time to a return, with tuned settings")
    goal.add_argument("task")
    goal.add_argument("target", type=float)
    goal.add_argument("--algorithm", choices=("sac", "ppo"), default="sac")
    goal.add_argument("--seed", type=int, default=0)
    goal.add_argument(
        "--change", nargs="*", default=[], metavar="key=value", help="of the tuned settings"
    )
    goal.set_defaults(run=_return)
    for command in (speed, goal):
        command.add_argument("--impl", choices=("jax", "warp", "auto"), default="auto")
        command.add_argument("--output", type=Path, required=True, help="the JSON to write")
    return parser


def _speed(args: argparse.Namespace) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(Settings)]
    chosen = {name: getattr(args, name) for name in names} | {"hidden": tuple(args.hidden)}
    result = compare(Settings(**chosen), args.actor, args.candidates, args.flow_steps, args.rounds)
    for row in result["results"]:
        q1, ratio, q3 = (row["ratio_to_brax"][what] for what in ("q1", "median", "q3"))
        print(
            f"{row['name']:36} {row['env_steps_per_second']:12,.0f} env steps/s "
            f"{row['updates_per_second']:10,.1f} updates/s  {ratio:.2f} "
            f"of brax's ({q1:.2f} to {q3:.2f})  compiled in {row['compile_seconds']:.0f} s"
        )
    return result


def _return(args: argparse.Namespace) -> dict[str, Any]:
    changes = {}
    for change in args.change:
        key, equals, value = change.partition("=")
        if not equals:
            raise ConfigError(f"'{change}' is not a change: write key=value.")
        changes[key] = yaml.safe_load(value)
    result = time_to_return(args.task, args.target, args.algorithm, args.seed, changes, args.impl)
    parts = ", ".join(
        f"{result[f'{what}_seconds']:.1f} s {word}"
        for what, word in (
            ("train", "training"),
            ("compile", "compilation"),
            ("eval", "evaluation"),
            ("wall", "in all"),
        )
    )
    print(
        f"{result['algorithm']} {'reached' if result['reached'] else 'did not reach'} "
        f"{args.target:g} (best {result['best']:.1f}) in {result['env_steps']:,} env steps: {parts}"
    )
    return result


if __name__ == "__main__":
    sys.exit(main())
