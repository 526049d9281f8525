"""The program and its parts, each compiled alone: physics, collect, learn, program.

A chunk of each has the iterations of one epoch in one compiled program, and donates its state as
training does. So their seconds compare directly.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from envs.wrappers import VectorState
from fpmd_mjx.bench.timing import Measured, Quartiles, ratio
from fpmd_mjx.program import Program, Sums, TrainState
from fpmd_mjx.seeds import Stream, seed_array, split, stream_keys


def physics(
    program: Program, state: tuple[VectorState, jax.Array]
) -> tuple[tuple[VectorState, jax.Array], None]:
    """The vector steps of an epoch with random actions; state: environments, keys (seeds,)."""
    config = program.config

    def step(state: tuple[VectorState, jax.Array], _: None) -> tuple[Any, None]:
        env, keys = state
        keys, action_keys = split(keys, 2)
        env, _outcome = program.vector.step(env, program.random_actions(action_keys))
        return (env, keys), None

    return jax.lax.scan(step, state, None, config.iterations_per_epoch * config.learn.collect_steps)


def collect(program: Program, state: TrainState) -> tuple[TrainState, Sums]:
    """The collecting of an epoch, without learning."""
    state, episodes = _iterate(program, program.collect, state)
    return state, jax.tree.map(lambda x: jnp.sum(x, 0), episodes)


def learn(program: Program, state: TrainState) -> tuple[TrainState, dict[str, jax.Array]]:
    """The learning of an epoch, without collecting."""
    state, metrics = _iterate(program, program.learn, state)
    return state, {name: mean.over(0).value for name, mean in metrics.items()}


def _iterate(program: Program, part: Callable[[TrainState], Any], state: TrainState) -> Any:
    return jax.lax.scan(
        lambda state, _: part(state), state, None, program.config.iterations_per_epoch
    )


PARTS: dict[str, Callable[..., Any]] = {
    "collect": collect,
    "learn": learn,
    "program": Program.train_epoch,
}
"""(program, state) -> state, metrics."""

PHASES = ("physics", *PARTS)


def trains(names: tuple[str, ...]) -> bool:
    """Whether any of `names`, from `PHASES`, needs the state of a training run."""
    return any(name in PARTS for name in names)


@dataclass(frozen=True)
class Phase:
    """One chunk of a `Workload`; see `Measured`."""

    name: str
    env_steps: int
    updates: int
    run: Callable[[], None]


class Workload:
    """A program on the device, whose phases take turns.

    collect, learn and program share one state, so measuring takes no more memory than training. Its
    replay is filled and its policy acts. physics has its own environments with random actions.
    """

    def __init__(
        self,
        program: Program,
        names: tuple[str, ...],
        parts: Mapping[str, Callable[..., Any]] = PARTS,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Compiles the phases `names`, from `PHASES`, and collects until learning can begin.

        parts: functions in place of those in `PARTS`, by the same names; options: compiler options,
        added to the program's.
        """
        self.program = program
        lowered: dict[str, jax.stages.Lowered] = {}
        if "physics" in names:
            seeds = jax.ShapeDtypeStruct((program.config.seeds,), jnp.uint32)
            start = jax.jit(self._physics_init)
            lowered["physics_init"] = start.lower(seeds)
            lowered["physics"] = _donating(physics, program).lower(start.eval_shape(seeds))
        if trains(names):
            state = program.traced_init.out_info
            lowered["init"] = program.traced_init.lower()
            for name in parts:
                if name in names or name == "collect":  # collect also fills the replay
                    lowered[name] = _donating(parts[name], program).lower(state)
        chosen: Any = {**program.compiler_options, **(options or {})}
        with ThreadPoolExecutor() as pool:
            compiled = pool.map(lambda part: part.compile(chosen), lowered.values())
            self.compiled = dict(zip(lowered, compiled, strict=True))
        if "physics" in names:
            self._physics = self.compiled["physics_init"](seed_array(program.config))
        if trains(names):
            self._state: TrainState = self.compiled["init"](seed_array(program.config))
            while not (program.ready(self._state) and program.warm(self._state)):
                self._state, _ = self.compiled["collect"](self._state)

    def phase(self, name: str) -> Measured:
        """name: one of those that the workload was made for."""
        config = self.program.config
        iterations = config.iterations_per_epoch * config.seeds
        return Phase(
            name,
            env_steps=0 if name == "learn" else iterations * config.steps_per_iteration,
            updates=iterations * config.learn.updates if name in ("learn", "program") else 0,
            run=self._run_physics if name == "physics" else partial(self._run, name),
        )

    def _run(self, name: str) -> None:
        self._state, metrics = self.compiled[name](self._state)
        jax.block_until_ready((self._state, metrics))

    def _run_physics(self) -> None:
        self._physics, _ = self.compiled["physics"](self._physics)
        jax.block_until_ready(self._physics)

    def _physics_init(self, seeds: jax.Array) -> tuple[VectorState, jax.Array]:
        keys, env_keys = split(stream_keys(Stream.BENCHMARK, seeds, 0), 2)
        return self.program.vector.init(env_keys), keys


def _donating(part: Callable[..., Any], program: Program) -> Any:
    return jax.jit(partial(part, program), donate_argnums=0)


def derived(seconds: dict[str, list[float]]) -> dict[str, Quartiles]:
    """Ratios of the program to its parts, as far as they were measured.

    seconds: [round], by phase. efficiency: the time of physics and learning as a share of the
    program's; the rest is acting and the loop. efficiency_with_acting: the same for collect and
    learn. rate_to_physics, rate_to_collect: env steps per second as a share of the part's alone.
    """
    found: dict[str, Quartiles] = {}
    if "program" not in seconds:
        return found
    program = seconds["program"]
    for name, suffix in (("physics", ""), ("collect", "_with_acting")):
        if name not in seconds:
            continue
        found[f"program.rate_to_{name}"] = ratio(seconds[name], program)
        if "learn" in seconds:
            both = [a + b for a, b in zip(seconds[name], seconds["learn"], strict=True)]
            found[f"program.efficiency{suffix}"] = ratio(both, program)
    return found
