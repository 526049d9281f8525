"""The least time of an update and of a vector step (a roofline): their arithmetic and the bytes
they must move, at the rates of the device's largest products and copies."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core

from fpmd_mjx.bench import ceilings
from fpmd_mjx.bench.kernels import batch, update_arguments, update_kernels
from fpmd_mjx.program import Program
from fpmd_mjx.run.memory import size

ARITHMETIC = frozenset(
    [
        *("abs", "add", "add_any", "div", "max", "min", "mul", "neg", "sub"),
        *("cos", "erf", "exp", "exp2", "expm1", "integer_pow", "log", "log1p", "logistic", "pow"),
        *("rsqrt", "sin", "sqrt", "square", "tanh"),
    ]
)
REDUCTIONS = frozenset(("argmax", "cumsum", "reduce_max", "reduce_min", "reduce_sum"))


def floor(program: Program) -> dict[str, float]:
    """Metrics of `fpmd bench floor`; amounts are of all seeds.

    An update reads the learner and a batch. It writes the critics and their moments, and once in
    `policy_delay` updates also the policy, its moments and the targets. A vector step reads the
    networks that act, reads and writes the simulations, and writes a row of the replay.
    """
    config = program.config
    state = program.traced_init.out_info
    changed = size((state.learner.critic, state.learner.critic_opt))
    now_and_then = size(state.learner) - changed
    batch_bytes = config.seeds * size(batch(program))
    delay = program.algorithm.policy_delay
    networks = [state.learner.actor]
    if program.algorithm.candidates > 1:
        networks.append(state.learner.critic)
    found = {
        "update_flops": update_flops(program),
        "update_kernels": update_kernels(program),
        "update_bytes": size(state.learner) + batch_bytes + changed + now_and_then / delay,
        "vector_step_flops": flops(jax.make_jaxpr(program.vector_step)(state), max),
        "vector_step_bytes": size(networks)
        + 2 * size(state.env.env)
        + size(state.replay.rows) / config.replay_rows,
        "device_flops_per_second": ceilings.product(config.learn.dtype),
        "device_bytes_per_second": ceilings.copy(),
    }

    def seconds(what: str) -> float:
        return max(
            found[f"{what}_{unit}"] / found[f"device_{unit}_per_second"]
            for unit in ("flops", "bytes")
        )

    update, step = seconds("update"), seconds("vector_step")
    iteration = config.learn.updates * update + config.learn.collect_steps * step
    found["learn_updates_per_second"] = config.seeds / update
    found["program_env_steps_per_second"] = config.seeds * config.steps_per_iteration / iteration
    return {f"floor.{name}": float(value) for name, value in found.items()}


def update_flops(program: Program) -> float:
    """FLOPs of the mean update: that of the policy counts once in `policy_delay` updates."""
    config = program.config
    traced = jax.make_jaxpr(program.algorithm.update)(*update_arguments(program))
    without, always = flops(traced, min), flops(traced, max)
    return config.seeds * (without + (always - without) / program.algorithm.policy_delay)


def flops(jaxpr: Any, branch: Callable[..., float]) -> float:
    """Arithmetic of a program: 2 for each multiply-add of a matrix product or a convolution, 1 for
    each number that another operation computes.

    branch: min or max, chooses among the branches of a condition. A loop without a fixed length,
    such as a solver's, counts once. The kernels of MJX-Warp are not counted.
    """
    total = 0.0
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        name = equation.primitive.name
        inner = [flops(x, branch) for x in _subprograms(equation.params)]
        if name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2 * equation.outvars[0].aval.size * math.prod(shape[i] for i in contracted)
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval
            outputs = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
            total += 2 * equation.outvars[0].aval.size * kernel.size // outputs
        elif name in ARITHMETIC:
            total += equation.outvars[0].aval.size
        elif name in REDUCTIONS:
            total += equation.invars[0].aval.size
        elif name == "cond":
            total += branch(inner)
        elif name == "scan":
            total += equation.params["length"] * sum(inner)
        else:
            total += sum(inner)
    return total


def _subprograms(parameters: dict[str, Any]) -> Iterator[Any]:
    for value in parameters.values():
        for each in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(each, (core.Jaxpr, core.ClosedJaxpr)):
                yield each
