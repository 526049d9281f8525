"""The deployed policy: one pure function from the task's observation to the task's action.

Evaluation, the original simulators, videos and latency all act through it, so the measured policy
is the deployed one.
"""

from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from envs.base import TaskSpec
from envs.wrappers import rescale
from fpmd_mjx.algorithms import make_algorithm
from fpmd_mjx.algorithms.base import ONE_STEP, Algorithm, Mode, Policy
from fpmd_mjx.config.schema import Config, ConfigError
from fpmd_mjx.data import normalizer
from fpmd_mjx.program import Program
from fpmd_mjx.seeds import over_seeds


@dataclass(frozen=True)
class Layout:
    """The observations and actions of a policy; checkpoints store it.

    Attributes:
        task: name of the task.
        obs_shape: of an observation: (obs_size,), or (frames, height, width, 3) uint8.
        action_low: (action_size,), the task's units.
        action_high: (action_size,), the task's units.
        control_dt: seconds that an action lasts.
    """

    task: str
    obs_shape: tuple[int, ...]
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    control_dt: float

    @classmethod
    def of(cls, spec: TaskSpec) -> "Layout":
        low, high = (tuple(map(float, x)) for x in (spec.action_low, spec.action_high))
        return cls(spec.name, spec.obs_shape, low, high, spec.control_dt)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "Layout":
        """The layout that `to_json` wrote."""
        fields: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
        return cls(**fields)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class PolicySpec:
    """The static part of a policy: its algorithm and its layout."""

    algorithm: Algorithm
    layout: Layout

    @classmethod
    def of(cls, config: Config, layout: Layout) -> "PolicySpec":
        """From the config of a run, without building an environment."""
        algorithm = make_algorithm(config, layout.obs_shape, len(layout.action_low))
        return cls(algorithm, layout)

    @classmethod
    def of_program(cls, program: Program) -> "PolicySpec":
        return cls(program.algorithm, Layout.of(program.vector.env.spec))

    def check(self, mode: Mode) -> None:
        """Raises ConfigError if the algorithm has no such mode."""
        if mode.kind not in self.algorithm.modes:
            known = ", ".join(x.replace("steps", "steps=K") for x in self.algorithm.modes)
            raise ConfigError(
                f"mode={mode} is not possible with this algorithm: choose one of {known}."
            )


class Deployed(struct.PyTreeNode):
    """A deployed policy, made by `deployable`. Leaves may have a leading seed axis under vmap."""

    policy: Policy
    spec: PolicySpec = struct.field(pytree_node=False)
    mode: Mode = struct.field(pytree_node=False)

    def __call__(self, obs: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Normalises, encodes, acts, clips and rescales.

        Args:
            obs: (batch, *obs_shape), in the task's units.
            key: for the noise of the mode; `one_step` needs none.

        Returns:
            Actions (batch, action_size) float32 in the task's units.

        Raises:
            ValueError: if a mode with randomness gets no key.
        """
        if key is None and self.mode != ONE_STEP:
            raise ValueError(f"mode={self.mode} draws random numbers: give it a key.")
        layout = self.spec.layout
        obs = normalizer.apply(self.policy.normalizer, obs)
        action = self.spec.algorithm.act(self.policy, obs, key, self.mode)
        low, high = (jnp.asarray(x, jnp.float32) for x in (layout.action_low, layout.action_high))
        return rescale(action, low, high)


def deployable(policy: Policy, spec: PolicySpec, mode: Mode = ONE_STEP) -> Deployed:
    """Returns the policy of one seed as a function of observations. Work that does not depend on
    them is done here, once.

    Raises:
        ConfigError: if the algorithm has no such mode.
    """
    spec.check(mode)
    return Deployed(spec.algorithm.deploy(policy, mode), spec, mode)


def deployed_seeds(program: Program, mode: Mode, policy: Policy) -> Deployed:
    """The deployed policies of all seeds: leaves (seeds, ...)."""
    spec = PolicySpec.of_program(program)
    return over_seeds(lambda one: deployable(one, spec, mode))(policy)


def act_seeds(deployed: Deployed, obs: jax.Array, keys: jax.Array) -> jax.Array:
    """Actions of all seeds: obs (seeds, n, ...), keys (seeds,) -> (seeds, n, action_size) in the
    task's units."""
    return over_seeds(lambda one, obs, key: one(obs, key))(deployed, obs, keys)
