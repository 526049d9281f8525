"""THE program: init, train_epoch (collect -> insert -> learn) and evaluate over one TrainState.

`train_epoch` is one jitted, donated, scanned function. Its thousands of vector steps and updates do
not wait for the host. The leading axis of every learner tensor is the seed.
"""

from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import struct

import envs
from envs.base import Env
from envs.physics.options import compiler_options
from envs.render.pixels import Camera, PixelEnv, Renderer
from envs.wrappers import Outcome, Repeated, VectorEnv, VectorState
from fpmd_mjx.algorithms import make_algorithm
from fpmd_mjx.algorithms.base import Algorithm, Learner, Metrics, Policy
from fpmd_mjx.config.schema import Config, ConfigError, PixelsConfig
from fpmd_mjx.data import normalizer, replay, returns
from fpmd_mjx.data.counter import Counter
from fpmd_mjx.data.normalizer import Normalizer
from fpmd_mjx.data.replay import Batch, Replay, Rows
from fpmd_mjx.data.returns import Returns
from fpmd_mjx.seeds import over_seeds, split

SEED_AXES = Replay(rows=0, head=None, size=None)  # type: ignore[arg-type]
"""vmap axes of the replay: rows have a leading seed axis, all seeds write at the same head."""

Sums = dict[str, jax.Array]
"""Sums over episodes, by name: (seeds,) each."""


class TrainState(struct.PyTreeNode):
    """All that a run needs to continue bit for bit, and nothing else.

    Leaves of learner, normalizer, returns, env and key have a leading seed axis, and so have the
    rows of the replay, (seeds, capacity, num_envs, ...). returns: None if `learn.reward_scale` is
    given; updates: critic updates of each seed; vector_steps: steps of each environment.
    """

    learner: Learner
    normalizer: Normalizer | None
    returns: Returns | None
    replay: Replay
    env: VectorState
    key: jax.Array
    updates: Counter
    vector_steps: Counter


@dataclass(frozen=True)
class Program:
    """The static part of a run. Its methods are pure, to be jitted."""

    config: Config
    algorithm: Algorithm
    vector: VectorEnv

    def init(self, seeds: jax.Array) -> TrainState:
        """A run at its start; seeds: (seeds,) uint32, one independent run each."""
        config, spec = self.config, self.vector.env.spec
        keys, env_keys, learner_keys = split(jax.vmap(jax.random.key)(seeds), 3)
        one = replay.empty(config.replay_rows, config.num_envs, spec.obs_shape, spec.action_size)

        def tile(x: jax.Array) -> jax.Array:
            return jnp.broadcast_to(x, (seeds.shape[0], *x.shape))

        return TrainState(
            learner=jax.vmap(self.algorithm.init)(learner_keys),
            normalizer=jax.tree.map(tile, self.normalizer()),
            returns=jax.tree.map(tile, self._returns()),
            replay=one.replace(rows=jax.tree.map(tile, one.rows)),
            env=self.vector.init(env_keys),
            key=keys,
            updates=Counter.zero(),
            vector_steps=Counter.zero(),
        )

    def normalizer(self) -> Normalizer | None:
        """The empty statistics of one seed; None for images."""
        spec = self.vector.env.spec
        return None if spec.images else normalizer.init(spec.obs_size)

    def _returns(self) -> Returns | None:
        """The empty statistics of one seed; None if the scale of rewards is given."""
        return None if self.config.learn.reward_scale else returns.init(self.config.num_envs)

    @cached_property
    def traced_init(self) -> jax.stages.Traced:
        """`init`, traced once: `out_info` has the shapes of the state, `lower` compiles it."""
        seeds = jax.ShapeDtypeStruct((self.config.seeds,), jnp.uint32)
        return jax.jit(self.init).trace(seeds)

    @property
    def compiler_options(self) -> dict[str, bool | int | str]:
        return compiler_options(self.vector.env.spec.longest_chain)

    def policy(self, state: TrainState) -> Policy:
        """The policies of all seeds: leaves (seeds, ...)."""
        return self.algorithm.policy(state.learner).replace(normalizer=state.normalizer)

    @property
    def warmup_rows(self) -> int:
        """Vector steps of random actions, and rows that the replay holds before learning begins."""
        warmup = -(-self.config.warmup_steps // self.config.num_envs)
        least = self.config.learn.n_step + self.config.frames
        return min(max(warmup, least), self.config.replay_rows)

    def warm(self, state: TrainState) -> jax.Array:
        """Whether the policy acts: scalar bool."""
        return state.vector_steps.at_least(self.warmup_rows)

    def ready(self, state: TrainState) -> jax.Array:
        """Whether the replay holds enough to learn; a run resumed without its replay refills it."""
        return state.replay.size >= self.warmup_rows

    def train_epoch(self, state: TrainState) -> tuple[TrainState, dict[str, jax.Array]]:
        """`iterations_per_epoch` iterations of collect -> insert -> learn; metrics: (seeds,).

        The means of learning are over the updates of the epoch: nan if there was none, and not
        finite if one of them was not. Counts, `nonfinite/*` among them, are of this epoch.
        """
        keys, metric_keys = split(state.key, 2)
        skipped = over_seeds(self.algorithm.skipped)(state.learner)
        state = state.replace(key=keys)
        state, (episodes, learning) = jax.lax.scan(
            lambda state, _: self._iteration(state), state, None, self.config.iterations_per_epoch
        )
        episodes = jax.tree.map(lambda x: jnp.sum(x, 0), episodes)
        metrics = {name: mean.over(0).value for name, mean in learning.items()}
        metrics["rollout/episodes"] = episodes["episodes"]
        metrics["rollout/return"] = episodes["return"] / episodes["episodes"]  # nan without any
        metrics["rollout/length"] = episodes["length"] / episodes["episodes"]
        metrics["rollout/start_reuse"] = episodes["reused"] / episodes["begun"]
        metrics["nonfinite/env_resets"] = episodes["nonfinite"]
        after = over_seeds(self.algorithm.skipped)(state.learner)
        metrics["nonfinite/skipped_updates"] = (after - skipped).astype(jnp.float32)
        metrics |= jax.vmap(
            lambda learner, stats, obs, key: self.algorithm.metrics(
                learner, normalizer.apply(stats, obs), key
            )
        )(state.learner, state.normalizer, state.env.env.obs, metric_keys)
        return state, metrics

    def _iteration(self, state: TrainState) -> tuple[TrainState, tuple[Sums, Metrics]]:
        state, episodes = self.collect(state)
        state, learning = self.learn(state)
        return state, (episodes, learning)

    def collect(self, state: TrainState) -> tuple[TrainState, Sums]:
        """`learn.collect_steps` vector steps, inserted; sums over their episodes: (seeds,)."""

        def step(state: TrainState, _: None) -> tuple[TrainState, Sums]:
            state, outcome = self.vector_step(state)
            return state, statistics(outcome)

        state, episodes = jax.lax.scan(step, state, None, self.config.learn.collect_steps)
        return state, jax.tree.map(lambda x: jnp.sum(x, 0), episodes)

    def vector_step(self, state: TrainState) -> tuple[TrainState, Outcome]:
        """One control step of every environment with the exploring policy, or at random while
        warming up, inserted into the replay."""
        obs = state.env.env.obs
        keys, act_keys, random_keys = split(state.key, 3)

        def explore() -> jax.Array:
            return over_seeds(
                lambda learner, stats, obs, key: self.algorithm.explore(
                    learner, normalizer.apply(stats, obs), key
                )
            )(state.learner, state.normalizer, obs, act_keys)

        action = jax.lax.cond(self.warm(state), explore, lambda: self.random_actions(random_keys))
        env, outcome = self.vector.step(state.env, action)
        row = Rows(
            obs=jax.vmap(replay.newest)(obs),
            # an action that broke the simulation may itself not be a number
            action=jnp.where(outcome.nonfinite[..., None], 0.0, action),
            reward=outcome.reward,
            terminated=outcome.terminated,
            truncated=outcome.truncated,
        )
        return state.replace(
            env=env,
            key=keys,
            normalizer=self._observe(state.normalizer, obs),
            returns=self._reward(state.returns, outcome),
            replay=jax.vmap(replay.insert, in_axes=(SEED_AXES, 0), out_axes=SEED_AXES)(
                state.replay, row
            ),
            vector_steps=state.vector_steps.add(1),
        ), outcome

    def random_actions(self, keys: jax.Array) -> jax.Array:
        """Uniform in [-1, 1]: keys (seeds,) -> (seeds, num_envs, action_size)."""
        shape = (self.vector.num_envs, self.vector.env.spec.action_size)
        return jax.vmap(lambda key: jax.random.uniform(key, shape, jnp.float32, -1.0, 1.0))(keys)

    def _observe(self, stats: Normalizer | None, obs: jax.Array) -> Normalizer | None:
        if stats is None or not self.config.learn.normalize_obs:
            return stats
        return jax.vmap(normalizer.update)(stats, obs)

    def _reward(self, stats: Returns | None, outcome: Outcome) -> Returns | None:
        if stats is None:
            return None
        ended = outcome.terminated | outcome.truncated
        return jax.vmap(partial(returns.update, gamma=self.config.learn.gamma))(
            stats, outcome.reward, ended
        )

    def learn(self, state: TrainState) -> tuple[TrainState, Metrics]:
        """One learn call, once the replay is ready: `learn.updates` updates, and the means over
        them, (seeds,)."""
        keys, sample_keys, learn_keys = split(state.key, 3)

        @jax.jit  # traced once: for its shapes and for the condition
        def learns() -> tuple[Learner, Metrics]:
            batches = jax.vmap(self._batches, in_axes=(SEED_AXES, 0, 0, 0))(
                state.replay, state.normalizer, state.returns, sample_keys
            )
            return over_seeds(
                lambda learner, batches, key: self._updates(learner, batches, key, state.updates)
            )(state.learner, batches, learn_keys)

        def waits() -> tuple[Learner, Metrics]:
            shapes = jax.eval_shape(learns)[1]
            return state.learner, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

        ready = self.ready(state)
        learner, metrics = jax.lax.cond(ready, learns, waits)
        updates = state.updates.add(jnp.where(ready, jnp.uint32(self.config.learn.updates), 0))
        return state.replace(key=keys, learner=learner, updates=updates), metrics

    def _batches(
        self, ring: Replay, stats: Normalizer | None, scale: Returns | None, key: jax.Array
    ) -> Batch:
        """The batches of one learn call, normalised: (updates, batch, ...)."""
        config = self.config.learn
        batch = replay.sample(
            ring,
            key,
            (config.updates, config.batch),
            config.n_step,
            config.gamma,
            self.config.frames,
        )
        factor = 1.0 / returns.scale(scale) if scale else cast(float, config.reward_scale)
        return batch.replace(
            obs=normalizer.apply(stats, batch.obs),
            next_obs=normalizer.apply(stats, batch.next_obs),
            reward=factor * batch.reward,
        )

    def _updates(
        self, learner: Learner, batches: Batch, key: jax.Array, count: Counter
    ) -> tuple[Learner, Metrics]:
        """Scans the algorithm's update over batches with leading axes (updates, batch), of one
        seed."""

        def body(carry: tuple[Learner, Counter], x: tuple[Batch, jax.Array]) -> Any:
            learner, count = carry
            learner, metrics = self.algorithm.update(learner, *x, count)
            return (learner, count.add(1)), metrics

        keys = jax.random.split(key, batches.reward.shape[0])
        (learner, _), metrics = jax.lax.scan(body, (learner, count), (batches, keys))
        return learner, {name: mean.over(0) for name, mean in metrics.items()}


def statistics(outcome: Outcome) -> dict[str, jax.Array]:
    """Statistics of episodes, summed over the environments: (seeds,) each."""
    done, ended = outcome.finished, outcome.terminated | outcome.truncated
    return {
        "episodes": jnp.sum(done, 1, dtype=jnp.float32),
        "return": jnp.sum(jnp.where(done, outcome.ret, 0.0), 1),
        "length": jnp.sum(jnp.where(done, outcome.length, 0), 1, dtype=jnp.float32),
        "begun": jnp.sum(ended, 1, dtype=jnp.float32),
        "reused": jnp.sum(outcome.reused, 1, dtype=jnp.float32),
        "nonfinite": jnp.sum(outcome.nonfinite, 1, dtype=jnp.float32),
    }


def make_program(config: Config) -> Program:
    """Builds environment and algorithm of `config`; nothing is compiled yet."""
    try:
        env = observed(config, make_task(config))
    except (envs.UnknownTaskError, envs.UnsupportedModelError, ModuleNotFoundError) as error:
        raise ConfigError(str(error)) from error
    return assemble(config, env)


def make_task(config: Config) -> Env:
    """The task of `config` itself, without its action repeat and pixels; see `envs.make`."""
    task = config.task
    names = ("impl", "graph_mode", "iterations", "ls_iterations")
    chosen: Any = {name: getattr(task, name) for name in names}
    return envs.make(task.name, **{k: v for k, v in chosen.items() if v is not None})


def observed(config: Config, env: Env) -> Env:
    """`env` with the action repeat and the observations of `config`."""
    render = Renderer(env, camera(config.pixels)) if config.task.obs == "pixels" else None
    if config.task.action_repeat > 1:
        env = Repeated(env, config.task.action_repeat)
    return PixelEnv(env, render, config.pixels.frames) if render else env


def camera(pixels: PixelsConfig) -> Camera:
    """The camera that `pixels` describes."""
    return Camera(**{each.name: getattr(pixels, each.name) for each in fields(Camera)})


def assemble(config: Config, env: Env) -> Program:
    """The program of `config`; env: its task, as `observed` returns it."""
    vector = VectorEnv(env, config.num_envs, config.task.reset_pool, config.task.reset_refresh)
    algorithm = make_algorithm(config, env.spec.obs_shape, env.spec.action_size)
    return Program(config, algorithm, vector)
