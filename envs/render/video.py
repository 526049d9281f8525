"""Pictures of an episode, drawn by MuJoCo's renderer if there is OpenGL, otherwise by MJX-Warp's
ray tracer."""

from __future__ import annotations

import copy
import itertools
from typing import Literal

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from ..base import Env, Moved, PhysicsState
from ..originals import opengl_physics
from ..physics.options import COMPILER_OPTIONS, UnsupportedModelError
from .pixels import Camera, Renderer, model_of

How = Literal["auto", "gl", "warp"]

_BATCH = 32
"""Pictures that the ray tracer draws at a time: one program and its buffers serve any length."""


class NoRendererError(RuntimeError):
    """No renderer works here; the message says what to install."""


class Painter:
    """Draws states of one task.

    Attributes:
        how: the renderer, "gl" or "warp".
    """

    def __init__(self, env: Env, camera: Camera, how: How = "auto") -> None:
        """env: the task, maybe wrapped.

        Raises:
            NoRendererError: if the chosen renderer does not work here, or with "auto" neither does.
            UnsupportedModelError: if the task has no such camera, or no model to draw.
        """
        self._env, self._camera, self._model = env, camera, model_of(env)
        failures = []
        for each in ("gl", "warp") if how == "auto" else (how,):
            try:
                self._draw = self._by_opengl() if each == "gl" else self._by_ray_tracing()
            except UnsupportedModelError:
                raise
            except Exception as error:  # drivers raise errors of many kinds
                failures.append(f"{each}: {error}")
            else:
                self.how = each
                return
        raise NoRendererError(
            f"no picture can be drawn here ({'; '.join(failures)}): install a library of OpenGL, "
            "such as libegl1 or libosmesa6 with MUJOCO_GL=osmesa, or `pip install 'fpmd-mjx[gpu]'` "
            "for MJX-Warp."
        )

    def __call__(self, physics: PhysicsState, moved: Moved) -> np.ndarray:
        """Returns pictures (n, size, size, 3) uint8, RGB, of states with leaves (n, ...); moved: as
        of `Env.moved`."""
        return self._draw(physics, moved)

    def _by_opengl(self):
        model = copy.copy(self._model)  # the drawing changes it
        drawn = opengl_physics(model)
        data, size = drawn.data.ptr, self._camera.size
        # Some of gymnasium's models have no camera. -1 is MuJoCo's free camera, which shows all.
        free = self._camera.is_free(model)
        number = -1 if free else self._camera.number(self._env.spec.name, model)

        def draw(physics: PhysicsState, moved: Moved) -> np.ndarray:
            images = []
            for i in range(physics.qpos.shape[0]):
                data.qpos[:], data.qvel[:] = physics.qpos[i], physics.qvel[i]
                if physics.act is not None:
                    data.act[:] = physics.act[i]
                for field, elements in moved.items():
                    kind, _, suffix = field.partition("_")
                    for name, rows in elements.items():
                        element = getattr(model, kind)(name)
                        getattr(element, suffix)[:] = rows[i]
                        if kind in ("geom", "site"):
                            element.sameframe[:] = 0  # otherwise MuJoCo uses its body's frame
                mujoco.mj_forward(model, data)
                images.append(np.array(drawn.render(size, size, camera_id=number)))
            return np.stack(images)

        drawn.render(size, size, camera_id=number)  # fails without OpenGL
        return draw

    def _by_ray_tracing(self):
        render = jax.jit(
            jax.vmap(Renderer(self._env, self._camera).draw), compiler_options=COMPILER_OPTIONS
        )

        def draw(physics: PhysicsState, moved: Moved) -> np.ndarray:
            count, images = physics.qpos.shape[0], []
            for start in range(0, count, _BATCH):
                which = jnp.minimum(jnp.arange(start, start + _BATCH), count - 1)
                batch = jax.tree.map(lambda leaf, which=which: leaf[which], (physics, moved))
                images.append(np.asarray(render(*batch)))
            return np.concatenate(images)[:count]

        return draw


def thin(count: int, dt: float, most_per_second: float = 50.0) -> tuple[slice, float]:
    """Returns the pictures that a real-time video shows, of `count` that are `dt` seconds apart,
    and their number per second."""
    stride = next(n for n in itertools.count(1) if n * dt * most_per_second >= 1 - 1e-6)
    return slice(0, count, stride), 1 / (stride * dt)
