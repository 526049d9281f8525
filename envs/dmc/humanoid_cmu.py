"""humanoid_CMU: the body of the CMU motion capture data, with 56 joints and humanoid's tasks."""

from __future__ import annotations

from typing import Unpack

from ..physics.options import PhysicsOptions
from .humanoid import Anatomy, Humanoid

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

    def __init__(self, task: str, **options: Unpack[PhysicsOptions]) -> None:
        """Args are "stand", "walk" or "run", and the options of `Physics`."""
        super().__init__(task, _CMU, **options)
