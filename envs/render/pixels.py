"""Images of simulations by MJX-Warp's ray tracer, in batches within the program, and tasks with
images as observations.

The defaults are those of DrQ-v2 (arXiv 2107.09645): 84 x 84 pixels, three frames, and the task's
first camera, or the third one for quadrupeds, which shows where they go.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from flax import struct
from mujoco import mjx

from ..base import Env, Moved, PhysicsState, State
from ..physics.backend import Physics
from ..physics.jax import JaxSimulation
from ..physics.models import spec_of, without_deprecation_notices
from ..physics.options import UnsupportedModelError, resolve_impl
from ..physics.preparation import prepare_model, without_contacts

_GROUPS = (0, 1, 2)
"""Groups of geoms and sites that MuJoCo shows by default."""

_QUADRUPEDS = frozenset(f"dmc/quadruped_{task}" for task in ("fetch", "run", "walk"))

_UNDER_THE_SKIN = 3
"""The group of the geoms that collide in place of a skin. The ray tracer does not draw skins."""


@dataclasses.dataclass(frozen=True)
class Camera:
    """The settings of an image.

    Attributes:
        size: height and width of an image in pixels.
        camera: number of the model's camera; None is DrQ-v2's choice.
        shadows: whether lights cast shadows, which costs a ray for each pixel and light.
        skybox: whether the background is the model's sky or black.
        textures: whether surfaces have textures, such as the checkered floor.
    """

    size: int = 84
    camera: int | None = None
    shadows: bool = True
    skybox: bool = True
    textures: bool = True

    def number(self, task: str, model: mujoco.MjModel) -> int:
        """Returns the number of the camera for a task, such as "dmc/walker_run", and its model.

        Raises:
            UnsupportedModelError: if the model has no such camera.
        """
        default = 2 if task in _QUADRUPEDS else 0
        number = default if self.camera is None else self.camera
        if not model.ncam:
            raise UnsupportedModelError(
                f"{task} has no camera, and so no camera {number}: add a camera element to its "
                "model."
            )
        if not 0 <= number < model.ncam:
            known = f"one of 0 to {model.ncam - 1}" if model.ncam > 1 else "0, its only one"
            raise UnsupportedModelError(f"{task} has no camera {number}: choose {known}.")
        return number

    def is_free(self, model: mujoco.MjModel) -> bool:
        """Whether MuJoCo's free camera is used, which shows all of a model without a camera."""
        return self.camera is None and not model.ncam


class Renderer:
    """The images of one task: a function of a single `State`.

    Its `jax.vmap`s, nested or not, are one call of the ray tracer, which uses the task's
    `graph_mode`.

    Each new batch size takes memory: 16 bytes for each texel of the model, 60 to 75 MB, and at
    least 8 bytes for each pixel. Executables refer to this memory by number, so the renderer must
    live as long as they do.
    """

    def __init__(self, env: Env, camera: Camera | None = None) -> None:
        """Uploads the task's model, with its geoms and textures, to the default device.

        Raises:
            UnsupportedModelError: if the task has no such camera, or no model to draw.
            ModuleNotFoundError: if warp is not installed.
        """
        resolve_impl("warp")
        from ..physics.warp import in_one_batch, with_graph_mode  # warp is optional

        self._camera = camera or Camera()
        self._env = env
        model = model_of(env)
        self.model = prepare_model(drawing(model, free_camera=self._camera.is_free(model)))
        self._number = self._camera.number(env.spec.name, self.model)
        [device] = jnp.zeros(()).devices()
        self._kinematics = JaxSimulation(without_contacts(self.model))
        self._drawn = with_graph_mode(
            mjx.put_model(self.model, device=device, impl="warp"), physics_of(env).graph_mode
        )
        self._template = mjx.make_data(self.model, device=device, impl="warp", naconmax=1, njmax=1)
        self._contexts: dict[int, Any] = {}
        self._images = in_one_batch(self._trace)

    @property
    def size(self) -> int:
        """Height and width of an image in pixels."""
        return self._camera.size

    def __call__(self, state: State) -> jax.Array:
        """Returns the camera's image: (size, size, 3) uint8, RGB.

        Coordinates that are not finite, of a simulation that blew up, are drawn at the origin.
        """
        return self.draw(state.physics, self._env.moved(state))

    def draw(self, physics: PhysicsState, moved: Moved) -> jax.Array:
        """Returns the camera's image of a physics state; moved: as of `Env.moved`."""
        with jax.default_matmul_precision("highest"):
            poses = self._poses(physics, moved)
        return self._images({k: jnp.nan_to_num(v, posinf=0, neginf=0) for k, v in poses.items()})

    def _poses(self, state: PhysicsState, moved: Moved) -> dict[str, jax.Array]:
        """Returns positions and orientations of geoms, cameras and lights."""
        data, model = self._kinematics.load(state), self._moved(moved)
        for stage in (mjx.kinematics, mjx.com_pos, mjx.camlight):
            data = stage(model, data)
        names = ("geom_xpos", "geom_xmat", "cam_xpos", "cam_xmat")
        return {name: getattr(data, name) for name in names} | _lights(self.model, model, data)

    def _moved(self, moved: Moved) -> mjx.Model:
        """Returns the model with the rows in `moved`."""
        model = self._kinematics.model
        for field, rows in moved.items():
            kind, _, suffix = field.partition("_")
            drawn = "geom" if kind == "site" else kind  # see `drawing`
            values = getattr(model, f"{drawn}_{suffix}")
            for name, row in rows.items():
                try:
                    element = getattr(self.model, drawn)(f"site {name}" if kind == "site" else name)
                except KeyError as error:
                    raise UnsupportedModelError(
                        f"{self._env.spec.name} moves the {kind} {name!r}, which is not drawn: for "
                        "the ray tracer, make it a visible geom with contype and conaffinity 0."
                    ) from error
                values = values.at[element.id].set(row)
            model = model.replace(**{f"{drawn}_{suffix}": values})
        return model

    def _trace(self, poses: dict[str, jax.Array]) -> jax.Array:
        """Renders poses (n, ...): (n, size, size, 3) uint8."""
        context = self._context(poses["geom_xpos"].shape[0])

        def one(poses: dict[str, jax.Array]) -> jax.Array:
            fields = {f"_impl.{k}" if k.startswith("light") else k: v for k, v in poses.items()}
            data = mjx.refit_bvh(self._drawn, self._template.tree_replace(fields), context)
            packed, _, _ = mjx.render(self._drawn, data, context)
            rgb = mjx.get_rgb(context, 0, packed)
            return jnp.round(255.0 * rgb).astype(jnp.uint8)

        return jax.vmap(one)(poses)

    def _context(self, count: int) -> Any:
        """Returns the buffers for `count` images at a time."""
        if count not in self._contexts:
            camera = self._camera
            self._contexts[count] = mjx.create_render_context(
                self.model,
                nworld=count,
                cam_res=(camera.size, camera.size),
                cam_active=[self._number],
                render_rgb=True,
                render_depth=False,
                use_textures=camera.textures,
                use_shadows=camera.shadows,
                render_skybox=camera.skybox,
                enabled_geom_groups=list(_GROUPS),
            )
        return self._contexts[count].pytree()


class _Unseen(struct.PyTreeNode):
    """The observation and `State.task` of the task without images."""

    obs: jax.Array
    task: Any


class PixelEnv(Env):
    """`env` with its last images as observation: (frames, size, size, 3) uint8, oldest first.

    Each step adds one image, of the state after it. A reset repeats its image.

    Attributes:
        unwrapped: the task under all wrappers.
    """

    def __init__(self, env: Env, render: Renderer, frames: int = 3) -> None:
        """env: the task that `render` draws, maybe with repeated actions."""
        self._env, self._render = env, render
        self.unwrapped: Env = getattr(env, "unwrapped", env)
        self._images = (frames, render.size, render.size, 3)
        self.spec = dataclasses.replace(env.spec, obs_size=0, images=self._images)

    def reset(self, key: jax.Array) -> State:
        state = self._env.reset(key)
        return self._seen(state, jnp.broadcast_to(self._render(state), self._images))

    def step(self, state: State, action: jax.Array) -> State:
        after = self._env.step(self._unseen(state), action)
        return self._seen(after, jnp.concatenate([state.obs[1:], self._render(after)[None]]))

    def moved(self, state: State) -> Moved:
        return self._env.moved(self._unseen(state))

    @staticmethod
    def _seen(state: State, images: jax.Array) -> State:
        return state.replace(obs=images, task=_Unseen(state.obs, state.task))

    @staticmethod
    def _unseen(state: State) -> State:
        return state.replace(obs=state.task.obs, task=state.task.task)


def model_of(env: Env) -> mujoco.MjModel:
    """Returns the model of the task under all wrappers.

    Raises:
        UnsupportedModelError: if the task has no `physics`.
    """
    return physics_of(env).model


def physics_of(env: Env) -> Physics:
    """Returns the physics of the task under all wrappers.

    Raises:
        UnsupportedModelError: if the task has no `physics`.
    """
    physics: Physics | None = getattr(getattr(env, "unwrapped", env), "physics", None)
    if physics is None:
        raise UnsupportedModelError(
            f"{env.spec.name} cannot be drawn, because it has no Physics in `self.physics` (no "
            "task of MuJoCo Playground has one): set it, or in a wrapper set `self.unwrapped` to "
            "the task."
        )
    return physics


_CHANGED = (
    "qpos0",
    *(f"body_{what}" for what in ("pos", "quat", "ipos", "iquat", "mass", "subtreemass")),
    *(f"jnt_{what}" for what in ("pos", "axis")),
    *(f"geom_{what}" for what in ("pos", "quat", "size", "rgba")),
    *(f"cam_{what}" for what in ("pos", "quat", "pos0", "mat0", "poscom0", "fovy")),
    *(f"light_{what}" for what in ("pos", "dir", "pos0", "dir0", "poscom0", "diffuse", "ambient")),
    "mat_rgba",
)
"""Fields that are visible, and that a task may change after it has compiled its model."""


def drawing(model: mujoco.MjModel, *, free_camera: bool = False) -> mujoco.MjModel:
    """Returns a copy of `model` in which the ray tracer sees sites and skins.

    Visible sites become geoms without contacts and mass. The geom of a named site is called "site
    NAME". A skin is replaced by the geoms that collide in its place, in its mean colour.
    free_camera: adds MuJoCo's free camera.

    Geoms and cameras are added to the spec of the model. A model that was compiled elsewhere has no
    known spec: its sites are not drawn, and no camera is added.
    """
    known = spec_of(model)
    if known is None:
        return copy.deepcopy(model)
    spec = known.copy()
    if free_camera:
        _add_free_camera(spec, model)
    bodies = spec.bodies  # as numbered in the model
    for site in range(model.nsite):
        if model.site_group[site] not in _GROUPS or model.site_rgba[site, 3] == 0:
            continue
        source = model.site(site)
        material = model.site_matid[site]
        bodies[model.site_bodyid[site]].add_geom(
            name=f"site {source.name}" if source.name else "",
            type=mujoco.mjtGeom(model.site_type[site]),
            size=source.size,
            pos=source.pos,
            quat=source.quat,
            rgba=source.rgba,
            material=model.mat(material).name if material >= 0 else "",
            contype=0,
            conaffinity=0,
            mass=0,
        )
    with without_deprecation_notices():
        drawn = spec.compile()
    same = np.arange(model.ngeom)
    for body in range(model.nbody):  # its own geoms come before those of its sites
        own = np.flatnonzero(model.geom_bodyid == body)
        same[own] = np.flatnonzero(drawn.geom_bodyid == body)[: own.size]
    for field in _CHANGED:
        old, new = getattr(model, field), getattr(drawn, field)
        new[same if field.startswith("geom_") else slice(len(old))] = old
    if model.nskin:
        fur = drawn.geom_group == _UNDER_THE_SKIN
        drawn.geom_group[fur] = _GROUPS[0]
        drawn.geom_rgba[fur, :3] = _skin_color(model)
    return drawn


def _add_free_camera(spec: mujoco.MjSpec, model: mujoco.MjModel) -> None:
    """Adds a camera with the first pose of MuJoCo's free camera, `mjv_defaultFreeCamera`."""
    camera = mujoco.MjvCamera()
    mujoco.mjv_defaultFreeCamera(model, camera)
    azimuth, elevation = np.deg2rad([camera.azimuth, camera.elevation])
    flat = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
    up = np.array([0.0, 0.0, 1.0])
    forward = np.cos(elevation) * flat + np.sin(elevation) * up
    right = np.cross(flat, up)
    added = spec.worldbody.add_camera(
        pos=camera.lookat - camera.distance * forward, fovy=model.vis.global_.fovy
    )
    added.alt.type = mujoco.mjtOrientation.mjORIENTATION_XYAXES
    added.alt.xyaxes = [*right, *np.cross(right, forward)]


def _skin_color(model: mujoco.MjModel) -> np.ndarray:
    """Returns the mean colour of the first skin's texture, (3,) in [0, 1]."""
    material = model.mat(model.skin_matid[0])
    texture = model.tex(material.texid[mujoco.mjtTextureRole.mjTEXROLE_RGB])
    size = int(texture.height[0] * texture.width[0] * texture.nchannel[0])
    start = int(texture.adr[0])
    pixels = model.tex_data[start : start + size].reshape(-1, int(texture.nchannel[0]))
    return pixels[:, :3].mean(0) / 255


def _lights(model: mujoco.MjModel, moved: mjx.Model, data: mjx.Data) -> dict[str, jax.Array]:
    """Returns light_xpos and light_xdir, (nlight, 3) each, of MuJoCo's `mj_camlight`. MJX computes
    cameras alone. moved: the model with the positions and directions of an episode."""
    places, directions = [], []
    for light in range(model.nlight):
        mode = model.light_mode[light]
        body, target = model.light_bodyid[light], model.light_targetbodyid[light]
        turned = data.xmat[body].reshape(3, 3)
        place = data.xpos[body] + turned @ moved.light_pos[light]
        direction = turned @ moved.light_dir[light]
        match mode:
            case mujoco.mjtCamLight.mjCAMLIGHT_TRACK:
                place = data.xpos[body] + model.light_pos0[light].astype(np.float32)
                direction = jnp.asarray(model.light_dir0[light], jnp.float32)
            case mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM:
                place = data.subtree_com[body] + model.light_poscom0[light].astype(np.float32)
                direction = jnp.asarray(model.light_dir0[light], jnp.float32)
            case mujoco.mjtCamLight.mjCAMLIGHT_TARGETBODY if target >= 0:
                direction = data.xpos[target] - place
            case mujoco.mjtCamLight.mjCAMLIGHT_TARGETBODYCOM if target >= 0:
                direction = data.subtree_com[target] - place
        places.append(place)
        directions.append(direction / jnp.linalg.norm(direction))
    shape = (model.nlight, 3)
    return {
        "light_xpos": jnp.stack(places).reshape(shape) if places else jnp.zeros(shape),
        "light_xdir": jnp.stack(directions).reshape(shape) if directions else jnp.zeros(shape),
    }
