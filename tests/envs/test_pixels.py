"""Images: what dm_control draws of the same states, whatever the batch, and what is in them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.likeness import VISUAL_TASKS, Pair, compare
from envs.physics import UnsupportedModelError
from envs.pixels import Camera, Renderer

SEEN = {
    "dmc/acrobot_swingup": 0.014,
    "dmc/ball_in_cup_catch": 0.015,
    "dmc/cartpole_swingup": 0.015,
    "dmc/cheetah_run": 0.016,
    "dmc/dog_run": 0.038,
    "dmc/finger_spin": 0.015,
    "dmc/finger_turn_hard": 0.015,
    "dmc/hopper_hop": 0.014,
    "dmc/humanoid_run": 0.019,
    "dmc/pendulum_swingup": 0.013,
    "dmc/quadruped_run": 0.019,
    "dmc/reacher_easy": 0.083,
    "dmc/walker_run": 0.024,
}
"""Differences of docs/pixels.md."""


@pytest.mark.parametrize("name", VISUAL_TASKS)
def test_images_are_like_the_original(name):
    pair = compare(name, count=3)
    assert pair.ours.shape == (3, 84, 84, 3)
    assert pair.ours.dtype == np.uint8
    assert pair.difference < 1.25 * SEEN[name]
    for wrong in (pair.ours[..., ::-1], pair.ours[:, ::-1], pair.ours[:, :, ::-1], pair.ours[::-1]):
        assert Pair(wrong, pair.original).difference > 1.05 * pair.difference


def test_a_picture_is_the_same_alone_and_in_any_nested_batch():
    env = envs.make("dmc/pendulum_swingup")
    render = Renderer(env, Camera(size=24))
    states = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 6))
    flat = jax.jit(jax.vmap(render))(states)
    nested = jax.jit(jax.vmap(jax.vmap(render)))(
        jax.tree.map(lambda x: x.reshape(2, 3, *x.shape[1:]), states)
    )
    np.testing.assert_array_equal(nested.reshape(flat.shape), flat)
    alone = jax.jit(render)(jax.tree.map(lambda x: x[4], states))
    np.testing.assert_array_equal(alone, flat[4])
    assert len({image.tobytes() for image in np.asarray(flat)}) == 6


def test_pictures_of_a_scan_follow_the_simulation():
    env = envs.make("dmc/pendulum_swingup")
    render = Renderer(env, Camera(size=24))
    start = jax.vmap(env.reset)(jax.random.split(jax.random.key(1), 2))

    def step(state, _):
        state = jax.vmap(env.step)(state, jnp.ones((2, 1)))
        return state, (jax.vmap(render)(state), state)

    _, (images, states) = jax.jit(lambda s: jax.lax.scan(step, s, None, 5))(start)
    again = jax.jit(jax.vmap(jax.vmap(render)))(states)
    np.testing.assert_array_equal(images, again)
    assert not np.array_equal(images[0], images[-1])


def test_targets_are_drawn_where_the_task_has_them():
    env = envs.make("dmc/reacher_easy")
    render = jax.jit(Renderer(env))
    state = jax.jit(env.reset)(jax.random.key(0))

    def seen(x: float, y: float) -> np.ndarray:
        image = render(state.replace(task=jnp.array([x, y], jnp.float32)))
        return np.asarray(image, np.int32)

    without = seen(9.0, 9.0)

    # The camera looks down from above: x points right, y up.
    pixels_per_meter = 84 / (2 * 0.75 * np.tan(np.deg2rad(env.physics.model.cam_fovy[0] / 2)))
    for x, y in ((0.15, 0.1), (-0.15, 0.1), (-0.1, -0.15)):
        rows, columns = np.nonzero(np.abs(seen(x, y) - without).sum(-1) > 60)
        expected = 41.5 + pixels_per_meter * np.array([x, -y])
        np.testing.assert_allclose([columns.mean(), rows.mean()], expected, atol=1.5)


@pytest.mark.parametrize("name", ["dmc/finger_turn_hard", "dmc/reacher_easy"])
def test_targets_that_stay_where_the_model_has_them_are_less_like_the_original(name, monkeypatch):
    right = compare(name, count=3)
    monkeypatch.setattr(type(envs.make(name)), "moved", lambda self, state: {})
    assert compare(name, count=3).difference > right.difference


def test_a_camera_that_is_not_there_is_refused():
    with pytest.raises(UnsupportedModelError, match="no camera 9: choose one of 0 to 1"):
        Renderer(envs.make("dmc/cartpole_swingup"), Camera(camera=9))
