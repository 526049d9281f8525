"""The memory plan: the bytes that a run will hold on its device, before it allocates any."""

import os
import resource
from pathlib import Path, PurePosixPath
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fpmd_mjx.config.schema import Config, ConfigError
from fpmd_mjx.program import Program
from fpmd_mjx.report.text import human

USABLE = 0.9
"""Share of the device's memory that a plan may fill. The allocator and XLA need the rest."""


def size(tree: Any) -> int:
    """Bytes of a pytree of arrays or of their shapes."""
    return sum(
        int(np.prod(x.shape))
        * (8 if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x.dtype.itemsize)
        for x in jax.tree.leaves(tree)
    )


def plan(program: Program) -> dict[str, int]:
    """Bytes by purpose. The state's are exact; `batches` and `activations` estimate the largest
    temporaries."""
    config = program.config
    state = program.traced_init.out_info
    spec = program.vector.env.spec
    learn = config.learn
    rows = config.seeds * learn.batch * learn.updates
    of_critic = sum(config.critic.hidden)
    if config.critic.kind == "hl_gauss":
        of_critic += config.critic.bins
    widest = sum(config.actor.hidden) + config.critic.critics * of_critic
    acting = config.seeds * program.algorithm.candidates * max(learn.batch, config.num_envs)
    encoder = program.algorithm.networks.encoder
    seen = config.pixels.trunk if spec.images else spec.obs_size
    of_one = size(state.env.env.obs) // (config.seeds * config.num_envs)
    return {
        "replay": size(state.replay),
        "parameters": size((state.learner, state.normalizer, state.returns)),
        "environments": size(state.env),
        "batches": rows * (2 * of_one + 4 * (spec.action_size + 3)),
        "activations": 4 * acting * (widest + 2 * seen)
        + 4 * config.seeds * learn.batch * encoder.activations,
    }


def measured(compiled: jax.stages.Compiled) -> dict[str, int | None]:
    """Bytes of an executable, and of this process.

    program: arguments, temporaries and results, donated arguments counted once; temporary:
    temporaries alone; peak: the most that this process has held on the device so far, None where
    the device does not report it, such as a CPU.
    """
    found: Any = compiled.memory_analysis()
    held = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return {
        "program": held + found.temp_size_in_bytes,
        "temporary": found.temp_size_in_bytes,
        "peak": _device_stats().get("peak_bytes_in_use"),
    }


def _device_stats() -> dict[str, int]:
    """Statistics of the device's allocator; empty on CPUs."""
    return jax.local_devices()[0].memory_stats() or {}


def limit() -> int:
    """Bytes that this process may use.

    On an accelerator this is the allocator's limit. On a CPU it is the least of the machine's
    memory, the limits of control groups (containers, batch systems) and the process's own limit
    (ulimit -v).
    """
    reported = _device_stats().get("bytes_limit")
    if reported:
        return int(reported)
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), cgroup_limit()]
    own, _ = resource.getrlimit(resource.RLIMIT_AS)
    limits += [own] if own != resource.RLIM_INFINITY else []
    return min(amount for amount in limits if amount is not None)


# For each version: its controller in /proc/self/cgroup, its folder, and its file.
_CGROUPS = (
    ("", "sys/fs/cgroup", "memory.max"),
    ("memory", "sys/fs/cgroup/memory", "memory.limit_in_bytes"),
)
_NO_LIMIT = 2**60  # version 1 writes its largest number for no limit


def cgroup_limit(root: Path = Path("/")) -> int | None:
    """Bytes that Linux's control groups allow this process, None where they set no limit.

    The limit of a group holds for all groups in it. A container may see its own group as the root
    but read the host's path to it, so missing folders are skipped.

    root: of the file system.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller, top, name in _CGROUPS:
            if controller in controllers.split(","):
                group = PurePosixPath(path.lstrip("/"))
                found += [_bytes(root / top / each / name) for each in (group, *group.parents)]
    limits = [amount for amount in found if amount is not None and amount < _NO_LIMIT]
    return min(limits, default=None)


def _bytes(path: Path) -> int | None:
    """The number in a file; None if there is no file, or no number in it, such as `max`."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def describe(planned: dict[str, int], available: int) -> str:
    """The plan in one line."""
    parts = ", ".join(f"{name} {human(amount)}" for name, amount in planned.items())
    return f"memory: {human(sum(planned.values()))} of {human(available)} ({parts})"


def check(config: Config, planned: dict[str, int], available: int) -> None:
    """Raises ConfigError if the plan does not fit; the message names the settings to lower."""
    total = sum(planned.values())
    if total <= USABLE * available:
        return
    largest = max(planned, key=lambda name: planned[name])
    drawn = getattr(config.algorithm, "candidates", None)  # not every algorithm has it
    candidates = f"algorithm.candidates={drawn} or " if drawn else ""
    lower = {
        "replay": f"learn.replay={config.learn.replay}",
        "parameters": f"actor.hidden={config.actor.hidden} or critic.hidden={config.critic.hidden}",
        "environments": f"num_envs={config.num_envs}",
        "batches": f"learn.batch={config.learn.batch} or learn.updates={config.learn.updates}",
        "activations": candidates + f"learn.batch={config.learn.batch}",
    }[largest]
    raise ConfigError(
        f"the run needs {human(total)} of the device's {human(available)}, of which "
        f"{human(planned[largest])} is {largest}: lower {lower}, or seeds={config.seeds}."
    )
