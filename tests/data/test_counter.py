"""Counter against Python's unbounded integers."""

import random

import jax
import jax.numpy as jnp
import pytest

from fpmd_mjx.data.counter import Counter


def counter(value: int) -> Counter:
    high, low = divmod(value, 2**32)
    return Counter(jnp.asarray(high, jnp.uint32), jnp.asarray(low, jnp.uint32))


def interesting(draw: random.Random, count: int) -> list[int]:
    """Values beside the places where 32-bit arithmetic breaks, and values anywhere below 2^62."""
    edges = [k * 2**32 + d for k in (0, 1, 2, 3, 2**16, 2**30) for d in range(-3, 4)]
    edges += [2**31 + d for d in range(-3, 4)]
    return [v for v in edges if v >= 0] + [draw.randrange(2**62) for _ in range(count)]


def test_starts_at_zero() -> None:
    assert int(Counter.zero()) == 0


def test_adds_like_an_integer() -> None:
    draw = random.Random(0)
    add = jax.jit(lambda c, amount: c.add(amount))
    for start in interesting(draw, 50):
        for amount in (0, 1, 2**31 - 1, 2**31, 2**32 - 1, draw.randrange(2**32)):
            assert int(add(counter(start), jnp.asarray(amount, jnp.uint32))) == start + amount


@pytest.mark.parametrize("amount", [1, 2**31, 2**32 - 1])
def test_adds_python_integers(amount: int) -> None:
    assert int(counter(2**32 - 1).add(amount)) == 2**32 - 1 + amount


def test_counts_across_the_carry_in_a_scan() -> None:
    start = 2**32 - 100
    end, seen = jax.lax.scan(lambda c, _: (c.add(7), c), counter(start), None, length=50)
    assert int(end) == start + 350
    values = [int(h) * 2**32 + int(low) for h, low in zip(seen.high, seen.low, strict=True)]
    assert values == [start + 7 * i for i in range(50)]


def test_compares_like_an_integer() -> None:
    draw = random.Random(1)
    values = interesting(draw, 20)
    counters = jax.vmap(lambda h, low: Counter(h, low))(
        jnp.asarray([v // 2**32 for v in values], jnp.uint32),
        jnp.asarray([v % 2**32 for v in values], jnp.uint32),
    )
    for bound in values:
        got = counters.at_least(bound).tolist()
        assert got == [v >= bound for v in values], bound


@pytest.mark.parametrize("divisor", [1, 2, 3, 7, 250, 256, 4093, 65521, 65535])
def test_divides_like_an_integer(divisor: int) -> None:
    draw = random.Random(2)
    values = interesting(draw, 50)
    values += [v - v % divisor for v in values] + [2**64 - 1, 2**64 - 2**64 % divisor - divisor]
    counters = Counter(
        jnp.asarray([v // 2**32 for v in values], jnp.uint32),
        jnp.asarray([v % 2**32 for v in values], jnp.uint32),
    )
    got = counters.is_multiple_of(divisor).tolist()
    assert got == [v % divisor == 0 for v in values]
    assert any(got)
    assert divisor == 1 or not all(got)
