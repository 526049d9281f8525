"""Counters beyond 2^31 without 64-bit integers, which JAX leaves off by default."""

import jax
import jax.numpy as jnp
from flax import struct


class Counter(struct.PyTreeNode):
    """high * 2^32 + low, both uint32 scalars."""

    high: jax.Array
    low: jax.Array

    @classmethod
    def zero(cls) -> "Counter":
        return cls(jnp.zeros((), jnp.uint32), jnp.zeros((), jnp.uint32))

    def add(self, amount: int | jax.Array) -> "Counter":
        """amount: below 2^32."""
        low = self.low + jnp.asarray(amount, jnp.uint32)
        return Counter(self.high + (low < self.low).astype(jnp.uint32), low)

    def at_least(self, bound: int) -> jax.Array:
        high, low = (jnp.uint32(part) for part in divmod(bound, 2**32))
        return (self.high > high) | ((self.high == high) & (self.low >= low))

    def is_multiple_of(self, divisor: int) -> jax.Array:
        """Whether the count divides by `divisor`, which is below 2^16 (keeps products in range)."""
        base = 2**32 % divisor
        rest = (self.high % divisor) * base + self.low % divisor
        return rest % divisor == 0

    def __int__(self) -> int:
        return int(self.high) * 2**32 + int(self.low)
