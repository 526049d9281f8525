"""Evaluation of a policy in the program (MJX) and in the real simulators (C MuJoCo).

Results always name their mode. `one_step` is the deployed action: it starts at x = 0, with one
network call, no critic and no noise. `one_step_sampled` starts at noise. `best_of_n` is the arg-max
of min-Q over as many candidates as in training. `steps=K` is a sample of K network calls.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

import envs
from envs.base import State
from envs.originals import RealEnv, RealInPixels, RepeatedReal
from envs.wrappers import flatten, is_sound, unflatten
from fpmd_mjx.algorithms.base import Mode, Policy
from fpmd_mjx.evaluation.deploy import act_seeds, deployed_seeds
from fpmd_mjx.program import Program, camera
from fpmd_mjx.seeds import Stream, reset_seeds, seed_array, seed_list, split, stream_keys

T = TypeVar("T")


class Episodes(NamedTuple):
    """The results of whole episodes, as arrays of JAX or NumPy.

    returns: (seeds, episodes); lengths: (seeds, episodes) control steps; nonfinite: (seeds,) number
    of episodes that ended because their simulation was no longer finite. Such an episode keeps its
    return until then.
    """

    returns: Any
    lengths: Any
    nonfinite: Any


def rollout(
    program: Program, mode: Mode, episodes: int, policy: Policy, keys: jax.Array
) -> Episodes:
    """Plays `episodes` whole episodes a seed in MJX; pure, to be jitted."""
    return watched(program, mode, episodes, policy, keys, lambda state: None)[0]


def watched(
    program: Program,
    mode: Mode,
    episodes: int,
    policy: Policy,
    keys: jax.Array,
    watch: Callable[[State], T],
) -> tuple[Episodes, T]:
    """Plays as `rollout`, and records `watch(states)` before each step.

    watch: of states with leading axes (seeds, episodes). Its records have leaves (steps, ...), with
    all steps to the time limit, even if the episodes end before it.
    """
    vector = program.vector
    deployed = deployed_seeds(program, mode, policy)
    keys, reset_keys = split(keys, 2)
    state = vector.reset(reset_keys, episodes)
    lead = (keys.shape[0], episodes)

    def step(carry: Any, _: None) -> tuple[Any, T]:
        state, keys, alive, broken, ret, length = carry
        seen = watch(state)
        keys, act_keys = split(keys, 2)
        state = vector.physics(state, act_seeds(deployed, state.obs, act_keys))
        finite = unflatten(is_sound(flatten(state)), lead[0])
        broken |= alive & ~finite
        alive &= finite
        ret += jnp.where(alive, state.reward, 0.0)
        length += alive
        return (state, keys, alive & ~state.terminated, broken, ret, length), seen

    alive, none = jnp.ones(lead, bool), jnp.zeros(lead, bool)
    start = (state, keys, alive, none, jnp.zeros(lead), jnp.zeros(lead, jnp.int32))
    (*_, broken, ret, length), seen = jax.lax.scan(step, start, None, vector.episode_steps)
    length = vector.env.spec.control_steps(length)
    return Episodes(ret, length, jnp.sum(broken, 1, dtype=jnp.int32)), seen


def real_rollout(
    program: Program,
    mode: Mode,
    episodes: int,
    policy: Policy,
    seed: int,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Episodes:
    """`rollout` in gymnasium or dm_control itself.

    All episodes advance together, so the policy is called once a step. seed: of the episodes, as in
    `reset_seeds`; report: called with steps done and steps in all.
    """
    vector = program.vector
    spec = vector.env.spec
    seeds, runs = program.config.seeds, seed_list(program.config)
    simulators = [real(program) for _ in range(seeds * episodes)]
    starts = reset_seeds(runs, seed, episodes).ravel()
    obs = np.stack([sim.reset(int(n)) for sim, n in zip(simulators, starts, strict=True)])
    ret, length = np.zeros(len(simulators)), np.zeros(len(simulators), int)
    alive, broken = np.ones(len(simulators), bool), np.zeros(len(simulators), bool)
    deployed = jax.jit(partial(deployed_seeds, program, mode))(policy)
    act = jax.jit(act_seeds)
    keys = stream_keys(Stream.SCORING_REAL, seed_array(program.config), seed)
    next_keys = jax.jit(partial(split, count=2))
    for t in range(vector.episode_steps):
        keys, act_keys = next_keys(keys)
        seen = obs.reshape(seeds, episodes, *obs.shape[1:])
        action = np.asarray(act(deployed, seen, act_keys)).reshape(len(simulators), -1)
        for i in np.flatnonzero(alive):
            obs[i], reward, terminated, truncated = simulators[i].step(action[i])
            broken[i] = not (np.isfinite(obs[i]).all() and np.isfinite(reward))
            alive[i] = not (terminated or truncated or broken[i])
            if not broken[i]:
                ret[i] += reward
                length[i] += 1
        report(t + 1, vector.episode_steps)
        if not alive.any():
            break
    lead = (seeds, episodes)
    length = np.asarray(spec.control_steps(jnp.asarray(length)))
    return Episodes(ret.reshape(lead), length.reshape(lead), broken.reshape(lead).sum(1))


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
