"""Seconds of training to a given return: this program, and its peers. Compilation, training and
evaluation are timed separately."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any
from unittest import mock

import jax

from fpmd_mjx.bench import fresh, target
from fpmd_mjx.bench.peers import brax, sbx
from fpmd_mjx.bench.peers.clock import Clock
from fpmd_mjx.bench.plan import Cell
from fpmd_mjx.config import load as configs
from fpmd_mjx.run.compile import use_compile_cache


def measure(cell: Cell, empty_caches: bool, add: target.Add) -> None:
    """Trains each side to the cell's target, one after the other, each in a new process.

    Passes their metrics to `add`. empty_caches: as of a `Plan`.
    """
    config = cell.config
    name = f"peers-return.{config.algorithm.name}"
    text = configs.to_yaml(config)
    goal = (cell.target, cell.modes)
    target.timed(name, cell, empty_caches, add, target.train, text, *goal)
    for peer in cell.peers:
        name, function, arguments = _run_of(peer, cell)
        target.timed(f"peers-return.{name}", cell, empty_caches, add, function, *arguments)


def _run_of(
    peer: str, cell: Cell
) -> tuple[str, Callable[..., Iterator[fresh.Record]], tuple[Any, ...]]:
    """The peer's name in metrics, the function that trains it, and its arguments."""
    config, goal = cell.config, (cell.config.seed, cell.target)
    if peer in sbx.ALGORITHMS:
        return peer, sbx.train, (peer, config.task.name, config.eval.episodes, *goal)
    divisor = cell.peer_divisor
    arguments = (peer, config.task.name, config.task.impl, divisor, *goal)
    return brax.side_name(peer, divisor), train, arguments


def train(
    algorithm: str, task: str, impl: str | None, divisor: int, seed: int, goal: float
) -> Iterator[fresh.Record]:
    """Trains brax's `algorithm` to the end of its run, and yields after every evaluation.

    Args:
        algorithm: sac or ppo.
        task: a name such as playground/CheetahRun.
        impl: the physics backend, as in a task's config.
        divisor: of the tuned sizes.
        seed: of the run.
        goal: mean return of an evaluation from which on a record is `reached`.

    Yields:
        Dicts of return; returns, of each seed, by mode; seeds; reached; env_steps; train_seconds,
        with initial resets and the replay's warm-up; compile_seconds; eval_seconds. Seconds are
        those so far.

    Raises:
        ConfigError: if Playground has no such task, or no tuned settings for it.
    """
    use_compile_cache()
    clock = Clock()
    records: SimpleQueue[fresh.Record | None] = SimpleQueue()

    def progress(env_steps: int, found: dict[str, Any]) -> None:
        mean = float(found["eval/episode_reward"])
        records.put(
            {
                "return": mean,
                "returns": {"mean_action": [mean]},
                "seeds": [seed],
                "reached": mean >= goal,
                "env_steps": int(env_steps),
                **{f"{what}_seconds": x for what, x in clock.seconds.items()},
            }
        )

    settings = tuned_settings(algorithm, task, impl, divisor) | {
        "seed": seed,
        "progress_fn": progress,
    }
    # `train` blocks and calls back. Its records are yielded here while it runs in a thread. It
    # cannot be stopped from here: the consumer ends the process.
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(_train, algorithm, settings, clock)
        ended.add_done_callback(lambda _: records.put(None))
        yield from iter(records.get, None)
        ended.result()


def tuned_settings(algorithm: str, task: str, impl: str | None, divisor: int) -> dict[str, Any]:
    """The arguments of brax's `train` with Playground's tuned settings, evaluated with mean
    actions.

    The settings have num_evals evaluations, and PPO resets all environments num_resets_per_eval
    times between two of them. Here an evaluation follows each of these resets, which does not
    change training. brax's SAC has no such resets, but is evaluated as often. divisor: of the tuned
    sizes.
    """
    settings = brax.as_tuned(algorithm, task, impl, divisor)
    resets = settings.pop("num_resets_per_eval")
    settings["num_evals"] = (settings["num_evals"] - 1) * resets + 1
    if algorithm == "ppo":
        settings["num_resets_per_eval"] = 1
    return settings | {"deterministic_eval": True}


def _train(algorithm: str, settings: dict[str, Any], clock: Clock) -> None:
    """Runs `train`; `clock` counts its seconds."""

    def pmap(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        return clock.compiled(jax.pmap(function, **options), "train")

    with brax.driven(algorithm, pmap) as module:
        evaluator = _timed_evaluator(module.acting.Evaluator, clock)
        with mock.patch.object(module.acting, "Evaluator", evaluator):
            module.train(**settings)


def _timed_evaluator(make: Callable[..., Any], clock: Clock) -> Callable[..., Any]:
    """`make`, which makes brax's evaluators, with their compilation and episodes counted."""

    def timed(*args: Any, **kwargs: Any) -> Any:
        with clock.time("compile"):  # compiles a reset, and runs it once
            made = make(*args, **kwargs)
        made._generate_eval_unroll = clock.compiled(made._generate_eval_unroll, "eval")
        return made

    return timed
