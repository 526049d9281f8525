"""Pusher: where the object is put."""

from __future__ import annotations

import jax
import numpy as np

import envs


def test_object_starts_outside_of_the_goal() -> None:
    env = envs.make("gym/Pusher-v5")
    place = jax.jit(lambda key: env.reset(key).physics.qpos[-4:])
    places = np.array(jax.vmap(place)(jax.random.split(jax.random.key(0), 5000)))
    assert (np.linalg.norm(places[:, :2], axis=1) > 0.17).all()
    # Up to the edges of the rectangle and of the disk.
    np.testing.assert_allclose(places[:, :2].min(axis=0), [-0.3, -0.2], atol=1e-3)
    np.testing.assert_allclose(places[:, :2].max(axis=0), [0.0, 0.2], atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(places[:, :2], axis=1).min(), 0.17, atol=1e-3)
    assert not places[:, 2:].any()
