"""Acting: step the environments of all seeds and write the rows."""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from envs.wrappers import Outcome
from fpmd_mjx import normalize, replay
from fpmd_mjx.normalize import Normalizer
from fpmd_mjx.replay import Rows
from fpmd_mjx.seeds import over_seeds

if TYPE_CHECKING:
    from fpmd_mjx.program import Program, TrainState

SEED_AXES = replay.Replay(rows=0, head=None, size=None)  # type: ignore[arg-type]
"""vmap axes of the replay: rows have a leading seed axis, all seeds write at the same head."""


def vector_step(program: "Program", state: "TrainState") -> tuple["TrainState", Outcome]:
    """One control step of every environment with the exploring policy, or at random while
    warming up, inserted into the replay."""
    obs = state.env.env.obs
    keys, act_keys, random_keys = split(state.key, 3)

    def explore() -> jax.Array:
        return over_seeds(
            lambda learner, stats, obs, key: program.agent.explore(
                learner, program.agent.see(learner.encoder, stats, obs), key
            )[0]
        )(state.learner, state.normalizer, obs, act_keys)

    action = jax.lax.cond(
        program.warm(state), explore, lambda: random_actions(program, random_keys)
    )
    env, outcome = program.vector.step(state.env, action)
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
        normalizer=_observe(program, state.normalizer, obs),
        replay=jax.vmap(replay.insert, in_axes=(SEED_AXES, 0), out_axes=SEED_AXES)(
            state.replay, row
        ),
        vector_steps=state.vector_steps.add(1),
    ), outcome


def random_actions(program: "Program", keys: jax.Array) -> jax.Array:
    """Uniform in [-1, 1]: keys (seeds,) -> (seeds, num_envs, action_size)."""
    shape = (program.vector.num_envs, program.vector.env.spec.action_size)
    return jax.vmap(lambda key: jax.random.uniform(key, shape, jnp.float32, -1.0, 1.0))(keys)


def statistics(outcome: Outcome) -> dict[str, jax.Array]:
    """Sums over the environments, (seeds,) each: what an epoch adds up of its episodes."""
    done = outcome.finished
    return {
        "episodes": jnp.sum(done, 1, dtype=jnp.float32),
        "return": jnp.sum(jnp.where(done, outcome.ret, 0.0), 1),
        "length": jnp.sum(jnp.where(done, outcome.length, 0), 1, dtype=jnp.float32),
        "nonfinite": jnp.sum(outcome.nonfinite, 1, dtype=jnp.float32),
    }


def split(keys: jax.Array, count: int) -> tuple[jax.Array, ...]:
    """`count` new keys for each seed: (seeds,) -> count arrays of (seeds,)."""
    new = jax.vmap(lambda key: jax.random.split(key, count))(keys)
    return tuple(new[:, i] for i in range(count))


def _observe(program: "Program", stats: Normalizer | None, obs: jax.Array) -> Normalizer | None:
    if stats is None or not program.config.learn.normalize_obs:
        return stats
    return jax.vmap(normalize.update)(stats, obs)
