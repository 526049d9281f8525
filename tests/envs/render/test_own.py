"""Models from anywhere, wrapped or not, with and without cameras and lights, in both renderers."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import envs
from envs import registry
from envs.base import Env, Moved, State, spec_from_model
from envs.physics.backend import Physics
from envs.physics.models import gym_model
from envs.physics.options import UnsupportedModelError
from envs.render.pixels import Camera, PixelEnv, Renderer, drawing
from envs.render.video import Painter
from envs.wrappers import Repeated

PAGE = Path(__file__).parents[3] / "docs" / "howto" / "your-own-task.md"
RENDERERS = ("gl", "warp")

MODEL = """<mujoco><worldbody>{}
  <body><joint name="rail" type="slide" axis="1 0 0"/>
    <geom type="sphere" size=".1" rgba="1 0 0 1"/><site name="top" pos="0 0 .1" size=".05"/></body>
  <body name="mark" pos="0 0 .3"><geom name="flag" type="sphere" size=".05" rgba="0 1 0 1"
    contype="0" conaffinity="0"/></body>
</worldbody><actuator><motor joint="rail" ctrlrange="-1 1"/></actuator></mujoco>"""
CAMERA = '<camera pos="0 -2 0" xyaxes="1 0 0 0 0 1"/>'
LIGHT = '<light pos="0 -1 1" dir="0 1 -1"/>'


class Own(Env):
    """A red ball on a rail, in a model that nothing in `envs` has compiled."""

    def __init__(self, world: str, moved: Moved | None = None) -> None:
        model = mujoco.MjModel.from_xml_string(MODEL.format(world))
        self.physics, self._moved = Physics(model, substeps=1), moved or {}
        self.spec = spec_from_model("mine/ball", model, obs_size=1, episode_steps=10, substeps=1)

    def reset(self, key: jax.Array) -> State:
        qpos = jax.random.uniform(key, (1,), jnp.float32, -0.1, 0.1)
        physics = self.physics.init(qpos, jnp.zeros(1))
        return State.begin(physics, physics.qpos)

    def step(self, state: State, action: jax.Array) -> State:
        return state.replace(physics=self.physics.substep(state.physics, action)[0])

    def moved(self, state: State) -> Moved:
        return self._moved


def pictures(env: Any, how: Any, size: int = 48, count: int = 2) -> np.ndarray:
    states = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), count))
    return Painter(env, Camera(size=size), how)(states.physics, jax.vmap(env.moved)(states))


def red(image: np.ndarray) -> np.ndarray:
    """Where the ball is, (size, size) bool."""
    image = image.astype(int)
    return image[..., 0] > 30 + 2 * image[..., 1]


@pytest.mark.parametrize("how", RENDERERS)
@pytest.mark.parametrize("light", ["", LIGHT])
def test_a_model_from_elsewhere_is_drawn_with_and_without_a_light(how: str, light: str) -> None:
    images = pictures(Own(CAMERA + light), how)
    # At 2 m, of a view of 45 degrees.
    radius = 0.1 / (2 * 2 * np.tan(np.deg2rad(22.5))) * 48
    for image in images:
        assert red(image).sum() == pytest.approx(np.pi * radius**2, rel=0.25)
        assert image[red(image)][:, 0].mean() > 60
    assert not np.array_equal(images[0], images[1])


def test_a_model_without_a_camera_is_drawn_or_refused_with_the_remedy() -> None:
    assert red(pictures(Own(""), "gl")[0]).sum() > 20  # MuJoCo's free camera
    with pytest.raises(UnsupportedModelError, match=r"mine/ball has no camera.*camera element"):
        Painter(Own(""), Camera(), "warp")
    for how in RENDERERS:
        with pytest.raises(UnsupportedModelError, match=r"mine/ball has no camera 3: choose 0,"):
            Painter(Own(CAMERA), Camera(camera=3), how)  # type: ignore[arg-type]


def test_the_free_camera_of_both_renderers_sees_the_same() -> None:
    """gymnasium's pendulum has no camera."""
    env = envs.make("gym/InvertedPendulum-v5")
    assert env.physics.model.ncam == 0  # type: ignore[attr-defined]
    gl, warp = (pictures(env, how).astype(float) / 255 for how in RENDERERS)
    assert gl.std() > 0.02
    difference = np.abs(gl - warp).mean()
    assert difference < 0.003
    assert np.abs(gl - warp[:, :, ::-1]).mean() > 1.3 * difference
    assert np.abs(gl - warp[:, ::-1]).mean() > 2 * difference


def test_what_a_task_moves_is_a_geom_where_the_ray_tracer_draws_no_sites() -> None:
    place = jnp.array([0.2, 0.0, 0.3], jnp.float32)
    for field, name in (("body_pos", "mark"), ("geom_pos", "flag")):
        shift = place if field == "body_pos" else place - jnp.array([0, 0, 0.3])
        gl, warp = (pictures(Own(CAMERA, {field: {name: shift}}), how)[0] for how in RENDERERS)
        for image in (gl.astype(int), warp.astype(int)):
            green = image[..., 1] > 30 + 2 * image[..., 0]
            expected = 23.5 + 0.2 / (2 * 2 * np.tan(np.deg2rad(22.5))) * 48
            assert np.nonzero(green)[1].mean() == pytest.approx(expected, abs=1)
    env = Own(CAMERA, {"site_pos": {"top": place}})
    with pytest.raises(UnsupportedModelError, match=r"mine/ball moves the site 'top'.*geom"):
        pictures(env, "warp")


def test_wrapped_tasks_are_drawn_as_the_task_itself() -> None:
    env = Own(CAMERA)
    wanted = pictures(env, "warp")
    np.testing.assert_array_equal(pictures(Repeated(env, 2), "warp"), wanted)
    np.testing.assert_array_equal(
        pictures(Repeated(Repeated(env, 2), 3), "gl"), pictures(env, "gl")
    )
    seen = PixelEnv(Repeated(env, 2), Renderer(Repeated(env, 2), Camera(size=48)))
    assert seen.unwrapped is env
    starts = jax.vmap(seen.reset)(jax.random.split(jax.random.key(0), 2))
    np.testing.assert_array_equal(starts.obs[:, 0], wanted)


def test_a_task_without_physics_names_what_it_lacks() -> None:
    env = Own(CAMERA)
    del env.physics
    with pytest.raises(
        UnsupportedModelError, match=r"mine/ball .*`self\.physics`.*`self\.unwrapped`"
    ):
        Renderer(Repeated(env, 2))


def test_numbers_that_were_changed_after_compiling_are_drawn() -> None:
    """A model has the structure of one that `envs` compiled, and other numbers."""
    env = envs.make("dmc/pendulum_swingup")
    before = pictures(env, "warp")
    env.physics.model.body_pos[1, 0] += 0.5  # type: ignore[attr-defined]
    after = pictures(env, "warp")
    assert np.abs(before.astype(int) - after).mean() > 1


def test_sites_and_their_bodies_need_no_names(tmp_path: Path) -> None:
    path = tmp_path / "own.xml"
    path.write_text(MODEL.format('<site pos="1 0 0"/><site pos="2 0 0"/>' + CAMERA))
    model = gym_model(str(path))
    drawn = drawing(model)
    assert drawn.ngeom == model.ngeom + model.nsite == model.ngeom + 3
    geoms = {(int(i), *place) for i, place in zip(drawn.geom_bodyid, drawn.geom_pos, strict=True)}
    for body, place in zip(model.site_bodyid, model.site_pos, strict=True):
        assert (int(body), *place) in geoms


@pytest.mark.parametrize("how", RENDERERS)
def test_the_example_of_the_page_can_be_seen(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_TASKS", dict(registry._TASKS))
    [code] = re.findall(r"<!-- puck.py -->\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    path = tmp_path / "puck.py"
    path.write_text(code)
    runpy.run_path(str(path))
    env: Any = envs.make("mine/puck")
    qpos = jnp.array([[-2.0], [0.0], [2.0]])  # both ends of the rail
    states = jax.vmap(lambda q: env.physics.init(q, jnp.zeros(1)))(qpos)
    starts = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 3))
    images = Painter(env, Camera(size=96), how)(states, jax.vmap(env.moved)(starts))  # type: ignore[arg-type]
    for image in images:
        assert 40 < image.mean() < 220
        assert image.std() > 20
    columns = [np.nonzero(red(image))[1].mean() for image in images]
    assert columns[0] < 20
    assert columns[1] == pytest.approx(47.5, abs=2)
    assert columns[2] > 76
