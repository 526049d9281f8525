"""One MuJoCo model on either backend of MJX, as pure functions of a minimal state."""

from .backend import Physics, center, uncenter
from .options import (
    COMPILER_OPTIONS,
    PhysicsOptions,
    UnsupportedModelError,
    compiler_options,
)

__all__ = [
    "COMPILER_OPTIONS",
    "Physics",
    "PhysicsOptions",
    "UnsupportedModelError",
    "center",
    "compiler_options",
    "uncenter",
]
