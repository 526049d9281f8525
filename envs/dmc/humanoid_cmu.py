"""humanoid_CMU: the body of the CMU motion capture data, 56 joints, with humanoid's tasks."""

from __future__ import annotations

from envs.dmc.humanoid import Anatomy, Humanoid

_CMU = Anatomy(
    domain="humanoid_CMU",
    torso="thorax",
    up=1,
    limbs=("lhand", "lfoot", "rhand", "rfoot"),
    substeps=10,
    obs_size=137,
)


class HumanoidCMU(Humanoid):
    """The tasks of dm_control's `suite/humanoid_CMU.py`: see `Humanoid`."""

    def __init__(
        self, task: str, iterations: int | None = 8, ls_iterations: int | None = 12
    ) -> None:
        """Args are "stand", "walk" or "run", and the solver limits of `Physics`."""
        super().__init__(task, iterations, ls_iterations, _CMU)
