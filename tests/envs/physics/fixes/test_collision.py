"""Contacts: MJX with and without our colliders, against C MuJoCo."""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from mujoco import mjx
from mujoco.mjx._src import collision_driver

from envs.devtools.parity.port import BATCH
from envs.physics.backend import Physics
from envs.physics.fixes.collision import corrected_colliders
from envs.physics.models import gym_model
from envs.physics.options import COMPILER_OPTIONS

# A step's velocities (m/s, rad/s), of which float32 keeps seven digits, against C MuJoCo.
ONE_STEP = 1e-4
FRAME = 1e-5

jit = functools.partial(jax.jit, compiler_options=COMPILER_OPTIONS)

CAPSULE = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <geom type="plane" size="1 1 1" zaxis="{normal}"/>
    <body pos="0 0 0.3"><freejoint/><geom type="capsule" size="0.05 0.2"/></body>
  </worldbody>
</mujoco>
"""


@dataclasses.dataclass(frozen=True)
class Steps:
    """Steps of C MuJoCo, (n, ...) each."""

    qpos: np.ndarray
    qvel: np.ndarray
    ctrl: np.ndarray
    next_qvel: np.ndarray


def capsule(normal: str = "0 0 1") -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(CAPSULE.format(normal=normal))


def capsule_steps(steepest: float, flattest: float) -> Steps:
    """A capsule slides with one end 2 mm in the ground; angles are to the normal, in rad."""
    model, rng, rows = capsule(), np.random.default_rng(0), []
    data = mujoco.MjData(model)
    for angle in np.linspace(steepest, flattest, BATCH):
        heading = rng.uniform(0, 2 * np.pi)
        quat = [
            np.cos(angle / 2),
            *(np.sin(angle / 2) * np.array([-np.sin(heading), np.cos(heading), 0])),
        ]
        mujoco.mj_resetData(model, data)
        data.qpos[:] = [0, 0, 0.05 + 0.2 * np.cos(angle) - 0.002, *quat]
        data.qvel[:] = [*rng.normal(size=2), -0.5, *(0.5 * rng.normal(size=3))]
        qpos, qvel = data.qpos.copy(), data.qvel.copy()
        mujoco.mj_step(model, data)
        assert data.ncon
        rows.append((qpos, qvel, np.zeros(0), data.qvel.copy()))
    return Steps(*(np.stack(column) for column in zip(*rows, strict=True)))


def ant() -> mujoco.MjModel:
    model = gym_model("ant.xml")
    # A quarter of the compile time of Runge-Kutta, with the same contacts.
    model.opt.integrator = mujoco.mjtIntegrator.mjINT_EULER
    return model


def ant_steps() -> Steps:
    """Every tenth of 2,000 steps with random controls that last for five."""
    model, rng, rows = ant(), np.random.default_rng(0), []
    data = mujoco.MjData(model)
    for t in range(2000):
        if t % 5 == 0:
            data.ctrl[:] = rng.uniform(-1, 1, model.nu)
        qpos, qvel, ctrl = data.qpos.copy(), data.qvel.copy(), data.ctrl.copy()
        mujoco.mj_step(model, data)
        if t % 10 == 9:
            rows.append((qpos, qvel, ctrl, data.qvel.copy()))
    return Steps(*(np.stack(column) for column in zip(*rows, strict=True)))


def error(steps: Steps, step: Callable[..., jax.Array]) -> float:
    """Returns the largest difference to the velocities of C MuJoCo after one step."""
    step = jit(jax.vmap(step))
    worst = 0.0
    for i in range(0, len(steps.qpos), BATCH):
        rows = slice(i, i + BATCH)
        qvel = step(*(jnp.float32(x[rows]) for x in (steps.qpos, steps.qvel, steps.ctrl)))
        worst = max(worst, np.abs(qvel - steps.next_qvel[rows]).max())
    return worst


def ours(model: mujoco.MjModel) -> Callable[..., jax.Array]:
    physics = Physics(model, substeps=1, iterations=8, ls_iterations=12)

    def step(qpos: jax.Array, qvel: jax.Array, ctrl: jax.Array) -> jax.Array:
        return physics.substep(physics.init(qpos, qvel), ctrl)[0].qvel

    return step


def mjx_alone(model: mujoco.MjModel) -> Callable[..., jax.Array]:
    model.opt.iterations, model.opt.ls_iterations = 8, 12
    model, data = mjx.put_model(model, impl="jax"), mjx.make_data(model, impl="jax")

    def step(qpos: jax.Array, qvel: jax.Array, ctrl: jax.Array) -> jax.Array:
        return mjx.step(model, data.replace(qpos=qpos, qvel=qvel, ctrl=ctrl)).qvel

    return step


def test_a_steep_capsule_slides_as_in_the_original() -> None:
    steps = capsule_steps(0.0, np.pi / 6)
    assert error(steps, ours(capsule())) < ONE_STEP
    # When this fails, MJX was mended: remove our collider.
    assert error(steps, mjx_alone(capsule())) > 1000 * ONE_STEP


def test_ant_walks_as_in_the_original() -> None:
    steps = ant_steps()
    assert error(steps, ours(ant())) < ONE_STEP
    assert error(steps, mjx_alone(ant())) > 100 * ONE_STEP


def frames(model: mujoco.MjModel, quat: np.ndarray) -> np.ndarray:
    """Returns MJX's contact frames, (n, 2, 3, 3), of capsules at the origin."""
    mjx_model, data = mjx.put_model(model, impl="jax"), mjx.make_data(model, impl="jax")

    @jit
    @jax.vmap
    def collide(quat: jax.Array) -> jax.Array:
        placed = data.replace(qpos=jnp.concatenate([jnp.zeros(3), quat]))
        return mjx.collision(mjx_model, mjx.kinematics(mjx_model, placed))._impl.contact.frame

    with jax.default_matmul_precision("highest"):
        return np.asarray(collide(jnp.float32(quat)))


@pytest.mark.parametrize("normal", ["0 0 1", "0 1 0", "1 0 0", "0.3 -0.5 1"])
def test_frames_are_the_originals(normal: str) -> None:
    model = capsule(normal)
    rng = np.random.default_rng(0)
    quat = rng.normal(size=(200, 4))
    # The first stands on the plane exactly: there is no axis along it.
    quat[0] = model.geom_quat[0]
    quat /= np.linalg.norm(quat, axis=1, keepdims=True)
    with corrected_colliders():
        found = frames(model, quat)
    data = mujoco.MjData(model)
    for i in range(len(quat)):
        data.qpos[:] = [0, 0, 0, *quat[i]]
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_collision(model, data)
        for contact in data.contact:
            np.testing.assert_allclose(found[i], [contact.frame.reshape(3, 3)] * 2, atol=FRAME)


@dataclasses.dataclass(frozen=True)
class Contacts:
    """One contact of each of n poses: distance (n,), position (n, 3), normal (n, 3)."""

    distance: np.ndarray
    position: np.ndarray
    normal: np.ndarray

    def off(self, other: Contacts) -> tuple[float, float, float]:
        """Returns the largest differences: m, m, and rad."""
        return (
            float(np.abs(self.distance - other.distance).max()),
            float(np.linalg.norm(self.position - other.position, axis=1).max()),
            float(np.linalg.norm(self.normal - other.normal, axis=1).max()),
        )


def pair(first: str, second: str) -> mujoco.MjModel:
    """Two free bodies with a geom each."""
    bodies = "".join(f"<body><freejoint/><geom {geom}/></body>" for geom in (first, second))
    return mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{bodies}</worldbody></mujoco>")


def touching_poses(
    model: mujoco.MjModel,
    count: int,
    turn: float = np.inf,
    deepest: float = 0.015,
    most: int = 1,
) -> tuple[np.ndarray, Contacts]:
    """Returns random poses, (count, nq), that touch, and C MuJoCo's first contacts in them.

    turn: of the second body's axis against the first one's, rad at most.
    most: contacts that a pose may have.
    """
    data, rng, rows, found = mujoco.MjData(model), np.random.default_rng(0), [], []
    while len(rows) < count:
        quat = rng.normal(size=4)
        other = rng.normal(size=4)
        if np.isfinite(turn):
            angle, heading = rng.uniform(-turn, turn), rng.uniform(0, 2 * np.pi)
            other = np.zeros(4)
            axis = np.array([np.cos(heading), np.sin(heading), 0.0])
            mujoco.mju_mulQuat(other, quat, [np.cos(angle / 2), *(np.sin(angle / 2) * axis)])
        qpos = [*rng.normal(size=3, scale=0.2), *quat, 0, 0, 0, *other]
        qpos = np.array(qpos, np.float32).astype(np.float64)
        for start in (3, 10):
            qpos[start : start + 4] /= np.linalg.norm(qpos[start : start + 4])
        data.qpos[:] = qpos
        mujoco.mj_fwdPosition(model, data)
        if 1 <= data.ncon <= most and -deepest < data.contact.dist.min() < 0:
            rows.append(qpos)
            contact = data.contact[0]
            found.append((contact.dist, contact.pos.copy(), contact.frame[:3].copy()))
    return np.stack(rows), Contacts(*(np.array(x) for x in zip(*found, strict=True)))


def contacts_of_mjx(model: mujoco.MjModel, qpos: np.ndarray) -> Contacts:
    """Returns MJX's first contact in each pose."""
    mjx_model, data = mjx.put_model(model, impl="jax"), mjx.make_data(model, impl="jax")

    @jit
    @jax.vmap
    def collide(qpos: jax.Array) -> tuple[jax.Array, ...]:
        placed = mjx.kinematics(mjx_model, data.replace(qpos=qpos))
        contact = mjx.collision(mjx_model, placed)._impl.contact
        return contact.dist[0], contact.pos[0], contact.frame[0, 0]

    with jax.default_matmul_precision("highest"):
        return Contacts(*map(np.asarray, collide(jnp.float32(qpos))))


CAPSULE_GEOM, SPHERE = 'type="capsule" size="0.02 0.1"', 'type="sphere" size="0.08"'
SHORT = 'type="capsule" size="0.01 0.01"'
CYLINDER, ELLIPSOID = 'type="cylinder" size="0.05 0.1"', 'type="ellipsoid" size="0.1 0.08 0.05"'


@pytest.mark.parametrize(
    ("first", "second", "exact"),
    [
        # C MuJoCo's own search for such contacts stops at 1e-6 m.
        (CAPSULE_GEOM, CYLINDER, 1e-3),
        (CAPSULE_GEOM, ELLIPSOID, 1e-3),
        (SPHERE, CYLINDER, 1e-4),
        (SPHERE, ELLIPSOID, 1e-4),
        (CAPSULE_GEOM, 'type="capsule" size="0.04 0.09"', 1e-5),
        ('type="sphere" size="0.02"', SHORT, 1e-5),
    ],
)
def test_contacts_are_the_originals(first: str, second: str, exact: float) -> None:
    model = pair(first, second)
    qpos, original = touching_poses(model, 200)
    with corrected_colliders():
        distance, position, normal = contacts_of_mjx(model, qpos).off(original)
    assert distance < 1e-6
    assert position < 1e-4
    assert normal < exact


@pytest.mark.parametrize(
    ("first", "second", "turn", "deepest", "wrong"),
    [
        (CAPSULE_GEOM, CYLINDER, np.inf, 0.015, 0.3),
        (SPHERE, ELLIPSOID, np.inf, 0.015, 0.01),
        # It adds 1e-6 to the squared sine of the angle between the axes.
        (CAPSULE_GEOM, 'type="capsule" size="0.04 0.09"', 0.02, 0.055, 5e-4),
        # And to the squared length of a capsule.
        ('type="sphere" size="0.02"', SHORT, np.inf, 0.015, 1e-3),
    ],
)
def test_contacts_of_mjx_alone_are_not(
    first: str, second: str, turn: float, deepest: float, wrong: float
) -> None:
    """When this fails, MJX was mended: remove our collider."""
    model = pair(first, second)
    qpos, original = touching_poses(model, 100, turn, deepest)
    assert contacts_of_mjx(model, qpos).off(original)[2] > wrong
    with corrected_colliders():
        assert contacts_of_mjx(model, qpos).off(original)[2] < wrong / 10


def test_mjx_is_its_own_outside() -> None:
    """Afterwards, after errors, when nested, and in other threads meanwhile."""
    model, quat = capsule(), np.array([[1.0, 0.1, 0.05, 0.0]])
    quat /= np.linalg.norm(quat)
    table = dict(collision_driver._COLLISION_FUNC)
    own = frames(model, quat)
    with corrected_colliders(), corrected_colliders():
        corrected = frames(model, quat)
        elsewhere: list[np.ndarray] = []
        thread = threading.Thread(target=lambda: elsewhere.append(frames(model, quat)))
        thread.start()
        thread.join()
    np.testing.assert_array_equal(elsewhere[0], own)
    assert np.abs(corrected - own).max() > 0.1
    with pytest.raises(ZeroDivisionError), corrected_colliders():
        raise ZeroDivisionError
    assert table == collision_driver._COLLISION_FUNC
    np.testing.assert_array_equal(frames(model, quat), own)


def test_simulations_leave_the_table_as_it_was() -> None:
    table = dict(collision_driver._COLLISION_FUNC)
    physics = Physics(capsule(), substeps=1)
    state = jax.eval_shape(physics.init, *map(jnp.zeros, (7, 6)))
    jax.eval_shape(physics.substep, state, jnp.zeros(0))
    jax.eval_shape(physics.forward, state)
    with pytest.raises(TypeError):
        jax.eval_shape(physics.substep, state, "no control")
    assert table == collision_driver._COLLISION_FUNC
