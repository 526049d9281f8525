"""A model on MJX-Warp (impl=warp), which simulates a whole batch in one call.

Warp's buffer of contacts belongs to the batch, so its size depends on the number of simulations.
The rest of `Physics` does not know this number. `in_one_batch` turns `jax.vmap` into a leading
axis.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import mujoco
import warp
from mujoco import mjx
from mujoco.mjx.third_party.mujoco_warp._src.types import OverflowType
from mujoco.mjx.warp.types import DATA_NON_VMAP

from ..base import PhysicsState
from .fixes import warp_collision
from .options import GraphMode
from .preparation import without_actuation

T = TypeVar("T")

# Warp prints a greeting at its first use otherwise.
warp.config.log_level = warp.LOG_WARNING

# Reaching the solver's limits is no loss: more iterations do not change the motion.
_LOSSES = OverflowType.ALL & ~(OverflowType.ITERATIONS | OverflowType.LS_ITERATIONS)


class WarpSimulation:
    """A `Simulation` on MJX-Warp; runs on NVIDIA GPUs and, for tests, on CPUs."""

    def __init__(
        self,
        model: mujoco.MjModel,
        *,
        contacts: int | None,
        constraints: int | None,
        graph_mode: GraphMode | None,
        reads_forces: bool,
    ) -> None:
        """Puts the model, after `prepare_model`, on the default device; see `Physics`."""
        device = _device()
        self._reads_forces = reads_forces
        self._model = losses_told(
            with_graph_mode(mjx.put_model(model, device=device, impl="warp"), graph_mode)
        ).tree_replace({"opt._impl.run_rne_postconstraint": reads_forces})
        self._template = mjx.make_data(
            model, device=device, impl="warp", naconmax=contacts, njmax=constraints
        )
        self._step = in_one_batch(self._advance)
        self._forward = {
            actuated: in_one_batch(functools.partial(self._evaluate, actuated))
            for actuated in (True, False)
        }
        self._in_contact = in_one_batch(self._collide)

    def step(self, state: PhysicsState, ctrl: jax.Array) -> mjx.Data:
        return self._step(state, ctrl)

    def forward(self, state: PhysicsState, ctrl: jax.Array, actuated: bool) -> mjx.Data:
        return self._forward[actuated](state, ctrl)

    def in_contact(self, state: PhysicsState) -> jax.Array:
        return self._in_contact(state)

    def external_forces(self, data: mjx.Data) -> jax.Array:
        if not self._reads_forces:
            raise ValueError(
                "impl=warp computes external forces within its step: build Physics with "
                "reads_forces=True."
            )
        return data._impl.cfrc_ext

    def usage(self, state: PhysicsState) -> tuple[jax.Array, jax.Array]:
        """Returns the use of the buffers by a single `state`: contacts, constraints, () int32 each.

        Not for batches, which share the first buffer.
        """
        impl = self._at_rest(jax.tree.map(lambda leaf: leaf[None], state))._impl
        return jnp.maximum(impl.ncollision[0], impl.nacon[0]), impl.nefc[0]

    def _advance(self, state: PhysicsState, ctrl: jax.Array) -> mjx.Data:
        data = self._run(warp_collision.step, self._model, state, ctrl)
        lost = (data._impl.overflow & int(_LOSSES)) != 0
        qpos, qvel = (
            jnp.where(lost[:, None], jnp.float32(jnp.nan), leaf) for leaf in (data.qpos, data.qvel)
        )
        return self._of_each(data.replace(qpos=qpos, qvel=qvel))

    def _evaluate(self, actuated: bool, state: PhysicsState, ctrl: jax.Array) -> mjx.Data:
        model = self._model if actuated else without_actuation(self._model)
        return self._of_each(self._run(warp_collision.forward, model, state, ctrl))

    def _collide(self, state: PhysicsState) -> jax.Array:
        impl = self._at_rest(state)._impl
        count = state.qpos.shape[0]
        used = jnp.arange(impl.naconmax) < impl.nacon[0]
        touching = used & (impl.contact__dist < impl.contact__includemargin)
        owner = jnp.where(touching, impl.contact__worldid, count)
        return jnp.zeros(count, bool).at[owner].set(True, mode="drop")

    def _at_rest(self, state: PhysicsState) -> mjx.Data:
        """Evaluates states (n, ...) without control."""
        ctrl = jnp.zeros((state.qpos.shape[0], self._model.nu), jnp.float32)
        return self._run(warp_collision.forward, self._model, state, ctrl)

    def _run(
        self,
        evaluate: Callable[[mjx.Model, mjx.Data], mjx.Data],
        model: mjx.Model,
        state: PhysicsState,
        ctrl: jax.Array,
    ) -> mjx.Data:
        """Evaluates states (n, ...) with controls (n, nu)."""
        template = self._sized(state.qpos.shape[0])

        def one(state: PhysicsState, ctrl: jax.Array) -> mjx.Data:
            data = template.replace(
                qpos=state.qpos, qvel=state.qvel, qacc_warmstart=state.qacc_warmstart, ctrl=ctrl
            )
            return evaluate(model, data if state.act is None else data.replace(act=state.act))

        return jax.vmap(one)(state, ctrl)

    def _sized(self, count: int) -> mjx.Data:
        """Returns data with room for the contacts of `count` simulations."""
        impl = self._template._impl
        room = impl.naconmax

        def widened(leaf: jax.Array) -> jax.Array:
            # The rows are empty. A field that the model does not use has none.
            rows = count * room if leaf.shape[0] == room else 0
            return jnp.broadcast_to(leaf[:1], (rows, *leaf.shape[1:])) if rows else leaf

        wide = {
            name: widened(getattr(impl, name))
            for name in DATA_NON_VMAP
            if name.startswith("contact__")
        }
        sizes = {"naconmax": count * room, "naccdmax": count * impl.naccdmax}
        return self._template.replace(_impl=impl.replace(**wide, **sizes))

    def _of_each(self, data: mjx.Data) -> mjx.Data:
        """Returns data without the fields and sizes that belong to the batch as a whole."""
        impl = data._impl
        shared = {name: None for name in DATA_NON_VMAP if hasattr(getattr(impl, name), "shape")}
        one = self._template._impl
        return data.replace(
            _impl=impl.replace(naconmax=one.naconmax, naccdmax=one.naccdmax, **shared)
        )


def losses_told(model: mjx.Model) -> mjx.Model:
    """Returns a model of MJX-Warp that reports each loss on stderr, with a remedy.

    It does not report that the solver used all of its iterations, which may be in every step.
    """
    return model.tree_replace({"opt._impl.warn_overflow": int(_LOSSES)})


def with_graph_mode(model: mjx.Model, graph_mode: GraphMode | None) -> mjx.Model:
    """Returns a model of MJX-Warp with `PhysicsOptions.graph_mode` set.

    On CPUs the model stays as it is, because Warp has no graphs there and refuses these modes.
    """
    if graph_mode is None or not _captures_graphs():
        return model
    mode = warp.JaxCallableGraphMode[graph_mode.upper()]
    return model.tree_replace({"opt._impl.graph_mode": mode})


def _captures_graphs() -> bool:
    return bool(_device().platform != "cpu")


def _device() -> jax.Device:
    """Returns the default device."""
    [device] = jnp.zeros(()).devices()
    return device


def in_one_batch(function: Callable[..., T]) -> Callable[..., T]:
    """Turns a function of batches into one of single elements.

    Args:
        function: takes and returns trees of leaves (n, ...).

    Returns:
        The function of trees without the axis n. Its `jax.vmap`s, nested or not, become one call of
        `function` with all elements in one batch.
    """

    @jax.custom_batching.custom_vmap
    def batch(*args: Any) -> T:
        return function(*args)

    @batch.def_vmap
    def merge(axis_size: int, is_batched: list[Any], *args: Any) -> tuple[T, Any]:
        def flat(leaf: jax.Array, batched: bool) -> jax.Array:
            if not batched:
                leaf = jnp.broadcast_to(leaf, (axis_size, *leaf.shape))
            return leaf.reshape(axis_size * leaf.shape[1], *leaf.shape[2:])

        def split(leaf: jax.Array) -> jax.Array:
            return leaf.reshape(axis_size, leaf.shape[0] // axis_size, *leaf.shape[1:])

        result = jax.tree.map(split, batch(*jax.tree.map(flat, args, tuple(is_batched))))
        return result, jax.tree.map(lambda leaf: True, result)

    def single(*args: Any) -> T:
        result = batch(*jax.tree.map(lambda leaf: leaf[None], args))
        return jax.tree.map(lambda leaf: leaf[0], result)

    return single
