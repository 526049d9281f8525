"""Compares MJX-Warp's images with dm_control's images of the same states.

python -m envs.devtools.likeness                      # all visual tasks; writes docs/pixels.png
python -m envs.devtools.likeness dmc/cheetah_run --sheet cheetah.png
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..originals import make_real
from ..physics.options import COMPILER_OPTIONS
from ..registry import make
from ..render.pixels import Camera, Renderer

VISUAL_TASKS = (
    "dmc/acrobot_swingup",
    "dmc/ball_in_cup_catch",
    "dmc/cartpole_swingup",
    "dmc/cheetah_run",
    "dmc/dog_run",
    "dmc/finger_spin",
    "dmc/finger_turn_hard",
    "dmc/hopper_hop",
    "dmc/humanoid_run",
    "dmc/pendulum_swingup",
    "dmc/quadruped_run",
    "dmc/reacher_easy",
    "dmc/walker_run",
)
"""One task of each domain and appearance on which FPMD (arXiv 2507.23675) is trained from
pixels."""

_STRIDE = 15  # the i-th state comes after i times as many control steps with random actions


@dataclasses.dataclass(frozen=True)
class Pair:
    """Images (n, size, size, 3) uint8 of the same n states: MJX-Warp's and dm_control's."""

    ours: np.ndarray
    original: np.ndarray

    @property
    def difference(self) -> float:
        """Mean absolute difference of values in [0, 1]."""
        return float(np.mean(np.abs(self.ours.astype(np.float32) - self.original)) / 255)


def compare(name: str, count: int = 6, camera: Camera | None = None) -> Pair:
    """Draws `count` states of the original with both renderers, each of another episode.

    Raises:
        UnknownTaskError, NotImplementedError: if dm_control has no such task.
    """
    camera = camera or Camera()
    env, real = make(name, impl="warp"), make_real(name)  # the dog runs on warp alone
    shapes = jax.eval_shape(env.reset, jax.random.key(0))
    blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    rng = np.random.default_rng(0)
    states, original = [], []
    for i in range(count):
        real.reset(i)
        for _ in range(i * _STRIDE):
            real.step(rng.uniform(-1.0, 1.0, env.spec.action_size))
        physics = blank.physics.replace(
            qpos=jnp.asarray(real.qpos, jnp.float32), qvel=jnp.asarray(real.qvel, jnp.float32)
        )
        task = env.task_from_original(real.model, real.data)
        states.append(blank.replace(physics=physics, task=task))
        original.append(real.render(camera.size, camera.number(name, real.model)))
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    options: Any = COMPILER_OPTIONS
    render = jax.jit(jax.vmap(Renderer(env, camera))).lower(batch).compile(options)
    return Pair(np.asarray(render(batch)), np.stack(original))


def sheet(pairs: Sequence[Pair]) -> np.ndarray:
    """One picture, (height, width, 3) uint8: for each pair dm_control's images above MJX-Warp's."""
    rows = [np.concatenate(list(images), 1) for p in pairs for images in (p.original, p.ours)]
    return np.concatenate(rows, 0)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m envs.devtools.likeness", description=__doc__)
    parser.add_argument("tasks", nargs="*", metavar="dmc/TASK", help="default: all visual tasks")
    parser.add_argument(
        "--sheet", type=Path, metavar="FILE", help="picture; default: docs/pixels.png of all tasks"
    )
    options = parser.parse_args(arguments)
    pairs = []
    print("| task | mean absolute difference |\n|---|---|")
    for name in options.tasks or VISUAL_TASKS:
        pairs.append(compare(name))
        print(f"| {name} | {pairs[-1].difference:.3f} |", flush=True)
    path = options.sheet or (None if options.tasks else Path("docs/pixels.png"))
    if path:
        import matplotlib.image

        matplotlib.image.imsave(path, sheet(pairs))


if __name__ == "__main__":
    main()
