"""What algorithms with a flow policy share: acting, deployment, and what both need."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import jax
import jax.numpy as jnp
import optax

from fpmd_mjx.algorithms import noise
from fpmd_mjx.algorithms.base import (
    CriticLearner,
    Mode,
    Networks,
    Params,
    Policy,
    actor_schedule,
    best_of_n,
)
from fpmd_mjx.algorithms.flow_policy import FlowPolicy, make_flow_policy
from fpmd_mjx.algorithms.noise import Noise
from fpmd_mjx.config.schema import Config
from fpmd_mjx.data.counter import Counter
from fpmd_mjx.nn import optim

ONE_STEP_ERROR_STEPS = 20
"""Network calls of the sample that `actor/one_step_error` compares the one-step action with."""


class FlowLearner(CriticLearner):
    """actor, actor_opt: the flow policy and its Adam; noise: exploration noise."""

    actor: Params
    actor_opt: optax.OptState
    noise: Noise


@dataclass(frozen=True)
class FlowAlgorithm:
    """Methods are those of `base.Algorithm`; settings: the algorithm's own, a `FlowConfig`."""

    config: Config
    settings: Any
    networks: Networks
    flow: FlowPolicy
    actor_adam: optax.GradientTransformation
    critic_adam: optax.GradientTransformation

    @classmethod
    def make(cls, config: Config, networks: Networks) -> Self:
        """The algorithm with the settings in `config.algorithm`."""
        settings: Any = config.algorithm
        return cls(
            config=config,
            settings=settings,
            networks=networks,
            flow=make_flow_policy(settings, config.actor, networks),
            actor_adam=optim.guarded_adam(actor_schedule(config.actor)),
            critic_adam=optim.guarded_adam(config.critic.lr),
        )

    @property
    def modes(self) -> tuple[str, ...]:
        return ("one_step", "one_step_sampled", "best_of_n", "steps")

    @property
    def candidates(self) -> int:
        return self.settings.candidates

    @property
    def policy_delay(self) -> int:
        return self.settings.policy_delay

    def first(self, key: jax.Array) -> dict[str, Any]:
        """The fields of a `FlowLearner` at the start of a run."""
        actor_key, critic_key, encoder_key = jax.random.split(key, 3)
        actor, critic = self.flow.init(actor_key), self.networks.critic.init(critic_key)
        encoder = self.networks.encoder.init(encoder_key)
        return {
            "encoder": encoder,
            "critic": critic,
            "target_critic": jax.tree.map(jnp.copy, critic),  # donated state: no buffer twice
            "critic_opt": self.critic_adam.init((encoder, critic)),
            "actor": actor,
            "actor_opt": self.actor_adam.init(actor),
            "noise": noise.init(self.settings.noise),
        }

    def annealed(self, now: Noise, count: Counter) -> Noise:
        """The noise after `count` updates."""
        due = count.is_multiple_of(self.settings.noise.interval)
        return jax.tree.map(partial(jnp.where, due), noise.anneal(now, self.settings.noise), now)

    def best(
        self, policy: Policy, features: jax.Array, key: jax.Array, noise_std: jax.Array | float
    ) -> tuple[jax.Array, jax.Array]:
        """The best of N noisy actions, and its Q."""
        return best_of_n(
            self.flow,
            policy.actor,
            partial(self.networks.critic.value, policy.critic),
            features,
            key,
            candidates=self.settings.candidates,
            steps=self.settings.flow_steps,
            noise_std=noise_std,
        )

    def policy(self, learner: Any) -> Policy:
        return Policy(learner.encoder, learner.actor, learner.critic)

    def deploy(self, policy: Policy, mode: Mode) -> Policy:
        if mode.kind != "one_step":
            return policy
        return policy.replace(actor=self.flow.deploy(policy.actor))

    def act(self, deployed: Policy, obs: jax.Array, key: jax.Array | None, mode: Mode) -> jax.Array:
        features = self.networks.encoder.features(deployed.encoder, obs)
        if mode.kind == "one_step":
            return self.flow.one_step(deployed.actor, features)
        assert key is not None
        if mode.kind == "best_of_n":
            return self.best(deployed, features, key, 0.0)[0]
        return self.flow.sample(deployed.actor, features, key, mode.steps)

    def skipped(self, learner: Any) -> jax.Array:
        return optim.skipped(learner.actor_opt, learner.critic_opt)

    def metrics(self, learner: Any, obs: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        features = self.networks.encoder.features(learner.encoder, obs)
        error = self.flow.one_step_error(learner.actor, features, key, ONE_STEP_ERROR_STEPS)
        return {"actor/one_step_error": error}
