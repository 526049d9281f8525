"""Drives brax, whose `train` is one blocking function without access to its parts.

`train` runs unchanged, with a replacement for `jax` in its module. The replacement adds the one
function that newer versions of JAX lack, and it receives the functions that `train` maps over
devices. These are all of its training.
"""

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast
from unittest import mock

import jax
import jax.numpy as jnp

from envs.physics.options import Impl, resolve_impl
from envs.playground import PREFIX
from fpmd_mjx.config.schema import ConfigError

SIZES = ("num_envs", "batch_size", "num_timesteps", "min_replay_size", "max_replay_size")
"""The settings of `train` that a divisor reduces."""


@contextmanager
def driven(algorithm: str, pmap: Callable[..., Any]) -> Iterator[Any]:
    """The module of brax's `train`, with `pmap` in place of JAX's. algorithm: sac or ppo."""
    # The package's function of the same name hides the module.
    module = importlib.import_module(f"brax.training.agents.{algorithm}.train")
    with mock.patch.object(module, "jax", _StandIn(pmap)):
        yield module


class _StandIn:
    """`jax` for brax's `train` modules: JAX with another `pmap`, and with `device_put_replicated`,
    which brax 0.14.2 calls and JAX 0.10 has removed."""

    def __init__(self, pmap: Callable[..., Any]) -> None:
        self.pmap = pmap

    def device_put_replicated(self, tree: Any, devices: Sequence[Any]) -> Any:
        """Copies on a leading axis over `devices`. The mapped functions distribute them."""
        return jax.tree.map(lambda leaf: jnp.stack([leaf] * len(devices)), tree)

    def __getattr__(self, name: str) -> Any:
        return getattr(jax, name)


def environment(task: str, impl: str | None) -> dict[str, Any]:
    """The arguments of `train` for the task: Playground's environment in its training wrappers, on
    the physics backend that `envs.playground` would choose.

    Raises ConfigError if Playground has no such task.
    """
    from mujoco_playground import registry, wrapper

    backend = resolve_impl(cast(Impl, impl or "auto"))
    name = task.removeprefix(PREFIX)
    if name not in registry.ALL_ENVS:
        raise ConfigError(f"task={task} is unknown: `fpmd tasks` lists what Playground has.")
    return {
        "environment": registry.load(name, config_overrides={"impl": backend}),
        "wrap_env_fn": wrapper.wrap_for_brax_training,
        "episode_length": int(registry.get_default_config(name).episode_length),
        "max_devices_per_host": 1,
    }


def network_factory(algorithm: str) -> Callable[..., Any]:
    """The function that makes the networks of brax's `algorithm`."""
    networks = importlib.import_module(f"brax.training.agents.{algorithm}.networks")
    return getattr(networks, f"make_{algorithm}_networks")


def tuned(task: str, algorithm: str) -> dict[str, Any]:
    """Playground's tuned settings of brax's `algorithm` for a task of its dm_control suite.

    Raises ConfigError for tasks outside of that suite.
    """
    from mujoco_playground.config import dm_control_suite_params as params

    try:
        return getattr(params, f"brax_{algorithm}_config")(task.removeprefix(PREFIX)).to_dict()
    except ValueError as error:
        raise ConfigError(
            f"task={task} has no tuned settings for SAC and PPO in Playground: choose one of its "
            "DeepMind Control Suite, such as playground/CheetahRun, or peer=sac of peers-speed."
        ) from error


def as_tuned(algorithm: str, task: str, impl: str | None, divisor: int) -> dict[str, Any]:
    """The arguments of `train` with Playground's tuned settings, num_evals and num_resets_per_eval
    included. `SIZES` are divided by `divisor`, for rehearsals on a small machine.

    Raises ConfigError for tasks outside of Playground's dm_control suite.
    """
    settings = environment(task, impl) | tuned(task, algorithm)
    for size in SIZES:
        if size in settings:
            settings[size] //= divisor
    networks = settings.pop("network_factory", {})
    return settings | {"network_factory": partial(network_factory(algorithm), **networks)}


def side_name(algorithm: str, divisor: int) -> str:
    """A peer's name in metrics, with its divisor if it is not 1."""
    return f"brax_{algorithm}" if divisor == 1 else f"brax_{algorithm}.divisor_{divisor}"
