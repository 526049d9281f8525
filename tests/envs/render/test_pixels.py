"""Images: what dm_control draws of the same states, whatever the batch, and what is in them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.devtools.likeness import VISUAL_TASKS, Pair, compare
from envs.originals import RealInPixels, RepeatedReal, make_real
from envs.physics.options import UnsupportedModelError
from envs.render.pixels import Camera, PixelEnv, Renderer
from envs.wrappers import Repeated, VectorEnv

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


def test_observations_are_the_last_images_in_part_of_a_batch_that_begins_anew():
    """Against a list of images for each environment, drawn one by one."""
    env = envs.make("dmc/pendulum_swingup")
    render = Renderer(env, Camera(size=20))
    seen = PixelEnv(Repeated(env, 2), render, frames=3)
    assert seen.spec.obs_shape == (3, 20, 20, 3)
    assert seen.spec.episode_steps == env.spec.episode_steps // 2
    vector = VectorEnv(seen, num_envs=3, pool=4, refresh=2)
    draw = jax.jit(render)

    def image(state) -> np.ndarray:
        return np.asarray(draw(seen._unseen(state)))

    def one(state, s, e):
        return jax.tree.map(lambda leaf: leaf[s, e], state)

    state = jax.jit(vector.init)(jax.random.split(jax.random.key(0), 2))
    # The clocks of three environments of six run out, one after the other.
    clock = seen.spec.episode_steps - jnp.array([[1, 9, 2], [9, 3, 9]])
    state = state.replace(clock=clock)
    histories = {(s, e): [image(one(state.env, s, e))] * 3 for s, e in np.ndindex(2, 3)}
    step = jax.jit(vector.step)
    ended = 0
    for _ in range(4):
        for (s, e), history in histories.items():
            np.testing.assert_array_equal(state.env.obs[s, e], history[-3:])
        state, outcome = step(state, jnp.full((2, 3, 1), 0.7))
        for (s, e), history in histories.items():
            new = image(one(state.env, s, e))
            if outcome.truncated[s, e]:
                ended += 1
                history.clear()
                history.extend([new] * 2)
            history.append(new)
    assert ended == 3
    assert len({np.asarray(x).tobytes() for x in state.env.obs.reshape(6, -1)}) == 6


def test_the_simulation_under_the_images_is_the_task():
    env = envs.make("dmc/reacher_easy")  # which keeps a target in its state
    seen = PixelEnv(Repeated(env, 2), Renderer(env, Camera(size=20)))
    key, action = jax.random.key(3), jnp.array([0.3, -0.6])
    want = jax.jit(env.reset)(key)
    found = jax.jit(seen.reset)(key)
    for _ in range(3):
        bare = seen._unseen(found)
        for a, b in zip(jax.tree.leaves(bare), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
        assert seen.moved(found).keys() == env.moved(want).keys() != set()
        first = jax.jit(env.step)(want, action)
        want = jax.jit(env.step)(first, action)
        want = want.replace(reward=first.reward + want.reward)
        found = jax.jit(seen.step)(found, action)


def test_a_simulation_that_blew_up_is_drawn_all_the_same():
    env = envs.make("dmc/pendulum_swingup")
    render = jax.jit(jax.vmap(Renderer(env, Camera(size=20))))
    states = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 3))
    sound = np.asarray(render(states))
    for value in (jnp.nan, jnp.inf, 1e30):
        broken = states.physics.replace(qpos=states.physics.qpos.at[1].set(value))
        images = np.asarray(render(states.replace(physics=broken)))
        np.testing.assert_array_equal(images[[0, 2]], sound[[0, 2]])


def test_the_original_is_seen_in_its_own_last_images():
    real, bare = make_real("dmc/pendulum_swingup"), make_real("dmc/pendulum_swingup")
    seen = RealInPixels(RepeatedReal(real, 2), 24, 0, frames=3)
    bare.reset(5)
    images = [bare.render(24, 0)] * 3
    obs = seen.reset(5)
    for _ in range(3):
        np.testing.assert_array_equal(obs, images[-3:])
        rewards = [bare.step(np.array([0.5]))[1] for _ in range(2)]
        images.append(bare.render(24, 0))
        obs, reward, terminated, truncated = seen.step(np.array([0.5]))
        assert reward == sum(rewards)
        assert not terminated
        assert not truncated
    np.testing.assert_array_equal(seen.qpos, bare.qpos)
    for _ in range(497):
        *_, terminated, truncated = seen.step(np.array([0.5]))
    assert truncated
    assert not terminated


def test_a_repeat_of_the_original_ends_with_its_episode():
    real = RepeatedReal(make_real("gym/InvertedPendulum-v5"), 7)
    bare = make_real("gym/InvertedPendulum-v5")
    np.testing.assert_array_equal(real.reset(0), bare.reset(0))
    total, rewards, terminated = 0.0, [], False
    while not terminated:
        _, reward, terminated, _ = real.step(np.array([0.2]))
        total += reward
    terminated = False
    while not terminated:
        _, reward, terminated, _ = bare.step(np.array([0.2]))
        rewards.append(reward)
    assert total == sum(rewards)
    assert len(rewards) % 7  # it ended within a repeat


def test_a_camera_that_is_not_there_is_refused():
    with pytest.raises(UnsupportedModelError, match="no camera 9: choose one of 0 to 1"):
        Renderer(envs.make("dmc/cartpole_swingup"), Camera(camera=9))
