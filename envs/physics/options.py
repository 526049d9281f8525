"""How a model is simulated: the backend, its limits and buffers, and how a step is compiled."""

from __future__ import annotations

import importlib.util
from typing import Literal, TypedDict, get_args

import jax
import jax.numpy as jnp

from ..base import UnsupportedModelError as UnsupportedModelError

Impl = Literal["jax", "warp", "auto"]
GraphMode = Literal["warp", "warp_staged", "warp_staged_ex"]

CompilerOptions = dict[str, bool | int | str]


def _fusion_emitters(use: bool) -> CompilerOptions:
    # From JAX 0.11 on XLA has no such option, and refuses what it does not know.
    return {"xla_cpu_use_fusion_emitters": use} if jax.__version_info__ < (0, 11) else {}


COMPILER_OPTIONS = _fusion_emitters(False)
"""Compiler options for a physics step of any task. On CPUs, XLA's fusion emitters take nearly twice
the compile time, and make long chains of bodies slow: a step of dmc/swimmer_swimmer6 takes 13 times
as long, one of dmc/hopper_hop 2.0 times. On other devices, and from JAX 0.11 on, the options are
empty or change nothing."""

FUSED_CHAIN = 4
"""The longest chain of bodies with which fusion emitters make a training program faster."""


def compiler_options(longest_chain: int) -> CompilerOptions:
    """Returns compiler options for a program of physics and large networks, which fusion emitters
    make faster. longest_chain: of the task's spec.

    A training epoch on two cores took 0.98 (dmc/fish_swim, a chain of 3) to 1.16 times as long
    without them (docs/performance.md), but with them the physics of dmc/hopper_hop (5) ran at 0.44
    of its rate.
    """
    return _fusion_emitters(longest_chain <= FUSED_CHAIN)


class PhysicsOptions(TypedDict, total=False):
    """The arguments of `Physics` that a task takes as keywords and passes on.

    Attributes:
        impl: "jax" for MJX, "warp" for MJX-Warp, "auto" for what suits the default device.
        iterations: constraint solver iterations; None keeps the model's own limit.
        ls_iterations: line search iterations; None keeps the model's own limit.
        contacts: warp's buffer, in pairs of geoms that come near each other, per simulation.
        constraints: warp's buffer, in rows of constraints, per simulation.
        graph_mode: how warp captures a step as a CUDA graph, named as in
            `warp.JaxCallableGraphMode`. "warp" captures a graph for each set of buffer addresses.
            "warp_staged" captures one graph over buffers of its own, into which the graph copies
            its arguments. "warp_staged_ex" makes these copies outside of the graph. None is MJX's
            default, "warp". CPUs have no CUDA graphs and ignore the mode; so does "auto" where it
            chooses jax.
    """

    impl: Impl
    iterations: int | None
    ls_iterations: int | None
    contacts: int | None
    constraints: int | None
    graph_mode: GraphMode | None


def resolve_impl(impl: Impl) -> Literal["jax", "warp"]:
    """Returns the backend that `impl` names: for "auto", warp if it is installed and the default
    device is an NVIDIA GPU.

    Raises:
        ValueError: if there is no such backend.
        ModuleNotFoundError: if warp is asked for and not installed.
    """
    if impl not in ("jax", "warp", "auto"):
        raise ValueError(f"impl must be 'jax', 'warp' or 'auto', got {impl!r}.")
    installed = importlib.util.find_spec("warp") is not None
    if impl == "warp" and not installed:
        raise ModuleNotFoundError(
            "impl='warp' needs the package warp-lang: run `pip install 'fpmd-mjx[gpu]'`."
        )
    if impl == "auto":
        [device] = jnp.zeros(()).devices()
        on_nvidia = "cuda" in device.client.platform_version.lower()
        return "warp" if installed and on_nvidia else "jax"
    return impl


def check_graph_mode(graph_mode: GraphMode | None, impl: Impl) -> None:
    """Checks `PhysicsOptions.graph_mode` against the backend that was asked for.

    Raises:
        ValueError: if there is no such mode.
        UnsupportedModelError: if the backend is jax.
    """
    if graph_mode is None:
        return
    if graph_mode not in get_args(GraphMode):
        known = ", ".join(map(repr, get_args(GraphMode)))
        raise ValueError(f"graph_mode must be None or one of {known}, got {graph_mode!r}.")
    if impl == "jax":
        raise UnsupportedModelError(
            f"graph_mode={graph_mode!r} is not possible: it is a mode of MJX-Warp, which "
            "impl='jax' does not use; choose impl='warp', or leave graph_mode out."
        )
