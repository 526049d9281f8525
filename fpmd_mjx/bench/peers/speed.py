"""Speed of this program and of brax's SAC and PPO, in turns.

At equal settings, brax's SAC has the environments, batch, updates, networks, replay and warm-up of
the cell's config. Settings that only FPMD has are varied: each of the cell's `variants` is a side.
SAC and PPO with Playground's tuned settings are further sides.
"""

import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, cast
from unittest import mock

import jax

from fpmd_mjx.bench import fresh
from fpmd_mjx.bench.peers import brax
from fpmd_mjx.bench.plan import Cell
from fpmd_mjx.bench.timing import Quartiles, interleave, rates, ratio
from fpmd_mjx.config import load as configs
from fpmd_mjx.config.schema import Config, FpmdConfig
from fpmd_mjx.program import make_program
from fpmd_mjx.run.compile import use_compile_cache
from fpmd_mjx.seeds import seed_array

BASE = "brax_sac"
"""The side that all others are compared with: brax's SAC at equal settings."""


@dataclass(frozen=True)
class Side:
    """One side of the comparison. env_steps, updates: those of one chunk; compile_seconds: to trace
    and compile its epoch."""

    name: str
    env_steps: int
    updates: int
    compile_seconds: float


@dataclass
class Chunk:
    """A `Runnable` that trains one epoch, from where the last one ended."""

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
    """Compares the sides on the cell's task in a new process, and passes metrics to `add`.

    Seconds of compilation come first. The rates come at the end, or after an interruption with the
    rounds so far. rounds, empty_caches: as of a `Plan`.
    """
    sides: list[Side] = []
    seconds: list[list[float]] = []
    with fresh.caches(empty_caches) as env:
        try:
            with closing(
                fresh.run(
                    compare,
                    cell.overrides,
                    cell.variants,
                    cell.peers,
                    cell.peer_divisor,
                    rounds,
                    env=env,
                )
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
    """Rates of each side, and the ratio of its env steps per second to those of `BASE`, if `BASE`
    is a side: quartiles over the rounds. seconds: [round][side]."""
    found: dict[str, Quartiles | float] = {}
    speeds: dict[str, list[float]] = {}
    for side, own in zip(sides, zip(*seconds, strict=True), strict=True):
        found |= {f"peers-speed.{metric}": x for metric, x in rates(side, own).items()}
        speeds[side.name] = [side.env_steps / x for x in own]
    base = speeds.pop(BASE, None)
    if base is not None:
        for name, speed in speeds.items():
            found[f"peers-speed.{name}.ratio_to_{BASE}"] = ratio(speed, base)
    return found


def compare(
    overrides: Sequence[str],
    variants: Sequence[Sequence[str]],
    peers: Sequence[str],
    divisor: int,
    rounds: int,
) -> Iterator[fresh.Record]:
    """Yields the fields of each `Side` once it is compiled, brax's first, and then the seconds of
    each round. Arguments: as of a `Cell` and a `Plan`.

    Raises ConfigError before anything is compiled if a peer cannot train on the task.
    """
    use_compile_cache()
    config = configs.load([*overrides])
    chunks: list[Chunk] = []
    for peer in [make_peer(name, config, divisor) for name in peers]:
        chunks.append(brax_chunk(peer))
        yield vars(chunks[-1].side)
    for variant in variants:
        chunks.append(fpmd(configs.load([*overrides, *variant])))
        yield vars(chunks[-1].side)
    for seconds in interleave(chunks, rounds):
        yield {"seconds": seconds}


def fpmd(config: Config) -> Chunk:
    """This program, after its warm-up."""
    program, settings = make_program(config), cast(FpmdConfig, config.algorithm)
    options: Any = program.compiler_options
    init = program.traced_init.lower().compile(options)
    start = time.perf_counter()
    epoch = jax.jit(program.train_epoch, donate_argnums=0).lower(program.traced_init.out_info)
    compiled = epoch.compile(options)
    side = Side(
        name=f"{config.algorithm.name}.flow_steps_{settings.flow_steps}"
        f".candidates_{settings.candidates}.policy_delay_{settings.policy_delay}",
        env_steps=config.iterations_per_epoch * config.steps_per_iteration,
        updates=config.iterations_per_epoch * config.learn.updates,
        compile_seconds=time.perf_counter() - start,
    )
    chunk = Chunk(side, lambda state: compiled(state)[0], init(seed_array(config)))
    while not program.ready(chunk.state):
        chunk.run()
    return chunk


class _Reached(Exception):
    """Raised when `train` is about to call its epoch for the first time."""

    def __init__(self, epoch: Any, arguments: tuple[Any, ...]) -> None:
        super().__init__()
        self.epoch, self.arguments = epoch, arguments


def _first_epoch(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`jax.pmap`, but calling the mapped training epoch raises `_Reached`."""
    mapped = jax.pmap(function, **options)
    if function.__name__ != "training_epoch":
        return mapped

    def reached(*arguments: Any) -> Any:
        raise _Reached(mapped, arguments)

    return reached


@dataclass(frozen=True)
class Peer:
    """A side of brax before it is compiled. algorithm: sac or ppo; settings: the arguments of its
    `train`; env_steps, updates: those of one call of its training epoch."""

    name: str
    algorithm: str
    settings: dict[str, Any]
    env_steps: int
    updates: int


def make_peer(peer: str, config: Config, divisor: int) -> Peer:
    """A side of brax, with at least as many env steps in an epoch as `config` has.

    PPO's updates do not compare with those of other sides, and count as 0.

    peer: sac has the settings of `config`. sac_tuned and ppo have Playground's, with sizes divided
    by `divisor`; PPO's resets between its epochs are left out.

    Raises ConfigError if Playground has no such task, or no tuned settings for it.
    """
    algorithm = peer.removesuffix("_tuned")
    if peer == "sac":
        name, settings = BASE, _equal_settings(config)
    else:
        name = brax.side_name(peer, divisor)
        settings = brax.as_tuned(algorithm, config.task.name, config.task.impl, divisor)
        del settings["num_evals"], settings["num_resets_per_eval"]
    step = settings["action_repeat"]
    if algorithm == "ppo":
        step *= math.prod(settings[x] for x in ("batch_size", "num_minibatches", "unroll_length"))
        updates, warmup = 0, 0
    else:
        step *= settings["num_envs"]
        updates = settings["grad_updates_per_step"]
        warmup = step * _ceil(settings["min_replay_size"], settings["num_envs"])
    steps = _ceil(config.iterations_per_epoch * config.steps_per_iteration, step)
    settings |= {"num_timesteps": warmup + steps * step, "seed": config.seed}
    return Peer(name, algorithm, settings, steps * step, steps * updates)


def _ceil(amount: int, step: int) -> int:
    """The least number of steps that make `amount` or more."""
    return -(-amount // step)


def brax_chunk(peer: Peer) -> Chunk:
    """brax's `training_epoch`, after the warm-up of a replay. Compiled with XLA's default options,
    as brax does it."""
    try:
        with (
            brax.driven(peer.algorithm, _first_epoch) as module,
            mock.patch.object(module.acting, "Evaluator"),  # making one compiles a reset
        ):
            module.train(**peer.settings)
    except _Reached as reached:
        mapped, (*state, keys) = reached.epoch, reached.arguments
    start = time.perf_counter()
    compiled = mapped.lower(*state, keys).compile()
    compile_seconds = time.perf_counter() - start

    def epoch(state: Any) -> Any:
        *state, keys = state
        *state, _ = compiled(*state, keys)
        return *state, jax.random.split(keys[0], 1)

    side = Side(peer.name, peer.env_steps, peer.updates, compile_seconds)
    return Chunk(side, epoch, (*state, keys))


def _equal_settings(config: Config) -> dict[str, Any]:
    """The arguments of brax's SAC that make it do the same work as `config`."""
    return {
        **brax.environment(config.task.name, config.task.impl),
        "action_repeat": config.task.action_repeat,
        "min_replay_size": _ceil(config.warmup_steps, config.num_envs) * config.num_envs,
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
    }
