"""The parts of a run: one for each process that trained some of its epochs."""

import time
from typing import Any

from fpmd_mjx.run import provenance

SECONDS = ("compile_seconds", "train_seconds", "wall_seconds")


class Parts:
    """The training of this process and of those before it, each with its provenance.

    Args:
        earlier: the parts of the checkpoint that this process continues from, oldest first.
        env_steps: of that checkpoint, per seed.
        begin: `time.monotonic()` at which this process began with the run.
        compile_seconds: of this process.
    """

    def __init__(
        self, earlier: list[dict[str, Any]], env_steps: int, begin: float, compile_seconds: float
    ) -> None:
        self._earlier, self._begin = earlier, begin
        self.provenance = provenance.provenance()
        self._now = {
            **self.provenance,
            "env_steps_from": env_steps,
            "env_steps_to": env_steps,
            "compile_seconds": compile_seconds,
            "train_seconds": 0.0,
        }

    def trained(self, env_steps: int, seconds: float) -> None:
        """Records an epoch of this process: `env_steps` at its end, and its `seconds`."""
        self._now["env_steps_to"] = env_steps
        self._now["train_seconds"] += seconds

    def listed(self) -> list[dict[str, Any]]:
        """All parts so far, oldest first, as JSON.

        Each has device, versions and commit; env_steps_from and env_steps_to, per seed; and
        `SECONDS`. Its wall_seconds include everything that the process did.
        """
        now = self._now | {"wall_seconds": time.monotonic() - self._begin}
        return [*self._earlier, now | {name: round(now[name], 3) for name in SECONDS}]

    def seconds(self, name: str) -> float:
        """The sum over all parts. name: one of `SECONDS`."""
        return sum(part[name] for part in self.listed())
