"""Speed of this program and of brax's SAC at equal settings, in turns.

Both sides have the environments, batch, updates, networks, replay and warm-up of the cell's config;
what FPMD alone has is varied: every one of the cell's `variants` is a side of its own.
"""

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import jax

from fpmd_mjx import config as configs
from fpmd_mjx.bench import fresh
from fpmd_mjx.bench.peers import brax
from fpmd_mjx.bench.plan import Cell
from fpmd_mjx.bench.timing import Quartiles, interleave, rates, ratio
from fpmd_mjx.config import Config
from fpmd_mjx.program import make_program
from fpmd_mjx.train import seed_array, use_compile_cache


@dataclass(frozen=True)
class Side:
    """One of those compared. env_steps, updates: of one chunk; compile_seconds: of tracing and
    compiling its epoch."""

    name: str
    env_steps: int
    updates: int
    compile_seconds: float


@dataclass
class Chunk:
    """`Measured` over a training state: one epoch from where the last one ended."""

    side: Side
    epoch: Callable[[Any], Any]
    state: Any

    def run(self) -> None:
        self.state = jax.block_until_ready(self.epoch(self.state))


def measure(
    cell: Cell,
    rounds: int,
    empty_caches: bool,
    add: Callable[[Mapping[str, Quartiles | float]], None],
) -> None:
    """Compares on the cell's task, in a process of its own, and hands metrics to `add`: first
    seconds of compilation, and at the end, or where it is interrupted, the rates over the rounds
    until then. rounds, empty_caches: as of a `Plan`."""
    sides: list[Side] = []
    seconds: list[list[float]] = []
    with fresh.caches(empty_caches) as env:
        try:
            with closing(
                fresh.run(compare, cell.overrides, cell.variants, rounds, env=env)
            ) as records:
                for record in records:
                    if "seconds" in record:
                        seconds.append(record["seconds"])
                        continue
                    side = Side(**record)
                    sides.append(side)
                    add({f"peers-speed.{side.name}.compile_seconds": side.compile_seconds})
        finally:
            if seconds:
                add(metrics(sides, seconds))


def metrics(sides: list[Side], seconds: list[list[float]]) -> dict[str, Quartiles | float]:
    """Rates of each side, and its env steps per second over those of the first one, in quartiles
    over the rounds; seconds: [round][side]."""
    first, *_ = turns = list(zip(*seconds, strict=True))
    found: dict[str, Quartiles | float] = {}
    for side, own in zip(sides, turns, strict=True):
        name = f"peers-speed.{side.name}"
        found |= {f"peers-speed.{metric}": x for metric, x in rates(side, own).items()}
        if side is not sides[0]:
            # All sides' chunks are as many env steps.
            found[f"{name}.ratio_to_{sides[0].name}"] = ratio(first, own)
    return found


def compare(
    overrides: Sequence[str], variants: Sequence[Sequence[str]], rounds: int
) -> Iterator[fresh.Record]:
    """Yields the fields of each `Side` once it is compiled, brax's first, and then the seconds of
    each round. overrides, variants: of a `Cell`."""
    use_compile_cache()
    chunks = [brax_sac(configs.load([*overrides]))]
    yield vars(chunks[0].side)
    for variant in variants:
        chunks.append(fpmd(configs.load([*overrides, *variant])))
        yield vars(chunks[-1].side)
    for seconds in interleave(chunks, rounds):
        yield {"seconds": seconds}


def fpmd(config: Config) -> Chunk:
    """This program, past its warm-up."""
    program = make_program(config)
    options: Any = program.compiler_options
    init = program.traced_init.lower().compile(options)
    start = time.perf_counter()
    epoch = jax.jit(program.train_epoch, donate_argnums=0).lower(program.traced_init.out_info)
    compiled = epoch.compile(options)
    side = Side(
        name=f"{config.actor.name}.flow_steps_{config.actor.flow_steps}"
        f".candidates_{config.improvement.candidates}.policy_delay_{config.learn.policy_delay}",
        env_steps=config.iterations_per_epoch * config.steps_per_iteration,
        updates=config.iterations_per_epoch * config.learn.updates,
        compile_seconds=time.perf_counter() - start,
    )
    chunk = Chunk(side, lambda state: compiled(state)[0], init(seed_array(config)))
    while not program.ready(chunk.state):
        chunk.run()
    return chunk


class _Reached(Exception):
    """`train` is about to call its epoch for the first time."""

    def __init__(self, epoch: Any, arguments: tuple[Any, ...]) -> None:
        super().__init__()
        self.epoch, self.arguments = epoch, arguments


def _first_epoch(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`jax.pmap`, but of the training epoch it raises `_Reached` when called."""
    mapped = jax.pmap(function, **options)
    if function.__name__ != "training_epoch":
        return mapped

    def reached(*arguments: Any) -> Any:
        raise _Reached(mapped, arguments)

    return reached


def brax_sac(config: Config) -> Chunk:
    """brax's SAC, past its warm-up: its own `training_epoch`, compiled with XLA's own options, as
    for everyone who uses brax.

    Raises ConfigError if Playground has no such task.
    """
    env_steps = config.iterations_per_epoch * config.steps_per_iteration
    try:
        with brax.driven("sac", _first_epoch) as module:
            module.train(**_sac_settings(config, env_steps))
    except _Reached as reached:
        mapped, (*state, keys) = reached.epoch, reached.arguments
    start = time.perf_counter()
    compiled = mapped.lower(*state, keys).compile()
    side = Side(
        name="brax_sac",
        env_steps=env_steps,
        updates=config.iterations_per_epoch * config.learn.updates,
        compile_seconds=time.perf_counter() - start,
    )

    def epoch(state: Any) -> Any:
        *state, keys = state
        *state, _ = compiled(*state, keys)
        return *state, jax.random.split(keys[0], 1)

    return Chunk(side, epoch, (*state, keys))


def _sac_settings(config: Config, env_steps: int) -> dict[str, Any]:
    """The arguments of brax's `train` that make its epoch `env_steps` long."""
    warmup = -(-config.warmup_steps // config.num_envs) * config.num_envs
    return {
        **brax.environment(config.task.name, config.task.impl),
        "num_timesteps": warmup + env_steps,
        "min_replay_size": warmup,
        "max_replay_size": config.learn.replay,
        "num_envs": config.num_envs,
        "batch_size": config.learn.batch,
        "grad_updates_per_step": config.learn.updates,
        "network_factory": functools.partial(
            brax.network_factory("sac"),
            hidden_layer_sizes=tuple(config.actor.hidden),
            policy_network_layer_norm=config.actor.layer_norm,
            q_network_layer_norm=config.critic.layer_norm,
        ),
        "normalize_observations": config.learn.normalize_obs,
        "num_eval_envs": 1,  # made, never run
        "seed": config.seed,
    }
