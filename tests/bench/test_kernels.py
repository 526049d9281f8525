"""What a compiled program launches, and where it waits; compiled for the device at hand."""

import importlib.util
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from fpmd_mjx.bench import kernels
from fpmd_mjx.bench.plan import Cell
from fpmd_mjx.config import load as configs
from fpmd_mjx.config.schema import ConfigError
from fpmd_mjx.program import Program

from ..toy import Corridor, build


def hlo(function: Any) -> str:
    return kernels.hlo(jax.jit(function), jnp.ones((8, 8)))


def test_launches_are_what_is_left_when_all_that_can_be_is_fused() -> None:
    def step(c: jax.Array, _: None) -> tuple[jax.Array, None]:
        return jnp.sort(c @ c) * 2.0 + 1.0, None

    def count(function: Any) -> int:
        return kernels.launches(hlo(function))

    assert count(lambda x: x + 1.0) == 1
    assert count(lambda x: jnp.tanh(x) * 2.0 + x) == 1
    assert count(lambda x: jnp.sum(x)) == 1  # the sum within it is no other
    once = count(lambda x: step(x, None)[0])
    assert 3 <= once <= 5  # the product, the sort, what follows it
    loop = count(lambda x: jax.lax.scan(step, x, None, 50)[0])
    assert once < loop <= once + 8  # with its counter, condition and copies, once


def test_launches_of_a_loop_are_those_of_its_body() -> None:
    def body(_: Any, x: jax.Array) -> jax.Array:
        return jnp.sort(x @ x) * 2.0

    def loop(x: jax.Array) -> jax.Array:
        return jnp.sort(jax.lax.fori_loop(0, 50, body, jnp.sort(x)))

    once = kernels.launches(hlo(lambda x: body(0, x)))
    assert once <= kernels.loop_launches(hlo(loop)) <= once + 2  # its counter, a copy
    with pytest.raises(ValueError, match="unpack"):
        kernels.loop_launches(hlo(lambda x: body(0, x)))


def test_conditions_and_loops_of_unknown_length_wait() -> None:
    def product(x: jax.Array) -> jax.Array:
        return jnp.sort(x @ x)

    def choose(x: jax.Array) -> jax.Array:
        return jax.lax.cond(x[0, 0] > 0, product, jnp.sort, x)

    def search(x: jax.Array) -> jax.Array:
        return jax.lax.while_loop(lambda x: x[0, 0] < 1e9, product, x)

    assert kernels.waits(hlo(product)) == 0
    assert kernels.waits(hlo(choose)) == 1
    assert kernels.waits(hlo(search)) == 1
    assert kernels.waits(hlo(lambda x: jax.lax.fori_loop(0, 50, lambda _, x: product(x), x))) == 0
    assert kernels.waits(hlo(lambda x: search(choose(x)))) == 2


def test_an_update_is_counted() -> None:
    few = kernels.update_kernels(build(Corridor(), "algorithm=fpmd_m", "actor.hidden=[16]"))
    many = kernels.update_kernels(
        build(Corridor(), "algorithm=fpmd_m", "actor.hidden=[16,16,16,16]")
    )
    assert 20 < few < many - 3


def test_only_a_delayed_policy_makes_an_update_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [compiled(monkeypatch, f"algorithm.policy_delay={delay}") for delay in (1, 2)]
    assert [each["update_waits"] for each in found] == [0, 1]
    for each in found:
        assert each["update"] > 20
        assert each["vector_step"] > 5
        assert each["epoch_state_bytes"] > 0
        # no second replay, nor learner
        assert each["epoch_temporary_bytes"] < each["epoch_state_bytes"] / 2


def compiled(monkeypatch: pytest.MonkeyPatch, *overrides: str) -> dict[str, Any]:
    """`kernels.compiled` for the device at hand."""

    def program(config: Any) -> Program:
        return build(Corridor(), *overrides, "learn.replay=100000")

    monkeypatch.setattr(kernels, "make_program", program)
    here = SimpleNamespace(devices=jax.devices())
    monkeypatch.setattr(kernels.topologies, "get_topology_desc", lambda *_, **__: here)
    [found] = kernels.compiled(configs.to_yaml(configs.load([])))
    return found


def test_without_the_plugin_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'fpmd-mjx\[gpu\]'"):
        kernels.kernels(Cell("", configs.load([])))


def test_the_process_needs_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """It compiles on the CPU, and does not look for a driver."""

    def run(function: Any, text: str, *, env: dict[str, str]) -> Iterator[dict[str, Any]]:
        assert (function, configs.from_yaml(text)) == (kernels.compiled, configs.load([]))
        assert env == {"JAX_PLATFORMS": "cpu", "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1"}
        yield {"update": 3}

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(kernels.fresh, "run", run)
    assert kernels.kernels(Cell("", configs.load([]))) == {"kernels.update": 3}
