"""Evaluation of a policy in the program (MJX) and in the real simulators (C MuJoCo).

Modes, always named in results: `one_step` starts at x = 0, one network call, no critic, no noise:
what is deployed; `one_step_sampled` starts at noise; `best_of_n` is the arg-max of min-Q over as
many candidates as in training; `steps=K` is a sample of K network calls.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

import envs
from envs.base import State
from envs.real import RealEnv, RealInPixels, RepeatedReal
from envs.wrappers import flatten, is_sound, unflatten
from fpmd_mjx.collect import split
from fpmd_mjx.config import ConfigError
from fpmd_mjx.program import Policy, Program, camera
from fpmd_mjx.seeds import over_seeds

T = TypeVar("T")


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


def rollout(
    program: Program, mode: Mode, episodes: int, policy: Policy, keys: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns and lengths of `episodes` whole episodes a seed in MJX, (seeds, episodes) each.

    A simulation that is no longer finite ends its episode. Pure: this is what gets jitted.
    """
    return watched(program, mode, episodes, policy, keys, lambda state: None)[:2]


def watched(
    program: Program,
    mode: Mode,
    episodes: int,
    policy: Policy,
    keys: jax.Array,
    watch: Callable[[State], T],
) -> tuple[jax.Array, jax.Array, T]:
    """`rollout`, and what `watch` makes of the states (seeds, episodes, ...) before each step:
    leaves (steps, ...), steps to the time limit whenever the episodes end."""
    vector = program.vector
    policy = prepare(program, mode, policy)
    keys, reset_keys = split(keys, 2)
    state = vector.reset(reset_keys, episodes)
    lead = (keys.shape[0], episodes)

    def step(carry: Any, _: None) -> tuple[Any, T]:
        state, keys, alive, ret, length = carry
        seen = watch(state)
        keys, act_keys = split(keys, 2)
        state = vector.physics(state, act(program, mode, policy, state.obs, act_keys))
        alive &= unflatten(is_sound(flatten(state)), lead[0])
        ret += jnp.where(alive, state.reward, 0.0)
        length += alive
        return (state, keys, alive & ~state.terminated, ret, length), seen

    start = (state, keys, jnp.ones(lead, bool), jnp.zeros(lead), jnp.zeros(lead, jnp.int32))
    (_, _, _, ret, length), seen = jax.lax.scan(step, start, None, vector.episode_steps)
    return ret, length * vector.env.spec.action_repeat, seen


def real_rollout(
    program: Program,
    mode: Mode,
    episodes: int,
    policy: Policy,
    seed: int,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[np.ndarray, np.ndarray]:
    """`rollout` in gymnasium or dm_control itself: returns and lengths, (seeds, episodes).

    All episodes advance together, so that the policy is called once a step. seed: of the first
    episode's reset; report: called with steps done and steps in all.
    """
    vector = program.vector
    spec = vector.env.spec
    seeds = jax.tree.leaves(policy.actor)[0].shape[0]
    simulators = [real(program) for _ in range(seeds * episodes)]
    obs = np.stack([sim.reset(seed + i) for i, sim in enumerate(simulators)])
    ret, length = np.zeros(len(simulators)), np.zeros(len(simulators), int)
    alive = np.ones(len(simulators), bool)
    policy = jax.jit(partial(prepare, program, mode))(policy)
    policy_step = jax.jit(partial(act, program, mode))
    keys = jax.vmap(jax.random.key)(jnp.arange(seeds, dtype=jnp.uint32) + seed)
    next_keys = jax.jit(partial(split, count=2))
    for t in range(vector.episode_steps):
        keys, act_keys = next_keys(keys)
        seen = obs.reshape(seeds, episodes, *obs.shape[1:])
        action = np.asarray(policy_step(policy, seen, act_keys))
        native = spec.action_low + (action + 1) * 0.5 * (spec.action_high - spec.action_low)
        for i in np.flatnonzero(alive):
            obs[i], reward, terminated, truncated = simulators[i].step(
                native.reshape(len(simulators), -1)[i]
            )
            ret[i] += reward
            length[i] += spec.action_repeat
            alive[i] = not (terminated or truncated)
        report(t + 1, vector.episode_steps)
        if not alive.any():
            break
    return ret.reshape(seeds, episodes), length.reshape(seeds, episodes)


def real(program: Program) -> RealEnv:
    """The original of the program's task, with its action repeat and observations."""
    spec, pixels = program.vector.env.spec, program.config.pixels
    simulator = envs.make_real(spec.name)
    if spec.action_repeat > 1:
        simulator = RepeatedReal(simulator, spec.action_repeat)
    if spec.images:
        number = camera(pixels).number(spec.name, simulator.model)
        simulator = RealInPixels(simulator, pixels.size, number, pixels.frames)
    return simulator


def interval(x: np.ndarray) -> list[float] | None:
    """95 % Student t interval of the mean of independent values (n,); None for fewer than two."""
    x = np.asarray(x, np.float64)
    if x.size < 2:
        return None
    half = special.stdtrit(x.size - 1, 0.975) * x.std(ddof=1) / np.sqrt(x.size)
    return [float(x.mean() - half), float(x.mean() + half)]


def summarize(returns: np.ndarray, env_steps: int) -> dict[str, Any]:
    """The `eval` entry of summary.json from returns (seeds, episodes).

    std and ci95 are over the means of the seeds, the unit of replication (null for one seed);
    episode_ci95 is over all episodes: the precision at which *these* policies were scored.
    """
    returns = np.asarray(returns, np.float64)
    per_seed = returns.mean(1)
    return {
        "mean": float(per_seed.mean()),
        "std": float(per_seed.std(ddof=1)) if per_seed.size > 1 else None,
        "ci95": interval(per_seed),
        "episode_ci95": interval(returns.ravel()),
        "per_seed": [float(x) for x in per_seed],
        "episodes": int(returns.shape[1]),
        "env_steps": env_steps,
    }
