"""TD3 (arXiv 1802.09477) behind the algorithm protocol: a deterministic policy that climbs the
critic, with a target of its own."""

from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax

from fpmd_mjx.algorithms.base import (
    CriticLearner,
    Mean,
    Metrics,
    Mode,
    Networks,
    Params,
    Policy,
    actor_schedule,
    critic_step,
    delayed,
    target_step,
)
from fpmd_mjx.config.schema import AlgorithmConfig, Config, count, real
from fpmd_mjx.data.counter import Counter
from fpmd_mjx.data.replay import Batch
from fpmd_mjx.nn import optim
from fpmd_mjx.nn.critics import td_target
from fpmd_mjx.nn.networks import MLP


@dataclass
class Td3Config(AlgorithmConfig):
    """The settings of the paper."""

    policy_delay: int = count(2)
    noise_std: float = real(0.1, least=0)
    target_noise_std: float = real(0.2, least=0)
    target_noise_clip: float = real(0.5, least=0)


class Learner(CriticLearner):
    """actor, target_actor, actor_opt: of the policy."""

    actor: Params
    target_actor: Params
    actor_opt: optax.OptState


@dataclass(frozen=True)
class Td3:
    """See `base.Algorithm`."""

    config: Config
    settings: Td3Config
    networks: Networks
    net: MLP
    actor_adam: optax.GradientTransformation
    critic_adam: optax.GradientTransformation
    candidates = 1

    @property
    def policy_delay(self) -> int:
        return self.settings.policy_delay

    @property
    def modes(self) -> tuple[str, ...]:
        return ("one_step",)

    def init(self, key: jax.Array) -> Learner:
        actor_key, critic_key, encoder_key = jax.random.split(key, 3)
        actor = self.net.init(actor_key, jnp.zeros(self.networks.encoder.size))
        critic = self.networks.critic.init(critic_key)
        encoder = self.networks.encoder.init(encoder_key)
        return Learner(
            encoder=encoder,
            critic=critic,
            target_critic=jax.tree.map(jnp.copy, critic),
            critic_opt=self.critic_adam.init((encoder, critic)),
            actor=actor,
            target_actor=jax.tree.map(jnp.copy, actor),
            actor_opt=self.actor_adam.init(actor),
        )

    def _action(self, actor: Params, features: jax.Array) -> jax.Array:
        return jnp.tanh(cast(jax.Array, self.net.apply(actor, features)))

    def explore(self, learner: Learner, obs: jax.Array, key: jax.Array) -> jax.Array:
        action = self._action(learner.actor, self.networks.encoder.features(learner.encoder, obs))
        return action + self.settings.noise_std * jax.random.normal(key, action.shape)

    def update(
        self, learner: Learner, batch: Batch, key: jax.Array, count: Counter
    ) -> tuple[Learner, Metrics]:
        settings, encoder = self.settings, self.networks.encoder
        noise_key, obs_key, next_key = jax.random.split(key, 3)
        obs = encoder.augment(batch.obs, obs_key)
        next_obs = encoder.augment(batch.next_obs, next_key)
        next_obs = encoder.features(learner.encoder, next_obs)

        action = self._action(learner.target_actor, next_obs)
        noise = settings.target_noise_std * jax.random.normal(noise_key, action.shape)
        noise = jnp.clip(noise, -settings.target_noise_clip, settings.target_noise_clip)
        next_action = jnp.clip(action + noise, -1.0, 1.0)
        next_q = self.networks.critic.value(learner.target_critic, next_obs, next_action)
        target = td_target(batch.reward, batch.discount, next_q)
        learner, metrics = critic_step(self.networks, self.critic_adam, learner, obs, batch, target)

        def policy_step(learner: Learner) -> tuple[Learner, Metrics]:
            features = jax.lax.stop_gradient(encoder.features(learner.encoder, obs))

            def loss_of(actor: Params) -> jax.Array:
                action = self._action(actor, features)
                return -jnp.mean(self.networks.critic.values(learner.critic, features, action)[0])

            loss, gradient = jax.value_and_grad(loss_of)(learner.actor)
            step, actor_opt = self.actor_adam.update(gradient, learner.actor_opt, learner.actor)
            actor = optax.apply_updates(learner.actor, step)
            tau = self.config.critic.tau
            learner = learner.replace(
                actor=actor,
                actor_opt=actor_opt,
                target_actor=optax.incremental_update(actor, learner.target_actor, tau),
            )
            return target_step(learner, tau), {"actor/loss": Mean.of(loss)}

        learner, of_policy = delayed(policy_step, learner, count.add(1), settings.policy_delay)
        return learner, metrics | of_policy

    def policy(self, learner: Learner) -> Policy:
        return Policy(learner.encoder, learner.actor, learner.critic)

    def deploy(self, policy: Policy, mode: Mode) -> Policy:
        del mode
        return policy

    def act(self, deployed: Policy, obs: jax.Array, key: jax.Array | None, mode: Mode) -> jax.Array:
        del key, mode
        features = self.networks.encoder.features(deployed.encoder, obs)
        return self._action(deployed.actor, features)

    def skipped(self, learner: Learner) -> jax.Array:
        return optim.skipped(learner.actor_opt, learner.critic_opt)

    def metrics(self, learner: Learner, obs: jax.Array, key: jax.Array) -> dict[str, Any]:
        del learner, obs, key
        return {}


def make_td3(config: Config, networks: Networks) -> Td3:
    actor = config.actor
    net = MLP(
        tuple(actor.hidden), networks.action_size, actor.activation, actor.layer_norm,
        networks.dtype, networks.trunk,
    )  # fmt: skip
    return Td3(
        config=config,
        settings=cast(Td3Config, config.algorithm),
        networks=networks,
        net=net,
        actor_adam=optim.guarded_adam(actor_schedule(actor)),
        critic_adam=optim.guarded_adam(config.critic.lr),
    )
