"""Videos of a policy: episodes in MJX, drawn and written as MP4."""

import warnings
from functools import partial
from operator import itemgetter
from pathlib import Path

import jax
import numpy as np

import envs
from envs.base import State
from envs.render.pixels import Camera
from envs.render.video import How, NoRendererError, Painter, thin
from fpmd_mjx.algorithms.base import Mode, Policy
from fpmd_mjx.config.schema import ConfigError
from fpmd_mjx.evaluation import rollout
from fpmd_mjx.program import Program, make_task


class Recorder:
    """Writes videos of one program's policies; compiled once, at the first."""

    def __init__(
        self, program: Program, mode: Mode, episodes: int, camera: Camera, how: How = "auto"
    ) -> None:
        """Raises ConfigError where nothing can be drawn, or not with this camera."""
        env = program.vector.env

        def place(state: State) -> tuple:
            return state.physics, jax.vmap(jax.vmap(env.moved))(state)

        self._dt = env.spec.control_dt
        self._repeat = env.spec.action_repeat
        self._rollout = jax.jit(
            partial(rollout.watched, program, mode, episodes, watch=place),
            compiler_options=program.compiler_options,
        )
        try:
            self._paint = Painter(make_task(program.config), camera, how)
        except (NoRendererError, envs.UnsupportedModelError) as error:
            raise ConfigError(str(error)) from error

    def __call__(self, policy: Policy, keys: jax.Array, out: Path) -> np.ndarray:
        """Plays episodes with the policy of the first seed, one after the other in the video, and
        gives their returns, (episodes,); policy, keys: leaves (seeds, ...)."""
        policy, keys = jax.tree.map(lambda leaf: leaf[:1], (policy, keys))
        (returns, lengths, _), places = self._rollout(policy, keys)
        pictures = []
        for episode, length in enumerate(np.asarray(lengths)[0]):
            # Of an episode that blew up in its first step there is its start.
            shown, per_second = thin(max(-(-length // self._repeat), 1), self._dt)
            of_one = itemgetter((shown, 0, episode))
            pictures.append(self._paint(*jax.tree.map(of_one, places)))
        write(np.concatenate(pictures), per_second, out)
        return np.asarray(returns)[0]


def write(pictures: np.ndarray, per_second: float, out: Path) -> None:
    """An MP4 of (n, height, width, 3) uint8, both sides even; appears when it is complete."""
    import imageio  # not at the top: training starts sooner without

    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part.mp4")
    with warnings.catch_warnings():
        # The encoder is a process of its own, which never comes back to JAX.
        warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
        imageio.mimwrite(part, list(pictures), fps=per_second, macro_block_size=2)
    part.replace(out)


def video_path(folder: Path, epoch: int) -> Path:
    return folder / "videos" / f"epoch_{epoch:05d}.mp4"
