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
    """Writes videos of one program's policies. The first video compiles the rollout."""

    def __init__(
        self, program: Program, mode: Mode, episodes: int, camera: Camera, how: How = "auto"
    ) -> None:
        """Raises ConfigError if there is no renderer or no such camera."""
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
        """Plays episodes with the policy of the first seed, writes them one after the other into a
        video, and gives their returns, (episodes,); policy, keys: leaves (seeds, ...)."""
        policy, keys = jax.tree.map(lambda leaf: leaf[:1], (policy, keys))
        (returns, lengths, _), places = self._rollout(policy, keys)
        pictures = []
        for episode, length in enumerate(np.asarray(lengths)[0]):
            # An episode that blew up in its first step shows its start.
            shown, per_second = thin(max(-(-length // self._repeat), 1), self._dt)
            of_one = itemgetter((shown, 0, episode))
            pictures.append(self._paint(*jax.tree.map(of_one, places)))
        write(np.concatenate(pictures), per_second, out)
        return np.asarray(returns)[0]


def write(pictures: np.ndarray, per_second: float, out: Path) -> None:
    """Writes (n, height, width, 3) uint8, both sides even, as MP4; it appears when complete."""
    import imageio  # not at the top: training starts sooner without

    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part.mp4")
    with warnings.catch_warnings():
        # The encoder is a separate process that does not use JAX.
        warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
        imageio.mimwrite(part, list(pictures), fps=per_second, macro_block_size=2)
    part.replace(out)


def video_path(folder: Path, epoch: int) -> Path:
    return folder / "videos" / f"epoch_{epoch:05d}.mp4"
