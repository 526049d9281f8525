"""Flow Policy Mirror Descent (arXiv 2507.23675) on one screen.

FPMD-R has a rectified flow for its policy, FPMD-M a MeanFlow. docs/fpmd.md lists every detail and
the departures from the paper.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from fpmd_mjx.algorithms import noise, weights
from fpmd_mjx.algorithms.base import Mean, Metrics, critic_step, delayed, target_step
from fpmd_mjx.algorithms.flow_algorithm import FlowAlgorithm, FlowLearner
from fpmd_mjx.algorithms.weights import QStats
from fpmd_mjx.config.schema import FpmdConfig
from fpmd_mjx.data.counter import Counter
from fpmd_mjx.data.replay import Batch
from fpmd_mjx.nn.critics import td_target


class Learner(FlowLearner):
    """q_stats: statistics of Q for the weights."""

    q_stats: QStats


@dataclass(frozen=True)
class Fpmd(FlowAlgorithm):
    """FPMD-R or FPMD-M."""

    settings: FpmdConfig

    def init(self, key: jax.Array) -> Learner:
        return Learner(**self.first(key), q_stats=QStats.init())

    def update(
        self, learner: Learner, batch: Batch, key: jax.Array, count: Counter
    ) -> tuple[Learner, Metrics]:
        settings, encoder = self.settings, self.networks.encoder
        act_key, actor_key, obs_key, next_key = jax.random.split(key, 4)
        obs = encoder.augment(batch.obs, obs_key)
        next_obs = encoder.augment(batch.next_obs, next_key)
        next_obs = encoder.features(learner.encoder, next_obs)  # once, for all that needs s'

        # a' ~ best of N at s', drawn once for the TD target and for the regression
        std = noise.std(learner.noise, settings.noise)
        next_action, next_q = self.best(self.policy(learner), next_obs, act_key, std)

        # critic: r + gamma min Q_target(s', a')
        target_q = self.networks.critic.value(learner.target_critic, next_obs, next_action)
        target = td_target(batch.reward, batch.discount, target_q)
        learner, metrics = critic_step(self.networks, self.critic_adam, learner, obs, batch, target)

        # weights of the target policy: pi_old(a'|s') exp(Q(s', a') / lambda)
        q_stats = learner.q_stats.update(next_q, settings.stats_rate)
        w = weights.FORMS[settings.weights](
            next_q, q_stats, learner.noise.alpha, settings.temperature
        )

        # policy: weighted flow matching towards a' at s'; the target critic follows
        def policy_step(learner: Learner) -> tuple[Learner, Metrics]:
            loss, gradient = jax.value_and_grad(self.flow.loss)(
                learner.actor, next_obs, next_action, w, actor_key
            )
            step, actor_opt = self.actor_adam.update(gradient, learner.actor_opt, learner.actor)
            actor = optax.apply_updates(learner.actor, step)
            learner = learner.replace(actor=actor, actor_opt=actor_opt)
            return target_step(learner, self.config.critic.tau), {"actor/loss": Mean.of(loss)}

        count = count.add(1)
        learner, of_policy = delayed(policy_step, learner, count, settings.policy_delay)
        annealed = self.annealed(learner.noise, count)
        metrics |= of_policy | {
            "weights/effective_sample_size": Mean.of(weights.effective_sample_size(w)),
            "weights/max": Mean.of(jnp.max(w)),
            "noise/std": Mean.of(noise.std(annealed, settings.noise)),
        }
        return learner.replace(q_stats=q_stats, noise=annealed), metrics

    def explore(self, learner: Learner, obs: jax.Array, key: jax.Array) -> jax.Array:
        features = self.networks.encoder.features(learner.encoder, obs)
        stds = noise.stds(learner.noise, self.settings.noise, len(features))
        return self.best(self.policy(learner), features, key, stds)[0]
