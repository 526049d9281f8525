"""What a task moves between episodes, such as a target, is shown where the original has it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from envs.base import State
from envs.devtools import parity
from envs.originals import RealEnv
from envs.physics.options import COMPILER_OPTIONS
from envs.render.pixels import Camera, Renderer
from envs.render.video import Painter

from ..harness import make, make_real

MOVING = [
    "dmc/finger_turn_easy",
    "dmc/finger_turn_hard",
    "dmc/fish_swim",
    "dmc/manipulator_bring_ball",
    "dmc/manipulator_bring_peg",
    "dmc/reacher_easy",
    "dmc/reacher_hard",
    "dmc/stacker_stack_2",
    "dmc/stacker_stack_4",
    "dmc/swimmer_swimmer15",
    "dmc/swimmer_swimmer6",
]
"""All tasks whose original changes its model at a reset."""

DRAWN = [
    "dmc/finger_turn_hard",
    "dmc/fish_swim",
    "dmc/manipulator_bring_ball",
    "dmc/reacher_hard",
    "dmc/stacker_stack_2",
    "dmc/swimmer_swimmer6",
]
"""One of each domain: a site, geoms, a body, a body that turns, and a light."""

SIZE = 64


def arrays(model: mujoco.MjModel) -> dict[str, np.ndarray]:
    """Returns a copy of all the numbers of a model."""
    fields = {name: getattr(model, name) for name in dir(model) if not name.startswith("_")}
    return {name: value.copy() for name, value in fields.items() if isinstance(value, np.ndarray)}


def edits(real: RealEnv) -> dict[str, dict[str, np.ndarray]]:
    """Returns the rows of the original's model that some of its resets change, as they are after
    the last one: {field: {name of the element: row}}."""
    real.reset(0)
    first, changed = arrays(real.model), {}
    del first["wrap_prm"]  # directions of forces (point_mass_hard), which no picture shows
    for seed in range(1, 4):
        real.reset(seed)
        now = arrays(real.model)
        for field, before in first.items():
            rows = np.any(before != now[field], axis=tuple(range(1, before.ndim)))
            changed[field] = changed.get(field, False) | rows
    return {
        field: {
            getattr(real.model, field.split("_")[0])(row).name: now[field][row]
            for row in np.flatnonzero(rows)
        }
        for field, rows in changed.items()
        if np.any(rows)
    }


def moved(name: str) -> Any:
    """Returns what the port says it moves in the episode that the original plays now."""
    env, real = make(name), make_real(name)
    task = env.task_from_original(real.model, real.data)
    return env.moved(State(None, None, None, None, task))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", parity.comparable())
def test_a_task_says_where_the_original_moves_its_model(name: str) -> None:
    expected, found = edits(make_real(name)), moved(name)
    assert (name in MOVING) == bool(expected)
    assert {field: set(rows) for field, rows in found.items()} == {
        field: set(rows) for field, rows in expected.items()
    }
    for field, rows in expected.items():
        for element, row in rows.items():
            np.testing.assert_allclose(found[field][element], row, rtol=1e-6, atol=1e-7)


def played(name: str) -> tuple[Any, Any, np.ndarray]:
    """Returns the physics and `moved` of starts of the original, leaves (n, ...), and what it draws
    of them, (n, SIZE, SIZE, 3)."""
    env, real = make(name), make_real(name)
    number = Camera().number(name, real.model)
    states, images = [], []
    for seed in range(4):
        real.reset(seed)
        # The port's numbers are float32.
        qpos, qvel = np.float32(real.qpos), np.float32(real.qvel)
        real.set_state(qpos, qvel)
        states.append((env.physics.init(qpos, qvel), moved(name)))
        images.append(real.render(SIZE, number))
    physics, places = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    return physics, places, np.stack(images)


def left(name: str, places: Any) -> Any:
    """Returns `places`, all of them as in the model."""
    model = make(name).physics.model

    def of_model(field: str, element: str, now: jax.Array) -> jax.Array:
        row = getattr(model, field)[getattr(model, field.split("_")[0])(element).id]
        return jnp.broadcast_to(jnp.asarray(row, jnp.float32), now.shape)

    return {
        field: {element: of_model(field, element, now) for element, now in rows.items()}
        for field, rows in places.items()
    }


@pytest.mark.parametrize("name", DRAWN)
def test_both_renderers_draw_what_the_original_draws(name: str) -> None:
    env = make(name)
    physics, places, original = played(name)
    before = arrays(env.physics.model)
    by_opengl = Painter(env, Camera(size=SIZE), "gl")
    # A place is float32 here and float64 there: an edge may lie a pixel further.
    assert np.mean(np.any(by_opengl(physics, places) != original, -1)) < 1e-3
    for field, value in before.items():
        np.testing.assert_array_equal(getattr(env.physics.model, field), value)

    # Skies and shades of the ray tracer differ, but not what changes in a picture with the target.
    draw = jax.jit(
        jax.vmap(Renderer(env, Camera(size=SIZE)).draw), compiler_options=COMPILER_OPTIONS
    )
    home = left(name, places)
    expected = original.astype(int) - by_opengl(physics, home)
    found = np.asarray(draw(physics, places), int) - np.asarray(draw(physics, home), int)
    assert np.mean(np.any(np.abs(expected) > 25, -1)) > 5e-4
    alike = np.corrcoef(expected.ravel(), found.ravel())[0, 1]
    others = np.corrcoef(np.roll(expected, 1, 0).ravel(), found.ravel())[0, 1]
    assert alike > 0.7, (alike, others)
    assert others < alike - 0.2, (alike, others)
