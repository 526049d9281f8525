"""The least that an update can take: what is counted, against closed forms."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import pytest

from fpmd_mjx.bench import ceilings, floor
from fpmd_mjx.program import Program
from fpmd_mjx.run.memory import size

from ..toy import Corridor, build


def flops(
    function: Callable[..., jax.Array],
    *shapes: tuple[int, ...],
    branch: Callable[..., float] = max,
) -> float:
    return floor.flops(jax.make_jaxpr(function)(*map(jnp.zeros, shapes)), branch)


def test_products_count_each_multiplication_and_addition() -> None:
    assert flops(jnp.matmul, (3, 5), (5, 7)) == 2 * 3 * 5 * 7
    assert flops(jnp.matmul, (2, 3, 5), (2, 5, 7)) == 2 * 2 * 3 * 5 * 7


def test_other_operations_count_each_number() -> None:
    assert flops(lambda x: jnp.tanh(x * x), (3, 4)) == 24
    assert flops(lambda x: jnp.sum(x, 0), (3, 4)) == 12
    assert flops(lambda x: x.T.reshape(-1), (3, 4)) == 0


def test_loops_count_their_length_and_open_ones_once() -> None:
    def scan(x: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda x, _: (jnp.sin(x), None), x, None, 6)[0]

    def loop(x: jax.Array) -> jax.Array:
        return jax.lax.while_loop(lambda x: (x < 1).all(), lambda x: jnp.exp(x), x)

    assert flops(scan, (4,)) == 24
    assert flops(jax.jit(scan), (4,)) == 24
    assert flops(loop, (4,)) == 4


def test_one_branch_of_a_condition_counts() -> None:
    def choose(x: jax.Array) -> jax.Array:
        return jax.lax.cond(x[0] > 0, lambda x: jnp.sin(jnp.cos(x)), jnp.sin, x)

    assert flops(choose, (4,), branch=min) == 4
    assert flops(choose, (4,), branch=max) == 8


def toy(*overrides: str) -> Program:
    return build(Corridor(), *overrides)


def test_an_update_is_its_forward_and_backward_passes() -> None:
    """Of networks with one layer so wide that the rest is small, FPMD-R with one candidate."""
    width, batch = 2048, 64
    words = ("algorithm=fpmd_r", f"learn.batch={batch}", "algorithm.candidates=1")
    words += ("algorithm.flow_steps=1", f"actor.hidden=[{width}]", f"critic.hidden=[{width}]")
    once = toy(*words, "algorithm.policy_delay=1")
    spec = once.vector.env.spec
    inputs, outputs = 2 * width * (spec.obs_size + spec.action_size), 2 * width
    embedded = 2 * width * 16  # the same in all of a sample, and there multiplied once
    # Samples of the policy, their values and those of the target; then the losses, whose backward
    # passes are two products a layer, and one where nothing is before it.
    critics = batch * 2 * (2 * (inputs + outputs) + 2 * inputs + 3 * outputs)
    loss = batch * 3 * (inputs + embedded + outputs)
    policy = batch * (inputs + outputs) + loss
    found = floor.update_flops(once)
    assert critics + policy < found
    # Activations, the embedding, and Adam.
    assert found == pytest.approx(critics + policy, rel=0.2)
    delayed = floor.update_flops(toy(*words, "algorithm.policy_delay=4"))
    assert found - delayed == pytest.approx(0.75 * loss, rel=0.2)
    assert floor.update_flops(toy(*words, "algorithm.policy_delay=1", "seeds=2")) == 2 * found


def test_the_floor_is_the_slower_of_arithmetic_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    program = toy("algorithm.policy_delay=1", "learn.updates=3", "seeds=2")
    monkeypatch.setattr(ceilings, "product", lambda dtype: 1e30)
    monkeypatch.setattr(ceilings, "copy", lambda: 1e6)
    found = floor.floor(program)
    learner = size(program.traced_init.out_info.learner)
    spec = program.vector.env.spec
    assert found["floor.update_bytes"] == 2 * learner + 4 * 2 * 8 * (
        2 * spec.obs_size + spec.action_size + 3
    )
    update = found["floor.update_bytes"] / 1e6
    assert found["floor.learn_updates_per_second"] == pytest.approx(2 / update)
    step = found["floor.vector_step_bytes"] / 1e6
    assert found["floor.program_env_steps_per_second"] == pytest.approx(2 * 4 / (3 * update + step))
    monkeypatch.setattr(ceilings, "product", lambda dtype: 1.0)
    found = floor.floor(program)
    assert found["floor.learn_updates_per_second"] == pytest.approx(2 / found["floor.update_flops"])
