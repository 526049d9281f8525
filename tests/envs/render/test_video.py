"""Pictures of states: OpenGL's are dm_control's own, the ray tracer's are those of `Renderer`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.originals import make_real
from envs.physics.options import UnsupportedModelError
from envs.render import video
from envs.render.pixels import Camera
from envs.render.video import NoRendererError, Painter, thin


def states(env, count: int):
    """Random starts, with what `Painter` asks of them."""
    starts = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), count))
    return starts.physics, jax.vmap(env.moved)(starts)


def test_opengl_draws_what_dm_control_draws():
    env, real = envs.make("dmc/cartpole_swingup"), make_real("dmc/cartpole_swingup")
    physics, moved = states(env, 3)
    painter = Painter(env, Camera(size=48))
    assert painter.how == "gl"
    images = painter(physics, moved)
    assert images.shape == (3, 48, 48, 3)
    for i, image in enumerate(images):
        real.set_state(np.asarray(physics.qpos[i]), np.asarray(physics.qvel[i]))
        # A state is float32 in one and is the same float64 in the other.
        np.testing.assert_array_equal(image, real.render(48, 0))


def test_both_renderers_draw_targets_where_the_task_has_them():
    env = envs.make("dmc/reacher_easy")
    physics, _ = states(env, 1)
    for how in ("gl", "warp"):
        painter = Painter(env, Camera(size=64), how)
        assert painter.how == how

        def seen(x: float, y: float, painter=painter) -> np.ndarray:
            place = jnp.array([[x, y, 0.01]])
            return painter(physics, {"geom_pos": {"target": place}})[0].astype(int)

        without = seen(9.0, 9.0)
        scale = 64 / (2 * 0.75 * np.tan(np.deg2rad(env.physics.model.cam_fovy[0] / 2)))
        for x, y in ((0.15, 0.1), (-0.15, -0.1)):
            rows, columns = np.nonzero(np.abs(seen(x, y) - without).sum(-1) > 60)
            expected = 31.5 + scale * np.array([x, -y])
            np.testing.assert_allclose([columns.mean(), rows.mean()], expected, atol=2)


def test_the_ray_tracer_draws_any_number_of_pictures(monkeypatch):
    monkeypatch.setattr(video, "_BATCH", 4)
    env = envs.make("dmc/pendulum_swingup")
    physics, moved = states(env, 6)
    painter = Painter(env, Camera(size=24), "warp")
    images = painter(physics, moved)
    assert images.shape == (6, 24, 24, 3)
    for i in (0, 3, 4, 5):
        alone = painter(jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], physics), {})
        np.testing.assert_array_equal(images[i], alone[0])
    assert len({image.tobytes() for image in images}) == 6


def test_gymnasiums_tasks_are_drawn_with_and_without_a_camera():
    for name in ("gym/InvertedPendulum-v5", "gym/HalfCheetah-v5"):
        env = envs.make(name)
        images = Painter(env, Camera(size=32), "gl")(*states(env, 2))
        assert images.std() > 5  # something is in front of something
        assert not np.array_equal(images[0], images[1])


def test_what_cannot_be_drawn_is_refused_with_the_remedy(monkeypatch):
    def broken(model):
        raise RuntimeError("no driver")

    monkeypatch.setattr(video, "opengl_physics", broken)
    env = envs.make("dmc/pendulum_swingup")
    with pytest.raises(NoRendererError, match=r"gl: no driver.*libosmesa6 .*fpmd-mjx\[gpu\]"):
        Painter(env, Camera(), "gl")
    assert Painter(env, Camera(size=20)).how == "warp"
    with pytest.raises(UnsupportedModelError, match="no camera 9"):
        Painter(env, Camera(camera=9))


@pytest.mark.parametrize(
    ("dt", "stride", "per_second"),
    [(0.02, 1, 50), (0.01, 2, 50), (0.04, 1, 25), (0.008, 3, 1 / 0.024), (0.1, 1, 10)],
)
def test_a_video_runs_in_real_time(dt, stride, per_second):
    shown, found = thin(100, dt)
    assert (shown, found) == (slice(0, 100, stride), pytest.approx(per_second))
