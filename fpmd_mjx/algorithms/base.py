"""The algorithm protocol, and the pieces that algorithms share.

An algorithm is a whole update, not the loss of a policy. Its Learner is its own, and nothing
outside of it looks inside. Algorithms share functions: the critic's step, the target's step, a
delayed step, best-of-N.

All functions are for one seed; `program.py` maps them over the seed axis. Observations are
normalised, actions lie in [-1, 1]^d.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
import optax
from flax import struct

from fpmd_mjx.config.schema import MODE, ActorConfig, Config, ConfigError
from fpmd_mjx.data.counter import Counter
from fpmd_mjx.data.normalizer import Normalizer
from fpmd_mjx.data.replay import Batch
from fpmd_mjx.nn.critics import Critic, make_critic
from fpmd_mjx.nn.encoders import Encoder, make_encoder

Params = Any
Learner = Any
"""All arrays that the updates of one algorithm change."""

Values = Callable[[jax.Array, jax.Array], jax.Array]
"""(features, action) -> Q; leading axes broadcast."""


class Mean(struct.PyTreeNode):
    """A running mean. total: the sum; count: the number of terms. Without any, it is nan."""

    total: jax.Array
    count: jax.Array

    @classmethod
    def of(cls, x: jax.Array) -> "Mean":
        """The mean of one number."""
        return cls(x.astype(jnp.float32), jnp.ones((), jnp.float32))

    def over(self, axis: int) -> "Mean":
        """The mean over an axis. A number that is not finite makes it not finite."""
        return jax.tree.map(lambda x: jnp.sum(x, axis), self)

    @property
    def value(self) -> jax.Array:
        return self.total / self.count


Metrics = dict[str, Mean]


@dataclass(frozen=True)
class Mode:
    """How a policy acts in an evaluation.

    kind: one_step | one_step_sampled | best_of_n | steps; steps: network calls of a sample.
    """

    kind: str
    steps: int = 1

    @classmethod
    def parse(cls, text: str) -> "Mode":
        """`one_step`, `one_step_sampled`, `best_of_n` or `steps=K`; otherwise ConfigError."""
        if not MODE.fullmatch(text):
            raise ConfigError(
                f"mode={text} is unknown: choose one_step, one_step_sampled, best_of_n or steps=K."
            )
        kind, _, steps = text.partition("=")
        return cls(kind, int(steps or 1))

    def __str__(self) -> str:
        return f"steps={self.steps}" if self.kind == "steps" else self.kind


ONE_STEP = Mode("one_step")


class Policy(struct.PyTreeNode):
    """The parameters for acting, which checkpoints store apart. critic: for best-of-N alone;
    normalizer: None for images."""

    encoder: Params
    actor: Params
    critic: Params
    normalizer: Normalizer | None = None


class Algorithm(Protocol):
    """One learning algorithm, for one seed."""

    @property
    def networks(self) -> "Networks": ...

    @property
    def candidates(self) -> int:
        """Actions that an update draws for a state at once, for the memory plan."""
        ...

    @property
    def policy_delay(self) -> int:
        """Critic updates for one policy update, for estimates of an update's cost."""
        ...

    @property
    def modes(self) -> tuple[str, ...]:
        """The kinds of `Mode` that `act` knows."""
        ...

    def init(self, key: jax.Array) -> Learner: ...

    def explore(self, learner: Learner, obs: jax.Array, key: jax.Array) -> jax.Array:
        """Actions that collect experience: obs (batch, ...) -> (batch, action_size)."""
        ...

    def update(
        self, learner: Learner, batch: Batch, key: jax.Array, count: Counter
    ) -> tuple[Learner, Metrics]:
        """One critic update, and the other steps that are due.

        batch: leaves (batch, ...), rewards scaled; count: updates so far, the same for all seeds,
        so that a condition on it stays a condition under vmap.
        """
        ...

    def skipped(self, learner: Learner) -> jax.Array:
        """Updates that the optimizers skipped so far: scalar int32."""
        ...

    def metrics(self, learner: Learner, obs: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        """Metrics that are computed once an epoch: scalars."""
        ...

    def policy(self, learner: Learner) -> Policy:
        """The parameters for acting, without the normalizer, which the program has."""
        ...

    def deploy(self, policy: Policy, mode: Mode) -> Policy:
        """Prepares `act` in one mode: does all work that does not depend on observations."""
        ...

    def act(self, deployed: Policy, obs: jax.Array, key: jax.Array | None, mode: Mode) -> jax.Array:
        """Actions in a mode: obs (batch, ...) -> (batch, action_size). `one_step` uses no key."""
        ...


# ----------------------------------------------------------------------- networks and their rates


@dataclass(frozen=True)
class Networks:
    """The networks that all algorithms have, and the sizes for their own networks.

    Attributes:
        encoder: from observations to features.
        critic: of features and actions.
        action_size: length of an action.
        dtype: of the networks' computations.
        trunk: width of the trunk in front of every head of images, 0 for vectors; see `MLP`.
    """

    encoder: Encoder
    critic: Critic
    action_size: int
    dtype: Any
    trunk: int


def make_networks(config: Config, obs_shape: tuple[int, ...], action_size: int) -> Networks:
    """The networks for observations of `obs_shape`, (obs_size,) or (frames, height, width, 3)."""
    dtype = jnp.dtype(config.learn.dtype)
    encoder = make_encoder(config.pixels, obs_shape, dtype)
    trunk = config.pixels.trunk if len(obs_shape) > 1 else 0
    critic = make_critic(config.critic, encoder.size, action_size, dtype, trunk)
    return Networks(encoder, critic, action_size, dtype, trunk)


def actor_schedule(config: ActorConfig) -> optax.Schedule:
    """The learning rate as a function of the number of policy updates."""
    decay = max(config.decay_end - config.decay_begin, 1)
    return optax.linear_schedule(config.lr, config.final_lr, decay, config.decay_begin)


# ----------------------------------------------------------------------------- pieces of an update


class CriticLearner(struct.PyTreeNode):
    """The part of a Learner that the critic's step changes; its loss trains the encoder, too."""

    encoder: Params
    critic: Params
    target_critic: Params
    critic_opt: optax.OptState


L = TypeVar("L", bound=CriticLearner)


def critic_step(
    networks: Networks,
    optimizer: optax.GradientTransformation,
    learner: L,
    obs: jax.Array,
    batch: Batch,
    target: jax.Array,
) -> tuple[L, Metrics]:
    """One gradient step of the critics and the encoder towards `target` (batch,).

    obs: the observations of the batch, augmented.
    """

    def loss_of(params: Any) -> tuple[jax.Array, jax.Array]:
        encoder, critic = params
        features = networks.encoder.features(encoder, obs)
        return networks.critic.loss(critic, features, batch.action, target, batch.mask)

    params = learner.encoder, learner.critic
    (loss, q), gradient = jax.value_and_grad(loss_of, has_aux=True)(params)
    step, critic_opt = optimizer.update(gradient, learner.critic_opt, params)
    encoder, critic = optax.apply_updates(params, step)
    metrics = {
        "critic/loss": loss,
        "critic/q_mean": jnp.mean(q),
        "critic/q_std": jnp.std(q),
        "critic/target_mean": jnp.mean(target),
    }
    if len(q) == 2:
        metrics["critic/twin_gap"] = jnp.mean(jnp.abs(q[0] - q[1]))
    return (
        learner.replace(encoder=encoder, critic=critic, critic_opt=critic_opt),
        {name: Mean.of(x) for name, x in metrics.items()},
    )


def target_step(learner: L, tau: float) -> L:
    """Moves the target critic by a share `tau` towards the critic."""
    target = optax.incremental_update(learner.critic, learner.target_critic, tau)
    return learner.replace(target_critic=target)


def delayed(
    step: Callable[[L], tuple[L, Metrics]], learner: L, count: Counter, delay: int
) -> tuple[L, Metrics]:
    """Runs `step` in every `delay`-th update, as TD3 (arXiv 1802.09477); count: updates so far."""

    def wait(learner: L) -> tuple[L, Metrics]:
        nothing = jax.eval_shape(step, learner)[1]
        return learner, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), nothing)

    return jax.lax.cond(count.is_multiple_of(delay), step, wait, learner)


# ------------------------------------------------------------------------------------- best of N


class Sampler(Protocol):
    """A policy that best-of-N draws from."""

    def sample(
        self,
        params: Params,
        obs: jax.Array,
        key: jax.Array,
        steps: int,
        *,
        repeat: tuple[int, ...] = (),
    ) -> jax.Array:
        """Actions in `steps` network calls, `repeat` of them for each obs: (..., features) ->
        (*repeat, ..., action_size). They may lie outside of [-1, 1]."""
        ...


def best_of_n(
    actor: Sampler,
    params: Params,
    values: Values,
    obs: jax.Array,
    key: jax.Array,
    *,
    candidates: int,
    steps: int,
    noise_std: jax.Array | float,
) -> tuple[jax.Array, jax.Array]:
    """The best of `candidates` noisy actions by `values`, and its value: features
    (batch, features) -> (batch, action_size), (batch,).

    Noise is added and clipped before the arg-max, as in FPMD's later release. Every candidate is
    evaluated once: the caller uses action and value for the TD target, the weights and the
    regression.
    """
    sample_key, noise_key = jax.random.split(key)
    action = actor.sample(params, obs, sample_key, steps, repeat=(candidates,))
    action += noise_std * jax.random.normal(noise_key, action.shape, jnp.float32)
    action = jnp.clip(action, -1.0, 1.0)
    q = values(obs, action)
    best = jnp.argmax(q, 0)[None]
    return (
        jnp.take_along_axis(action, best[..., None], 0)[0],
        jnp.take_along_axis(q, best, 0)[0],
    )
