"""The start of most of gymnasium's episodes: the model's default pose at rest, with noise."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ..base import PhysicsState
from ..physics.backend import Physics


def noisy_start(
    physics: Physics, key: jax.Array, scale: float, *, normal_velocity: bool
) -> PhysicsState:
    """Draws a start. `scale` is in the unit of each coordinate.

    qpos gets uniform noise of +-scale, its quaternions too. Nothing normalises them before the
    first step, so the first observation shows them as drawn. qvel gets normal noise of standard
    deviation `scale`, or uniform noise like qpos.
    """
    model = physics.model
    qpos_key, qvel_key = jax.random.split(key)
    noise = jax.random.uniform(qpos_key, (model.nq,), jnp.float32, -scale, scale)
    if normal_velocity:
        qvel = scale * jax.random.normal(qvel_key, (model.nv,), jnp.float32)
    else:
        qvel = jax.random.uniform(qvel_key, (model.nv,), jnp.float32, -scale, scale)
    return physics.init(jnp.asarray(model.qpos0, jnp.float32) + noise, qvel)
