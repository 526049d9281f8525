"""Finds the contacts that can never happen:

    python -m envs.devtools.prune dmc/cheetah.xml dmc/cheetah_run

A contact of two bodies is impossible if their geoms do not come near each other in any pose of the
joints between them. The tool draws thousands of random poses, many with joints at their limits and
slightly beyond, because limits are soft. From the closest poses it searches for closer ones. The
remaining pairs are watched in long rollouts of the original on C MuJoCo, and dropped after a single
contact. Pairs that a free joint or an unlimited slide separates always count as possible.

The tool adds the pairs to `envs/physics/impossible_contacts.json`. `benchmarks/contacts.py` watches
trained policies.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from typing import Any

import mujoco
import numpy as np
from mujoco.mjx._src.collision_driver import geom_pairs

from ..originals import make_real
from ..physics.contacts import RECORDS, records, watching
from ..registry import make
from .parity.controllers import policies

POSES = 20_000
STEPS = 50_000
"""Control steps of each controller."""
NEAR = 0.01
"""Distance in m between two geoms, beyond their margin, below which they count as touching."""
_BEYOND = 0.1  # share of a joint's range by which a pose may exceed it
_AT_LIMIT = 0.3  # chance of a joint to be at its limit in a random pose
_STARTS, _SEARCH = 8, 300  # poses from which the search begins, and its steps from each

Geoms = tuple[int, int]


def candidates(model: mujoco.MjModel) -> dict[tuple[int, int], list[Geoms]]:
    """Returns the pairs of geoms that MJX would collide, by their two bodies. Only hinges, balls
    and limited slides are between these bodies."""
    found: dict[tuple[int, int], list[Geoms]] = {}
    for first, second, _ in geom_pairs(model):
        a, b = sorted(int(model.geom_bodyid[geom]) for geom in (first, second))
        if all(_bounded(model, joint) for joint in _between(model, a, b)):
            found.setdefault((a, b), []).append((int(first), int(second)))
    return found


def _between(model: mujoco.MjModel, a: int, b: int) -> Iterable[int]:
    """Returns the joints between two bodies."""

    def ancestry(body: int) -> list[int]:
        return [body, *(ancestry(int(model.body_parentid[body])) if body else [])]

    for body in set(ancestry(a)) ^ set(ancestry(b)):
        first = model.body_jntadr[body]
        yield from range(first, first + model.body_jntnum[body])


def _bounded(model: mujoco.MjModel, joint: int) -> bool:
    kind = model.jnt_type[joint]
    slide = kind == mujoco.mjtJoint.mjJNT_SLIDE
    return kind != mujoco.mjtJoint.mjJNT_FREE and (not slide or bool(model.jnt_limited[joint]))


class _Poses:
    """Random poses of a model's joints. Joints without bounds stay at their default."""

    def __init__(self, model: mujoco.MjModel) -> None:
        hinge, ball = mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_BALL
        self._balls = model.jnt_qposadr[model.jnt_type == ball]
        single = [
            joint
            for joint in range(model.njnt)
            if _bounded(model, joint) and model.jnt_type[joint] != ball
        ]
        limited = model.jnt_limited[single].astype(bool)[:, None]
        is_hinge = (model.jnt_type[single] == hinge)[:, None]
        turn = np.where(is_hinge, [-np.pi, np.pi], 0.0)
        bounds = np.where(limited, model.jnt_range[single], turn)
        self._address = model.jnt_qposadr[single]
        beyond = _BEYOND * np.ptp(bounds, axis=1) * limited[:, 0]
        self.low, self.high = bounds[:, 0] - beyond, bounds[:, 1] + beyond
        self._default = model.qpos0

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        qpos = self._default.copy()
        value = rng.uniform(self.low, self.high)
        end = np.where(rng.uniform(size=value.shape) < 0.5, self.low, self.high)
        at_limit = rng.uniform(size=value.shape) < _AT_LIMIT
        qpos[self._address] = np.where(at_limit, end, value)
        for address in self._balls:
            quaternion = rng.normal(size=4)
            qpos[address : address + 4] = quaternion / np.linalg.norm(quaternion)
        return qpos

    def near(self, qpos: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
        """Returns a random pose near `qpos`. share: standard deviation, as a share of each joint's
        range."""
        qpos = qpos.copy()
        moved = qpos[self._address] + share * (self.high - self.low) * rng.normal(
            size=self.low.shape
        )
        qpos[self._address] = np.clip(moved, self.low, self.high)
        for address in self._balls:
            quaternion = qpos[address : address + 4] + 3 * share * rng.normal(size=4)
            qpos[address : address + 4] = quaternion / np.linalg.norm(quaternion)
        return qpos


def impossible(model: mujoco.MjModel, poses: int, seed: int = 0) -> dict[tuple[str, str], float]:
    """Returns the pairs of bodies that never touch, by name, with the smallest distance found
    (m)."""
    data, rng, drawn = mujoco.MjData(model), np.random.default_rng(seed), _Poses(model)
    planes = model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE

    def distance(qpos: np.ndarray, geoms: list[Geoms]) -> float:
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        return closest(geoms)

    def closest(geoms: list[Geoms]) -> float:
        return min(
            mujoco.mj_geomDistance(model, data, a, b, 1.0, None)
            - max(model.geom_margin[a], model.geom_margin[b])
            for a, b in geoms
        )

    left = {
        pair: geoms
        for pair, geoms in candidates(model).items()
        if not any(planes[geom] for both in geoms for geom in both)
    }
    nearest: dict[tuple[int, int], list[tuple[float, int]]] = {pair: [] for pair in left}
    tried = [drawn.draw(rng) for _ in range(poses)]
    for i, qpos in enumerate(tried):
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        for pair in list(left):
            found = closest(left[pair])
            if found < NEAR:
                del left[pair]
            else:
                nearest[pair] = sorted([*nearest[pair], (found, i)])[:_STARTS]

    never = {}
    for pair, geoms in left.items():
        smallest = np.inf
        for best, i in nearest[pair]:
            qpos = tried[i]
            for share in np.geomspace(0.2, 0.002, _SEARCH):
                other = drawn.near(qpos, share, rng)
                found = distance(other, geoms)
                if found < best:
                    best, qpos = found, other
            smallest = min(smallest, best)
        if smallest >= NEAR:
            never[model.body(pair[0]).name, model.body(pair[1]).name] = float(smallest)
    return never


def prune(name: str, poses: int = POSES, steps: int = STEPS) -> dict[str, Any]:
    """Returns the entry of a task's model in `impossible_contacts.json`: pairs and evidence."""
    real, env = make_real(name), make(name)
    never = impossible(real.model, poses)
    rollouts = []
    for played, policy in policies(env).items():
        rng, over = np.random.default_rng(0), True
        with watching(real.model, list(never)) as watch:
            for t in range(steps):
                if over:
                    real.reset(t)
                *_, terminated, truncated = real.step(policy(t, real.qpos, real.qvel, rng))
                over = terminated or truncated
        never = {pair: far for pair, far in never.items() if not watch.touched[pair]}
        rollouts.append(
            {"task": name, "policy": played, "steps": steps, "evaluations": watch.evaluations}
        )
    return {
        "pairs": [list(pair) for pair in never],
        "metres_apart": [round(far, 4) for far in never.values()],
        "poses": poses,
        "rollouts": rollouts,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m envs.devtools.prune", description=__doc__)
    parser.add_argument("model", help='as in impossible_contacts.json, such as "dmc/cheetah.xml"')
    parser.add_argument("task", help="with the model's joints, such as dmc/cheetah_run")
    args = parser.parse_args()
    found = prune(args.task)
    RECORDS.write_text(json.dumps({**records(), args.model: found}, indent=2) + "\n")
    print(f"{args.model}: {len(found['pairs'])} pairs of bodies never touch: {found['pairs']}")


if __name__ == "__main__":
    main()
