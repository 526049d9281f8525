"""The policy as it acts."""

import re
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from fpmd_mjx.config.schema import ConfigError
from fpmd_mjx.program import Policy, Program
from fpmd_mjx.seeds import over_seeds


@dataclass(frozen=True)
class Mode:
    """kind: one_step | one_step_sampled | best_of_n | steps; steps: network calls of a sample."""

    kind: str
    steps: int = 1

    @classmethod
    def parse(cls, text: str) -> "Mode":
        """`one_step`, `one_step_sampled`, `best_of_n` or `steps=K`; otherwise ConfigError."""
        match = re.fullmatch(r"steps=([1-9]\d*)", text)
        if match:
            return cls("steps", int(match.group(1)))
        if text in ("one_step", "one_step_sampled", "best_of_n"):
            return cls(text)
        raise ConfigError(
            f"mode={text} is unknown: choose one_step, one_step_sampled, best_of_n or steps=K."
        )

    def __str__(self) -> str:
        return f"steps={self.steps}" if self.kind == "steps" else self.kind


ONE_STEP = Mode("one_step")


def prepare(program: Program, mode: Mode, policy: Policy) -> Policy:
    """The policy as `act` takes it: what does not depend on observations is done here, once."""
    if mode.kind != "one_step":
        return policy
    return policy.replace(actor=over_seeds(program.agent.actor.deploy)(policy.actor))


def act(program: Program, mode: Mode, policy: Policy, obs: jax.Array, keys: jax.Array) -> jax.Array:
    """Actions of all seeds: obs (seeds, n, ...) -> (seeds, n, action_size) in [-1, 1].

    policy: what `prepare` made for this mode.
    """
    actor = program.agent.actor

    def one_seed(policy: Policy, obs: jax.Array, key: jax.Array) -> jax.Array:
        obs = program.agent.see(policy.encoder, policy.normalizer, obs)
        if mode.kind == "one_step":
            return actor.one_step(policy.actor, obs)
        if mode.kind == "best_of_n":
            return program.agent.act(policy.actor, policy.critic, obs, key)[0]
        return actor.sample(policy.actor, obs, key, mode.steps)

    return jnp.clip(over_seeds(one_seed)(policy, obs, keys), -1.0, 1.0)
