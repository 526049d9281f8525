"""FPMD on one screen: what one update does, and the scan over the updates of a learn call.

All functions are for one seed; `program.py` maps them over the seed axis.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from fpmd_mjx.algorithms import exploration, improvement
from fpmd_mjx.algorithms.base import Actor, ActorBatch, Params, make_actor
from fpmd_mjx.algorithms.improvement import QStats
from fpmd_mjx.config.schema import ActorOptimConfig, Config
from fpmd_mjx.data import normalizer
from fpmd_mjx.data.counter import Counter
from fpmd_mjx.data.normalizer import Normalizer
from fpmd_mjx.data.replay import Batch
from fpmd_mjx.nn import critics
from fpmd_mjx.nn.critics import Critic
from fpmd_mjx.nn.encoders import Encoder, make_encoder

Metrics = dict[str, jax.Array]


class Learner(struct.PyTreeNode):
    """Everything that an update changes. encoder: what it learns with the critic, see
    `encoders.py`."""

    encoder: Params
    actor: Params
    actor_opt: optax.OptState
    critic: Params
    target_critic: Params
    critic_opt: optax.OptState
    noise: exploration.Noise
    q_stats: QStats


@dataclass(frozen=True)
class Agent:
    """The fixed part of the learner: encoder, policy class, critic and optimizers."""

    config: Config
    encoder: Encoder
    actor: Actor
    critic: Critic
    actor_optim: optax.GradientTransformation
    critic_optim: optax.GradientTransformation

    def init(self, key: jax.Array) -> Learner:
        actor_key, critic_key, encoder_key = jax.random.split(key, 3)
        actor, critic = self.actor.init(actor_key), self.critic.init(critic_key)
        encoder = self.encoder.init(encoder_key)
        return Learner(
            encoder=encoder,
            actor=actor,
            actor_opt=self.actor_optim.init(actor),
            critic=critic,
            target_critic=jax.tree.map(jnp.copy, critic),  # donated state: no buffer twice
            critic_opt=self.critic_optim.init((encoder, critic)),
            noise=exploration.init(self.config.noise),
            q_stats=QStats.init(),
        )

    def see(self, encoder: Params, stats: Normalizer | None, obs: jax.Array) -> jax.Array:
        """Features of observations as the environments give them: (batch, ...) ->
        (batch, features)."""
        return self.encoder.features(encoder, normalizer.apply(stats, obs))

    def act(
        self,
        actor: Params,
        critic: Params,
        obs: jax.Array,
        key: jax.Array,
        noise_std: jax.Array | float = 0.0,
    ) -> tuple[jax.Array, jax.Array]:
        """Best-of-N action and its min-Q; obs: features (batch, features)."""
        return improvement.best_of_n(
            self.actor,
            actor,
            critics.minimum(self.critic, critic),
            obs,
            key,
            candidates=self.config.improvement.candidates,
            steps=self.config.actor.flow_steps,
            noise_std=noise_std,
        )

    def explore(
        self, learner: Learner, obs: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """`act` with the exploration noise of training."""
        noise_std = exploration.std(learner.noise, self.config.noise)
        return self.act(learner.actor, learner.critic, obs, key, noise_std)


def make_agent(config: Config, obs_shape: tuple[int, ...], action_size: int) -> Agent:
    dtype = jnp.dtype(config.learn.dtype)
    encoder = make_encoder(config.pixels, obs_shape, dtype)
    trunk = config.pixels.trunk if len(obs_shape) > 1 else 0
    return Agent(
        config=config,
        encoder=encoder,
        actor=make_actor(config.actor, encoder.size, action_size, dtype, trunk),
        critic=critics.make_critic(config.critic, encoder.size, action_size, dtype, trunk),
        actor_optim=_adam(_actor_schedule(config.actor_optim)),
        critic_optim=_adam(config.critic.lr),
    )


class Guarded(NamedTuple):
    """State of an optimizer that leaves out updates. inner: the optimizer's own; skipped: how many
    were left out, scalar int32."""

    inner: optax.OptState
    skipped: jax.Array


def _adam(lr: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    """Adam that leaves out, and counts, updates with a gradient that is not finite.

    `optax.apply_if_finite` does it with a condition, for which a GPU waits for the host. All
    parameters are one vector to it: to look at and to step each of them is a few kernels instead
    of several for each layer.
    """
    adam = optax.adam(lr)

    def init(params: Any) -> Guarded:
        return Guarded(adam.init(params), jnp.zeros((), jnp.int32))

    def update(gradient: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        finite = jnp.all(jnp.isfinite(gradient))
        step, inner = adam.update(gradient, state.inner, params)
        inner = jax.tree.map(partial(jnp.where, finite), inner, state.inner)
        return jnp.where(finite, step, 0.0), Guarded(inner, state.skipped + ~finite)

    return optax.flatten(optax.GradientTransformation(init, update))


def _actor_schedule(config: ActorOptimConfig) -> optax.Schedule:
    return optax.linear_schedule(
        config.lr,
        config.final_lr,
        max(config.decay_end - config.decay_begin, 1),
        config.decay_begin,
    )


def update(
    agent: Agent, learner: Learner, batch: Batch, key: jax.Array, updates: Counter
) -> tuple[Learner, Metrics]:
    """One critic update and, every `policy_delay`-th time, one policy and target update.

    batch: leaves (batch, ...), observations normalised, rewards scaled; updates: critic updates
    so far, the same for all seeds, so that the condition stays a condition under vmap.
    """
    config = agent.config
    act_key, actor_key, obs_key, next_key = jax.random.split(key, 4)

    # s and s' as the networks see them; s' once, for all candidates, the target and the regression
    obs = agent.encoder.augment(batch.obs, obs_key)
    next_obs = agent.encoder.augment(batch.next_obs, next_key)
    next_obs = agent.encoder.features(learner.encoder, next_obs)

    # a' ~ best of N at s', drawn once for the TD target and for the regression
    next_action, next_q = agent.explore(learner, next_obs, act_key)

    # critic, and with it the encoder: r + gamma min Q_target(s', a')
    target_q = critics.minimum(agent.critic, learner.target_critic)(next_obs, next_action)
    target = critics.td_target(batch.reward, batch.discount, target_q)

    def critic_loss_of(params: Any) -> tuple[jax.Array, jax.Array]:
        encoder, critic = params
        features = agent.encoder.features(encoder, obs)
        return agent.critic.loss(critic, features, batch.action, target, batch.mask)

    params = learner.encoder, learner.critic
    (critic_loss, q), gradient = jax.value_and_grad(critic_loss_of, has_aux=True)(params)
    step, critic_opt = agent.critic_optim.update(gradient, learner.critic_opt, params)
    encoder, critic = optax.apply_updates(params, step)

    # importance weights of pi_old(a'|s') exp(Q(s', a') / lambda)
    q_stats = learner.q_stats.update(next_q, config.improvement.stats_rate)
    weights = improvement.WEIGHTS[config.improvement.weights](
        next_q, q_stats, learner.noise.alpha, config.improvement.temperature
    )
    learner = learner.replace(
        encoder=encoder, critic=critic, critic_opt=critic_opt, q_stats=q_stats
    )

    # policy: weighted flow matching towards a' at s'; targets follow
    def policy_update(learner: Learner) -> tuple[Learner, jax.Array]:
        loss, gradient = jax.value_and_grad(agent.actor.loss)(
            learner.actor,
            critics.minimum(agent.critic, learner.critic),
            ActorBatch(next_obs, next_action, weights),
            actor_key,
        )
        step, actor_opt = agent.actor_optim.update(gradient, learner.actor_opt, learner.actor)
        target_critic = optax.incremental_update(
            learner.critic, learner.target_critic, config.critic.tau
        )
        actor = optax.apply_updates(learner.actor, step)
        return learner.replace(actor=actor, actor_opt=actor_opt, target_critic=target_critic), loss

    count = updates.add(1)
    learner, actor_loss = jax.lax.cond(
        count.is_multiple_of(config.learn.policy_delay),
        policy_update,
        lambda learner: (learner, jnp.float32(jnp.nan)),
        learner,
    )
    noise = jax.tree.map(
        partial(jnp.where, count.is_multiple_of(config.noise.interval)),
        exploration.anneal(learner.noise, config.noise),
        learner.noise,
    )
    metrics = {
        "critic/loss": critic_loss,
        "critic/q_mean": jnp.mean(q),
        "critic/q_std": jnp.std(q),
        "critic/target_mean": jnp.mean(target),
        "critic/twin_gap": jnp.mean(jnp.abs(q[0] - q[1])),
        "actor/loss": actor_loss,
        "weights/effective_sample_size": improvement.effective_sample_size(weights),
        "weights/max": jnp.max(weights),
        "noise/std": exploration.std(noise, config.noise),
    }
    return learner.replace(noise=noise), metrics


def learn(
    agent: Agent, learner: Learner, batches: Batch, key: jax.Array, updates: Counter
) -> tuple[Learner, Metrics]:
    """Scans `update` over batches with leading axes (updates, batch); metrics: (updates,)."""

    def body(carry: tuple[Learner, Counter], x: tuple[Batch, jax.Array]) -> Any:
        learner, count = carry
        learner, metrics = update(agent, learner, *x, count)
        return (learner, count.add(1)), metrics

    keys = jax.random.split(key, batches.reward.shape[0])
    (learner, _), metrics = jax.lax.scan(body, (learner, updates), (batches, keys))
    return learner, metrics
