"""A video of a stored run: restore the policy alone, play, draw."""

from pathlib import Path

from envs.render.pixels import Camera
from envs.render.video import How
from fpmd_mjx.algorithms.base import Mode
from fpmd_mjx.config.schema import ConfigError
from fpmd_mjx.evaluation.video import Recorder, video_path
from fpmd_mjx.run.compile import use_compile_cache
from fpmd_mjx.run.folder import load_policy
from fpmd_mjx.seeds import Stream, seed_array, stream_keys


def render(
    folder: Path,
    out: Path | None,
    *,
    mode: str,
    episodes: int,
    seed: int,
    epoch: int | str,
    size: int,
    camera: int | None,
    how: How,
) -> str:
    """Writes a video of a run's checkpoint, and returns one line about it.

    out: the .mp4 file, or None for one in the run folder; epoch: as of `stored_policy`; size:
    pixels of a side. Raises ConfigError for an impossible size or name.
    """
    if size < 16 or size % 2:
        raise ConfigError(f"--size={size} is not possible: give an even number of at least 16.")
    if out is not None and out.suffix != ".mp4":
        raise ConfigError(f"-o {out} is not possible: give a name that ends in .mp4.")
    use_compile_cache()
    program, policy, epoch = load_policy(folder, epoch)
    out = out or video_path(folder, epoch)
    recorder = Recorder(program, Mode.parse(mode), episodes, Camera(size, camera), how)
    keys = stream_keys(Stream.VIDEO, seed_array(program.config), seed)
    returns = recorder(policy, keys, out)
    listed = ", ".join(f"{x:.1f}" for x in returns)
    return f"{out}: epoch {epoch}, {mode}, return {listed}"
