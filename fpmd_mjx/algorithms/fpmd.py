"""Flow Policy Mirror Descent (arXiv 2507.23675) on one screen.

FPMD-R has a rectified flow for its policy, FPMD-M a MeanFlow. docs/fpmd.md lists every detail and
the departures from the paper.
"""

from dataclasses import dataclass
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
import optax

from fpmd_mjx.algorithms import noise, weights
from fpmd_mjx.algorithms.base import (
    CriticLearner,
    Mean,
    Metrics,
    Mode,
    Networks,
    Params,
    Policy,
    actor_schedule,
    best_of_n,
    critic_step,
    delayed,
    target_step,
)
from fpmd_mjx.algorithms.flow_policy import FlowPolicy, make_flow_policy
from fpmd_mjx.algorithms.noise import Noise
from fpmd_mjx.algorithms.weights import QStats
from fpmd_mjx.config.schema import Config, FpmdConfig
from fpmd_mjx.data.counter import Counter
from fpmd_mjx.data.replay import Batch
from fpmd_mjx.nn import optim
from fpmd_mjx.nn.critics import td_target

ONE_STEP_ERROR_STEPS = 20
"""Network calls of the sample that `actor/one_step_error` compares the one-step action with."""


class Learner(CriticLearner):
    """actor, actor_opt: the flow policy and its Adam; noise: exploration noise; q_stats: statistics
    of Q for the weights."""

    actor: Params
    actor_opt: optax.OptState
    noise: Noise
    q_stats: QStats


@dataclass(frozen=True)
class Fpmd:
    """FPMD-R or FPMD-M. Methods are those of `base.Algorithm`."""

    config: Config
    settings: FpmdConfig
    networks: Networks
    flow: FlowPolicy
    actor_adam: optax.GradientTransformation
    critic_adam: optax.GradientTransformation

    @property
    def modes(self) -> tuple[str, ...]:
        return ("one_step", "one_step_sampled", "best_of_n", "steps")

    @property
    def candidates(self) -> int:
        return self.settings.candidates

    @property
    def policy_delay(self) -> int:
        return self.settings.policy_delay

    def init(self, key: jax.Array) -> Learner:
        actor_key, critic_key, encoder_key = jax.random.split(key, 3)
        actor, critic = self.flow.init(actor_key), self.networks.critic.init(critic_key)
        encoder = self.networks.encoder.init(encoder_key)
        return Learner(
            encoder=encoder,
            critic=critic,
            target_critic=jax.tree.map(jnp.copy, critic),  # donated state: no buffer twice
            critic_opt=self.critic_adam.init((encoder, critic)),
            actor=actor,
            actor_opt=self.actor_adam.init(actor),
            noise=noise.init(self.settings.noise),
            q_stats=QStats.init(),
        )

    def update(
        self, learner: Learner, batch: Batch, key: jax.Array, count: Counter
    ) -> tuple[Learner, Metrics]:
        settings, encoder = self.settings, self.networks.encoder
        act_key, actor_key, obs_key, next_key = jax.random.split(key, 4)
        obs = encoder.augment(batch.obs, obs_key)
        next_obs = encoder.augment(batch.next_obs, next_key)
        next_obs = encoder.features(learner.encoder, next_obs)  # once, for all that needs s'

        # a' ~ best of N at s', drawn once for the TD target and for the regression
        next_action, next_q = self._explore(learner, next_obs, act_key)

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
        annealed = noise.anneal(learner.noise, settings.noise)
        due = count.is_multiple_of(settings.noise.interval)
        annealed = jax.tree.map(partial(jnp.where, due), annealed, learner.noise)
        metrics |= of_policy | {
            "weights/effective_sample_size": Mean.of(weights.effective_sample_size(w)),
            "weights/max": Mean.of(jnp.max(w)),
            "noise/std": Mean.of(noise.std(annealed, settings.noise)),
        }
        return learner.replace(q_stats=q_stats, noise=annealed), metrics

    def _explore(
        self, learner: Learner, features: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The best of N noisy actions, and its Q."""
        std = noise.std(learner.noise, self.settings.noise)
        return self._best(self.policy(learner), features, key, std)

    def _best(
        self, policy: Policy, features: jax.Array, key: jax.Array, noise_std: jax.Array | float
    ) -> tuple[jax.Array, jax.Array]:
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

    def explore(self, learner: Learner, obs: jax.Array, key: jax.Array) -> jax.Array:
        features = self.networks.encoder.features(learner.encoder, obs)
        return self._explore(learner, features, key)[0]

    def policy(self, learner: Learner) -> Policy:
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
            return self._best(deployed, features, key, 0.0)[0]
        return self.flow.sample(deployed.actor, features, key, mode.steps)

    def skipped(self, learner: Learner) -> jax.Array:
        return optim.skipped(learner.actor_opt, learner.critic_opt)

    def metrics(self, learner: Learner, obs: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        features = self.networks.encoder.features(learner.encoder, obs)
        error = self.flow.one_step_error(learner.actor, features, key, ONE_STEP_ERROR_STEPS)
        return {"actor/one_step_error": error}


def make_fpmd(config: Config, networks: Networks) -> Fpmd:
    """FPMD with the settings in `config.algorithm`, an `FpmdConfig`."""
    settings = cast(FpmdConfig, config.algorithm)
    return Fpmd(
        config=config,
        settings=settings,
        networks=networks,
        flow=make_flow_policy(settings, config.actor, networks),
        actor_adam=optim.guarded_adam(actor_schedule(config.actor)),
        critic_adam=optim.guarded_adam(config.critic.lr),
    )
