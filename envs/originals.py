"""The original simulators of gymnasium and dm_control (C MuJoCo) with one small interface."""

from __future__ import annotations

import functools
import importlib
import os
import warnings
from typing import Any, Protocol

import mujoco
import numpy as np

from .physics.models import without_deprecation_notices
from .playground import PREFIX
from .registry import NoOriginalError, UnknownTaskError, has_original, tasks


class RealEnv(Protocol):
    """One original environment; observations are flat float32, actions are in native units.

    Attributes:
        model: the original's MuJoCo model.
        data: the original's simulation.
        qpos: (nq,) float64, a copy of the current positions.
        qvel: (nv,) float64, a copy of the current velocities.
        act: (na,) float64, a copy of the current actuator activations.
    """

    @property
    def model(self) -> mujoco.MjModel: ...

    @property
    def data(self) -> mujoco.MjData: ...

    @property
    def qpos(self) -> np.ndarray: ...

    @property
    def qvel(self) -> np.ndarray: ...

    @property
    def act(self) -> np.ndarray: ...

    def reset(self, seed: int | None = None) -> np.ndarray:
        """Starts an episode, and returns the observation. If seed is None, the original continues
        its random numbers."""
        ...

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        """Returns (obs, reward, terminated, truncated).

        Raises:
            RuntimeError: if no episode is under way.
        """
        ...

    def set_state(
        self, qpos: np.ndarray, qvel: np.ndarray, act: np.ndarray | None = None
    ) -> np.ndarray:
        """Puts the physics into a state as a reset would, and returns the observation.

        Begins an episode if none is under way. Otherwise its clock goes on.
        """
        ...

    def render(self, size: int, camera: int) -> np.ndarray:
        """Returns an image of the current state by OpenGL: (size, size, 3) uint8, RGB.

        Raises:
            NotImplementedError: if the task is gymnasium's.
            NoOpenGLError: if there is no OpenGL.
        """
        ...


def make_real(name: str) -> RealEnv:
    """Builds the original of a task, with or without a port here.

    Args:
        name: "gym/<gymnasium id>" or "dmc/<domain>_<task>".

    Raises:
        UnknownTaskError: if neither package has the task.
        NoOriginalError: if the task is Playground's, or registered without an original.
    """
    if name.startswith(PREFIX) or (name in tasks() and not has_original(name)):
        raise NoOriginalError(name)
    family, _, task = name.partition("/")
    if family == "gym":
        return _GymEnv(name, task)
    if family == "dmc":
        return _DmControlEnv(name, task)
    raise UnknownTaskError(name, _gym_names() + _dmc_names())


class _Original:
    """The common part of both kinds of originals."""

    data: mujoco.MjData
    _running = False

    @property
    def qpos(self) -> np.ndarray:
        return self.data.qpos.copy()

    @property
    def qvel(self) -> np.ndarray:
        return self.data.qvel.copy()

    @property
    def act(self) -> np.ndarray:
        return self.data.act.copy()

    def _expect_an_episode(self) -> None:
        if not self._running:
            raise RuntimeError("No episode is under way: call reset first.")


class _GymEnv(_Original):
    def __init__(self, name: str, gym_id: str) -> None:
        import gymnasium

        try:
            with without_deprecation_notices(), warnings.catch_warnings():
                # gymnasium warns of v4 tasks, which are chosen by name here.
                warnings.simplefilter("ignore")
                self._env = gymnasium.make(gym_id, disable_env_checker=True)
        except gymnasium.error.UnregisteredEnv as error:
            raise UnknownTaskError(name, _gym_names()) from error

    @property
    def model(self) -> mujoco.MjModel:
        return self._env.unwrapped.model

    @property
    def data(self) -> mujoco.MjData:
        return self._env.unwrapped.data

    def reset(self, seed: int | None = None) -> np.ndarray:
        self._running = True
        return np.asarray(self._env.reset(seed=seed)[0], np.float32)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        self._expect_an_episode()
        obs, reward, terminated, truncated, _ = self._env.step(np.asarray(action, np.float32))
        self._running = not (terminated or truncated)
        return np.asarray(obs, np.float32), float(reward), bool(terminated), bool(truncated)

    def set_state(
        self, qpos: np.ndarray, qvel: np.ndarray, act: np.ndarray | None = None
    ) -> np.ndarray:
        if not self._running:
            self.reset()
        env = self._env.unwrapped
        mujoco.mj_resetData(env.model, env.data)
        env.data.act[:] = 0.0 if act is None else act
        env.set_state(np.asarray(qpos, np.float64), np.asarray(qvel, np.float64))
        return np.asarray(env._get_obs(), np.float32)

    def render(self, size: int, camera: int) -> np.ndarray:
        raise NotImplementedError("Only tasks of dm_control have images: choose a dmc/ one.")


class _DmControlEnv(_Original):
    def __init__(self, name: str, task: str) -> None:
        suite = dm_control_suite()
        known = {f"{domain}_{task}": (domain, task) for domain, task in suite.ALL_TASKS}
        if task not in known:
            raise UnknownTaskError(name, _dmc_names())
        with without_deprecation_notices():
            self._env: Any = suite.load(*known[task])

    @property
    def model(self) -> mujoco.MjModel:
        return self._env.physics.model.ptr

    @property
    def data(self) -> mujoco.MjData:
        return self._env.physics.data.ptr

    def reset(self, seed: int | None = None) -> np.ndarray:
        if seed is not None:
            self._env.task.random.seed(seed)
        self._running = True
        return _flatten(self._env.reset().observation)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        # dm_control would begin the next episode and ignore the action.
        self._expect_an_episode()
        result = self._env.step(np.asarray(action))
        self._running = not result.last()
        terminated = result.last() and result.discount == 0
        truncated = result.last() and not terminated
        return _flatten(result.observation), float(result.reward), terminated, truncated

    def set_state(
        self, qpos: np.ndarray, qvel: np.ndarray, act: np.ndarray | None = None
    ) -> np.ndarray:
        if not self._running:
            self.reset()
        physics = self._env.physics
        with physics.reset_context():
            physics.data.qpos[:] = qpos
            physics.data.qvel[:] = qvel
            physics.data.act[:] = 0.0 if act is None else act
        return _flatten(self._env.task.get_observation(physics))

    def render(self, size: int, camera: int) -> np.ndarray:
        _expect_opengl()
        try:
            image = self._env.physics.render(height=size, width=size, camera_id=camera)
        except mujoco.FatalError as error:  # there is a library, but no working display
            raise NoOpenGLError(f"OpenGL does not start ({error}): {_INSTALL}") from error
        return np.array(image)  # a copy, because the next image overwrites the memory


class _Wrapped:
    """An original of which a subclass changes a part."""

    def __init__(self, env: RealEnv) -> None:
        self._env = env

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)


class RepeatedReal(_Wrapped):
    """An original with actions that last `count` control steps, like `wrappers.Repeated`."""

    def __init__(self, env: RealEnv, count: int) -> None:
        super().__init__(env)
        self._count = count

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        total = 0.0
        for _ in range(self._count):
            obs, reward, terminated, truncated = self._env.step(action)
            total += reward
            if terminated or truncated:
                break
        return obs, total, terminated, truncated


class RealInPixels(_Wrapped):
    """An original of dm_control with its last images by OpenGL as observation, like
    `pixels.PixelEnv`."""

    def __init__(self, env: RealEnv, size: int, camera: int, frames: int) -> None:
        super().__init__(env)
        self._size, self._camera = size, camera
        self._images = np.zeros((frames, size, size, 3), np.uint8)

    def reset(self, seed: int | None = None) -> np.ndarray:
        self._env.reset(seed)
        self._images[:] = self._env.render(self._size, self._camera)
        return self._images.copy()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        _, reward, terminated, truncated = self._env.step(action)
        image = self._env.render(self._size, self._camera)
        self._images = np.concatenate([self._images[1:], image[None]])
        return self._images.copy(), reward, terminated, truncated


def _flatten(observation: dict[str, Any]) -> np.ndarray:
    parts = [np.ravel(value) for value in observation.values()]
    return np.concatenate(parts).astype(np.float32)


class NoOpenGLError(RuntimeError):
    """dm_control cannot draw; the message has the reason and the remedy."""

    def __init__(self, reason: str) -> None:
        """reason: the message's text after "because"."""
        super().__init__(f"dm_control draws no images here, because {reason}.")


_INSTALL = "install a library of it, such as libegl1, or libosmesa6 with MUJOCO_GL=osmesa"


def dm_control_suite() -> Any:
    """dm_control's suite, which simulates its tasks with or without OpenGL.

    Whoever imports dm_control by other ways first has its choice of a renderer, GLFW, which draws
    nothing without a display.
    """
    _why_no_opengl()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from dm_control import suite
    return suite


@functools.cache
def _why_no_opengl() -> str | None:
    """Imports dm_control's renderer. Returns the reason why it cannot draw, with the remedy, or
    None.

    The first import chooses the renderer for the whole process. If the user did not choose and
    there is no display, it is EGL, which needs none. `MUJOCO_GL` is restored afterwards, because
    child processes choose for themselves.
    """
    chosen, reason = os.environ.get("MUJOCO_GL"), None
    if chosen is None and "DISPLAY" not in os.environ:
        os.environ["MUJOCO_GL"] = "egl"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module("dm_control._render")
    except Exception as error:  # drivers raise errors of many kinds
        reason = f"OpenGL does not load ({type(error).__name__}: {error}): {_INSTALL}"
        os.environ["MUJOCO_GL"] = "off"
    from dm_control import _render
    from dm_control._render import constants

    if chosen is None:
        os.environ.pop("MUJOCO_GL", None)
    else:
        os.environ["MUJOCO_GL"] = chosen
    if reason is None and _render.BACKEND in (None, *constants.NO_RENDERER):
        reason = (
            f"no library of OpenGL loads: {_INSTALL}"
            if chosen is None
            else f"MUJOCO_GL={chosen} says so: unset it, or choose egl or osmesa"
        )
    if reason is None and _render.BACKEND in constants.GLFW and not _glfw_starts():
        # dm_control takes it nevertheless, and the second image would end the process.
        reason = (
            "its renderer, GLFW, finds no display: import envs before dm_control or set "
            f"MUJOCO_GL=egl, and if there is no EGL, {_INSTALL}"
        )
    return reason


def _glfw_starts() -> bool:
    import glfw

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bool(glfw.init())


def _expect_opengl() -> None:
    if reason := _why_no_opengl():
        raise NoOpenGLError(reason)


def opengl_physics(model: mujoco.MjModel) -> Any:
    """Returns dm_control's physics of a model. Its `render` draws with OpenGL.

    Raises:
        NoOpenGLError: if there is no OpenGL.
    """
    _expect_opengl()
    from dm_control import mujoco as dm_mujoco
    from dm_control.mujoco.wrapper import MjModel

    with without_deprecation_notices():
        return dm_mujoco.Physics.from_model(MjModel(model))


def _gym_names() -> list[str]:
    import gymnasium

    return [
        f"gym/{gym_id}"
        for gym_id, entry in gymnasium.registry.items()
        if "mujoco" in str(entry.entry_point)
    ]


def _dmc_names() -> list[str]:
    return [f"dmc/{domain}_{task}" for domain, task in dm_control_suite().ALL_TASKS]
