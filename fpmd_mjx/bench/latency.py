"""The time to choose an action, in every evaluation mode and with policies of other algorithms.

It is measured from observations on the device to actions on the device, one call after the other as
in a control loop. The parameters are untrained, which does not change the time.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from fpmd_mjx.algorithms.base import Mode, Policy, best_of_n
from fpmd_mjx.algorithms.flow_algorithm import FlowAlgorithm
from fpmd_mjx.bench.references import Diffusion, Gaussian
from fpmd_mjx.bench.timing import Quartiles, ratio
from fpmd_mjx.data import normalizer
from fpmd_mjx.evaluation.deploy import act_seeds, deployed_seeds
from fpmd_mjx.nn.networks import MLP, FlowNet
from fpmd_mjx.program import Program
from fpmd_mjx.seeds import over_seeds

BATCHES = (1, 64, 4096)
MODES = ("one_step", "one_step_sampled", "best_of_n", "steps=4", "steps=20")

DIFFUSION_STEPS = 20
DIFFUSION_CANDIDATES = 32

CHUNK_SECONDS = 0.05
"""Approximate duration of calls that are timed together, long against the clock's resolution."""

Choose = Callable[[Any, jax.Array, jax.Array], jax.Array]
"""(policy, obs (1, batch, ...), keys (1,)) -> actions (1, batch, action_size)."""


@dataclass(frozen=True)
class Selection:
    """A way to choose actions. network_calls: those for one action; each twin critic counts."""

    name: str
    choose: Choose
    policy: Any
    network_calls: int


class Latency:
    """Calls of one selection at one batch size; see `Measured`."""

    env_steps = updates = 0

    def __init__(self, selection: Selection, batch: int, obs_shape: tuple[int, ...]) -> None:
        """Compiles, and chooses the number of calls that are timed together."""
        self.name = f"latency.{selection.name}.batch_{batch}"
        self._policy = selection.policy
        shape, key = (1, batch, *obs_shape), jax.random.key(batch)
        self._obs = (
            jax.random.bits(key, shape, jnp.uint8)
            if len(obs_shape) > 1  # images
            else jax.random.normal(key, shape, jnp.float32)
        )
        self._keys = jax.random.split(jax.random.key(0), 1)
        self._count = 0

        # XLA removes the key from a mode without randomness.
        def choose(policy: Any, obs: jax.Array, keys: jax.Array, count: jax.Array) -> jax.Array:
            return selection.choose(
                policy, obs, jax.vmap(jax.random.fold_in, (0, None))(keys, count)
            )

        self._choose = jax.jit(choose)
        self.calls = 1
        self.run()
        start, calls = time.perf_counter(), 0
        while time.perf_counter() - start < CHUNK_SECONDS:  # a single call may be delayed
            self.run()
            calls += 1
        self.calls = max(1, calls)

    def run(self) -> None:
        for _ in range(self.calls):
            self._count += 1
            action = self._choose(self._policy, self._obs, self._keys, np.uint32(self._count))
            action.block_until_ready()  # the next observation follows from the action

    def milliseconds(self, seconds: list[float]) -> list[float]:
        """Milliseconds of one call, from the seconds of chunks."""
        return [1e3 * x / self.calls for x in seconds]


def selections(program: Program) -> list[Selection]:
    """The modes of the program's policy, and other policies with networks of the same size."""
    algorithm = cast(FlowAlgorithm, program.algorithm)
    actor, networks = program.config.actor, algorithm.networks
    policy = _policy(program, algorithm.flow.init)
    found = []
    for name, calls in zip(MODES, _network_calls(algorithm), strict=True):
        deployed = jax.jit(partial(deployed_seeds, program, Mode.parse(name)))(policy)
        found.append(Selection(name, act_seeds, deployed, calls))
    shape = tuple(actor.hidden), actor.activation, actor.layer_norm, networks.dtype, networks.trunk
    mlp = MLP(shape[0], 2 * networks.action_size, *shape[1:])
    gaussian = Gaussian(mlp, networks.encoder.size)
    diffusion = Diffusion(FlowNet(*shape), networks.encoder.size, networks.action_size)

    def features(policy: Policy, obs: jax.Array) -> jax.Array:
        return networks.encoder.features(policy.encoder, normalizer.apply(policy.normalizer, obs))

    def mean(policy: Policy, obs: jax.Array, key: jax.Array) -> jax.Array:
        return gaussian.mean(policy.actor, features(policy, obs))

    def best_of_diffusion(policy: Policy, obs: jax.Array, key: jax.Array) -> jax.Array:
        return best_of_n(
            diffusion,
            policy.actor,
            partial(networks.critic.value, policy.critic),
            features(policy, obs),
            key,
            candidates=DIFFUSION_CANDIDATES,
            steps=DIFFUSION_STEPS,
            noise_std=0.0,
        )[0]

    return [
        *found,
        Selection("gaussian", over_seeds(mean), _policy(program, gaussian.init), 1),
        Selection(
            "diffusion",
            over_seeds(best_of_diffusion),
            _policy(program, diffusion.init),
            DIFFUSION_CANDIDATES * (DIFFUSION_STEPS + 2),
        ),
    ]


def _network_calls(algorithm: FlowAlgorithm) -> list[int]:
    """The network calls of each of `MODES`."""
    calls = {"one_step": 1, "one_step_sampled": 1}
    calls["best_of_n"] = algorithm.settings.candidates * (algorithm.settings.flow_steps + 2)
    return [calls.get(mode) or Mode.parse(mode).steps for mode in MODES]


def _policy(program: Program, init: Callable[[jax.Array], object]) -> Policy:
    """A policy of one seed with the actor that `init` makes: leaves (1, ...)."""

    def policy(key: jax.Array) -> Policy:
        actor_key, critic_key, encoder_key = jax.random.split(key, 3)
        return Policy(
            encoder=program.algorithm.networks.encoder.init(encoder_key),
            actor=init(actor_key),
            critic=program.algorithm.networks.critic.init(critic_key),
            normalizer=program.normalizer(),
        )

    return jax.jit(jax.vmap(policy))(jax.random.split(jax.random.key(program.config.seed), 1))


def measurements(program: Program) -> tuple[list[Latency], dict[str, int]]:
    """The work to time, and the network calls per action of each selection."""
    found = selections(program)
    obs_shape = program.vector.env.spec.obs_shape
    chunks = [Latency(each, batch, obs_shape) for batch in BATCHES for each in found]
    return chunks, {f"latency.{each.name}.network_calls": each.network_calls for each in found}


def results(chunks: list[Latency], seconds: list[list[float]]) -> dict[str, Quartiles]:
    """Milliseconds of each chunk, and their ratio to one_step at the same batch size and round.

    seconds: [chunk][round].
    """
    ms = {
        chunk.name: chunk.milliseconds(times) for chunk, times in zip(chunks, seconds, strict=True)
    }
    found: dict[str, Quartiles] = {}
    for name, times in ms.items():
        one_step = f"latency.one_step.{name.rpartition('.')[2]}"
        found[f"{name}_ms"] = Quartiles.of(times)
        if name != one_step:
            found[f"{name}_to_one_step"] = ratio(times, ms[one_step])
    return found
