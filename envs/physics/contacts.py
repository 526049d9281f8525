"""Excludes contacts that can never happen from the models.

MJX (impl=jax) allocates every contact that its static tables allow, and its solver computes with
all of them in every step. If a body cannot reach another one in any pose of the joints, the pair is
excluded from our copy of the model. `python -m envs.devtools.prune` finds such pairs, and
`impossible_contacts.json` holds them with the evidence.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

RECORDS = Path(__file__).with_name("impossible_contacts.json")
"""By model, such as "dmc/cheetah.xml": the excluded pairs of bodies, and the evidence."""

Pairs = Sequence[tuple[str, str]]

_complete = contextvars.ContextVar("complete", default=False)


def records() -> dict[str, Any]:
    """Returns the results of `python -m envs.devtools.prune`, by model."""
    return json.loads(RECORDS.read_text()) if RECORDS.exists() else {}


@functools.cache
def _impossible(model: str) -> list[tuple[str, str]]:
    return [(a, b) for a, b in records().get(model, {}).get("pairs", [])]


def exclude_impossible(spec: mujoco.MjSpec, model: str) -> None:
    """Excludes the known impossible pairs of `model`, except those of bodies that `spec` lacks."""
    if _complete.get():
        return
    bodies = {body.name for body in spec.bodies}
    for a, b in _impossible(model):
        if {a, b} <= bodies:
            spec.add_exclude(bodyname1=a, bodyname2=b)


@contextlib.contextmanager
def complete_models() -> Iterator[None]:
    """Models that are loaded inside keep every contact of the original."""
    token = _complete.set(True)
    try:
        yield
    finally:
        _complete.reset(token)


class Watch:
    """Counts the contacts of some pairs of bodies in C MuJoCo.

    Attributes:
        evaluations: number of dynamics evaluations; a Runge-Kutta step takes four.
        touched: number of contacts of each pair. All should be 0.
    """

    def __init__(self, model: mujoco.MjModel, pairs: Pairs) -> None:
        """Args are the model that will be simulated, and pairs of names of its bodies."""
        ids = [tuple(sorted(model.body(name).id for name in pair)) for pair in pairs]
        self.evaluations = 0
        self.touched = dict.fromkeys(pairs, 0)
        self._watched = dict(zip(ids, pairs, strict=True))
        self._watch = np.zeros((model.nbody, model.nbody), bool)
        for a, b in ids:
            self._watch[a, b] = self._watch[b, a] = True

    def see(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """MuJoCo calls this after the contacts of each evaluation are known."""
        self.evaluations += 1
        if not data.ncon:
            return
        bodies = model.geom_bodyid[data.contact.geom]
        for pair in bodies[self._watch[bodies[:, 0], bodies[:, 1]]]:
            self.touched[self._watched[tuple(sorted(int(body) for body in pair))]] += 1


@contextlib.contextmanager
def watching(model: mujoco.MjModel, pairs: Pairs) -> Iterator[Watch]:
    """Counts the contacts of `pairs` in all simulations of this model on C MuJoCo inside.

    Models cannot be compiled inside: MuJoCo's compiler fails while a Python callback is set.
    """
    watch = Watch(model, pairs)
    previous = mujoco.get_mjcb_passive()
    # Each evaluation computes passive forces once, after its contacts.
    mujoco.set_mjcb_passive(watch.see)
    try:
        yield watch
    finally:
        mujoco.set_mjcb_passive(previous)
