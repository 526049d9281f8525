"""FPMD+ on one screen: mirror descent along the gradient of Q.

The policy is that of FPMD, a MeanFlow or a rectified flow that acts in one step. The improvement of
the policy differs. FPMD draws candidates from the old policy and weights them with exp(Q / lambda).
The old policy here is N(a, sigma^2 I) around each of its samples a, sigma the exploration noise,
and Q is linear over so short a distance. Then the new policy, pi_old exp(Q / lambda) normalised, is
that Gaussian again, moved by sigma^2 / lambda times the gradient of Q at a. lambda is not a setting
but follows from the KL divergence between the two, |move|^2 / (2 sigma^2), whose mean over the
batch is `radius`. So the scale of Q does not change a step, and no candidate is drawn.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from fpmd_mjx.algorithms import noise
from fpmd_mjx.algorithms.base import (
    Mean,
    Metrics,
    Params,
    Policy,
    critic_step,
    delayed,
    target_step,
)
from fpmd_mjx.algorithms.flow_algorithm import FlowAlgorithm, FlowLearner
from fpmd_mjx.config.schema import FpmdPlusConfig
from fpmd_mjx.data.counter import Counter
from fpmd_mjx.data.replay import Batch
from fpmd_mjx.nn.critics import td_target


class Learner(FlowLearner):
    """average: of the actors of past updates, which evaluation and deployment use."""

    average: Params


@dataclass(frozen=True)
class FpmdPlus(FlowAlgorithm):
    """FPMD-R+ or FPMD-M+."""

    settings: FpmdPlusConfig

    @property
    def candidates(self) -> int:
        return 1

    def init(self, key: jax.Array) -> Learner:
        first = self.first(key)
        average = jax.tree.map(jnp.copy, first["actor"])  # donated state: no buffer twice
        return Learner(**first, average=average)

    def update(
        self, learner: Learner, batch: Batch, key: jax.Array, count: Counter
    ) -> tuple[Learner, Metrics]:
        settings, encoder, critic = self.settings, self.networks.encoder, self.networks.critic
        noise_key, loss_key, obs_key, next_key = jax.random.split(key, 4)
        obs = encoder.augment(batch.obs, obs_key)
        next_obs = encoder.augment(batch.next_obs, next_key)
        next_obs = encoder.features(learner.encoder, next_obs)  # once, for all that needs s'
        std = noise.std(learner.noise, settings.noise)
        normals = self.flow.normal((3, *next_obs.shape[:-1]), noise_key)

        # critic: r + gamma Q_target(s', a'), a' one sample of the exploring policy
        next_action = self._noisy(learner, next_obs, normals[:2], std)
        target_q = critic.value(learner.target_critic, next_obs, next_action)
        target = td_target(batch.reward, batch.discount, target_q)
        learner, metrics = critic_step(self.networks, self.critic_adam, learner, obs, batch, target)

        # policy, on a part of the batch: the mirror-descent step at s', fitted from the same noise
        # in one step, and by flow matching on a part of that; the target critic follows
        part = math.ceil(settings.policy_share * len(next_obs))
        matched_part = math.ceil(settings.matching_share * part)
        states, normal = next_obs[:part], normals[2, :part]

        def policy_step(learner: Learner) -> tuple[Learner, Metrics]:
            def loss_of(actor: Params) -> tuple[jax.Array, jax.Array]:
                action = self.flow.push(actor, states, normal, 1)
                goal, move = self._improved(learner.critic, states, action, std)
                fitted = jnp.mean(jnp.sum(jnp.square(action - goal), -1))
                matched = self.flow.loss(
                    actor,
                    states[:matched_part],
                    goal[:matched_part],
                    jnp.ones(matched_part),
                    loss_key,
                )
                return fitted + settings.matching * matched, move

            (loss, move), gradient = jax.value_and_grad(loss_of, has_aux=True)(learner.actor)
            step, actor_opt = self.actor_adam.update(gradient, learner.actor_opt, learner.actor)
            actor = optax.apply_updates(learner.actor, step)
            average = optax.incremental_update(actor, learner.average, settings.average_rate)
            learner = learner.replace(actor=actor, actor_opt=actor_opt, average=average)
            metrics = {"actor/loss": Mean.of(loss), "actor/move": Mean.of(move)}
            return target_step(learner, self.config.critic.tau), metrics

        count = count.add(1)
        learner, of_policy = delayed(policy_step, learner, count, settings.policy_delay)
        annealed = self.annealed(learner.noise, count)
        metrics |= of_policy | {"noise/std": Mean.of(std)}
        return learner.replace(noise=annealed), metrics

    def _improved(
        self, critic: Params, features: jax.Array, action: jax.Array, std: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The means of the new policy, (batch, action_size), within the bounds of actions, and how
        far they are from `action`, (batch, action_size), on average. No gradient goes through."""
        action = jax.lax.stop_gradient(jnp.clip(action, -1.0, 1.0))
        gradient = jax.grad(
            lambda action: jnp.sum(self.networks.critic.value(critic, features, action))
        )(action)
        size = jnp.sqrt(jnp.mean(jnp.sum(jnp.square(gradient), -1)))
        # sigma^2 / lambda, where the mean of |sigma^2 gradient / lambda|^2 / (2 sigma^2) is radius
        rate = std * jnp.sqrt(2.0 * self.settings.radius) / jnp.maximum(size, 1e-8)
        goal = jnp.clip(action + rate * gradient, -1.0, 1.0)
        return goal, jnp.mean(jnp.linalg.norm(goal - action, axis=-1))

    def _noisy(
        self, learner: Learner, features: jax.Array, normals: jax.Array, std: jax.Array
    ) -> jax.Array:
        """One action of the policy with noise, for each of features (batch, ...).

        normals: (2, batch, action_size), what the sample starts from and its noise; std: () or
        (batch, 1).
        """
        action = self.flow.push(learner.actor, features, normals[0], self.settings.flow_steps)
        return jnp.clip(action + std * normals[1], -1.0, 1.0)

    def policy(self, learner: Learner) -> Policy:
        return Policy(learner.encoder, learner.average, learner.critic)

    def explore(self, learner: Learner, obs: jax.Array, key: jax.Array) -> jax.Array:
        features = self.networks.encoder.features(learner.encoder, obs)
        stds = noise.stds(learner.noise, self.settings.noise, len(features))
        normals = self.flow.normal((2, len(features)), key)
        return self._noisy(learner, features, normals, stds)
