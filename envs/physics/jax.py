"""A model on MJX's own backend (impl=jax)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mujoco
from mujoco import mjx

from ..base import PhysicsState
from .fixes.collision import corrected_colliders
from .fixes.integration import forward, step
from .preparation import without_actuation


class JaxSimulation:
    """A model on MJX's own backend (impl=jax).

    Its dynamics are jitted, so Python traces them once for all programs and batches.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        """Puts the model, after `prepare_model`, on the default device."""
        with corrected_colliders():  # they make fewer contacts than MJX's own
            self.model = mjx.put_model(model, impl="jax")
            data = mjx.make_data(model, impl="jax")
        # make_data returns weakly typed leaves. With them, the second call of a jitted function
        # would trace again.
        self._template = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.asarray(leaf).dtype), data)
        self.step = jax.jit(self._step)
        self.forward = jax.jit(self._forward, static_argnames="actuated")

    def load(self, state: PhysicsState) -> mjx.Data:
        """Returns data in which nothing is computed yet."""
        data = self._template.replace(
            qpos=state.qpos, qvel=state.qvel, qacc_warmstart=state.qacc_warmstart
        )
        return data if state.act is None else data.replace(act=state.act)

    def _step(self, state: PhysicsState, ctrl: jax.Array) -> mjx.Data:
        with corrected_colliders():
            return step(self.model, self.load(state).replace(ctrl=ctrl))

    def _forward(self, state: PhysicsState, ctrl: jax.Array, actuated: bool) -> mjx.Data:
        model = self.model if actuated else without_actuation(self.model)
        with corrected_colliders():
            return forward(model, self.load(state).replace(ctrl=ctrl))

    def in_contact(self, state: PhysicsState) -> jax.Array:
        data = self.load(state)
        with corrected_colliders():
            for stage in (mjx.kinematics, mjx.com_pos, mjx.collision):
                data = stage(self.model, data)
        # MJX has no public name for contacts. It has one row for each possible contact.
        contact = data._impl.contact
        return jnp.any(contact.dist < contact.includemargin)

    def external_forces(self, data: mjx.Data) -> jax.Array:
        return mjx.rne_postconstraint(self.model, data)._impl.cfrc_ext
