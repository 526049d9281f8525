"""Algorithms by name. Each is one file, read on one screen; `base.py` has what they share."""

from collections.abc import Callable

from fpmd_mjx.algorithms.base import Algorithm, Networks, make_networks
from fpmd_mjx.algorithms.fpmd import Fpmd
from fpmd_mjx.algorithms.fpmd_plus import FpmdPlus
from fpmd_mjx.config.schema import Config

MAKERS: dict[str, Callable[[Config, Networks], Algorithm]] = {
    "fpmd_m": Fpmd.make,
    "fpmd_r": Fpmd.make,
    "fpmd_m_plus": FpmdPlus.make,
    "fpmd_r_plus": FpmdPlus.make,
}


def make_algorithm(config: Config, obs_shape: tuple[int, ...], action_size: int) -> Algorithm:
    """The algorithm that `config.algorithm.name` names, for observations of `obs_shape`."""
    return MAKERS[config.algorithm.name](config, make_networks(config, obs_shape, action_size))
