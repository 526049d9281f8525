"""MJX-Warp behind `Physics`, on the CPU: against C MuJoCo, and what is special about batches.

The kernels of a model compile at its first step, which takes most of the time here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
from collections.abc import Callable
from typing import Any, get_args

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
import warp as wp
from mujoco import mjx
from mujoco.mjx.third_party import mujoco_warp
from mujoco.mjx.third_party.mujoco_warp._src import collision_driver, collision_primitive
from mujoco.mjx.warp import ffi

import envs
from envs.devtools.parity.compare import errors, scales
from envs.devtools.parity.controllers import uniform, waves
from envs.devtools.parity.on_c import converge
from envs.devtools.parity.original import record
from envs.devtools.parity.port import BATCH, Port
from envs.physics import warp as backend
from envs.physics.backend import Physics
from envs.physics.fixes import warp_collision
from envs.physics.models import gym_model
from envs.physics.options import GraphMode, UnsupportedModelError, resolve_impl
from envs.render.pixels import Renderer

from .fixes.test_collision import (
    CAPSULE_GEOM,
    ELLIPSOID,
    ONE_STEP,
    SPHERE,
    capsule,
    capsule_steps,
    error,
    pair,
    touching_poses,
)

# Of the velocity after a physics step, in units of its root mean square, at least 1 (m/s, rad/s):
# what is asked of every task with impl=jax.
TOLERANCE = 1e-3
MODELS = {
    "walker": "dmc/walker_walk",
    "quadruped": "dmc/quadruped_walk",
    "ant": "gym/Ant-v5",
    "dog": "dmc/dog_walk",
    "stacker": "dmc/stacker_stack_2",
}
CHEETAH = {"iterations": 8, "ls_iterations": 12, "contacts": 24, "constraints": 64}


@dataclasses.dataclass(frozen=True)
class Steps:
    """Physics steps of C MuJoCo, (n, ...) each: where from, with what control, and where to."""

    qpos: np.ndarray
    qvel: np.ndarray
    act: np.ndarray
    ctrl: np.ndarray
    next_qpos: np.ndarray
    next_qvel: np.ndarray
    sensordata: np.ndarray
    contacts: np.ndarray
    forces: np.ndarray

    def states(self, physics: Physics) -> Any:
        act = self.act if physics.model.na else None
        return jax.vmap(physics.init)(self.qpos, self.qvel, act)


def play(model: mujoco.MjModel, start: np.ndarray, steps: int, every: int, seed: int) -> Steps:
    """Each `every`th of the physics steps from a pose at rest, with controls that last for five."""
    rng, data, rows = np.random.default_rng(seed), mujoco.MjData(model), []
    data.qpos[:] = start
    for t in range(steps):
        if t % 5 == 0:
            data.ctrl[:] = rng.uniform(-1, 1, model.nu)
        before = [x.copy() for x in (data.qpos, data.qvel, data.act, data.ctrl)]
        mujoco.mj_step(model, data)
        if t % every == every - 1:
            mujoco.mj_rnePostConstraint(model, data)
            after = (data.qpos, data.qvel, data.sensordata)
            rows.append((*before, *(x.copy() for x in after), data.ncon, data.cfrc_ext.copy()))
    return Steps(*(np.stack(column) for column in zip(*rows, strict=True)))


@functools.cache
def cheetah() -> tuple[Physics, Steps]:
    real = envs.make_real("dmc/cheetah_run")
    physics = Physics(real.model, substeps=1, impl="warp", reads_forces=True, **CHEETAH)
    real.reset(seed=0)
    return physics, play(physics.model, real.qpos, 40 * BATCH, 40, seed=0)


@functools.cache
def cheetah_step() -> Callable[..., Any]:
    physics, _ = cheetah()

    def step(state: Any, ctrl: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
        seen = {"in_contact": physics.in_contact(state)}
        state, data = physics.substep(state, ctrl)
        seen |= {"xpos": data.xpos, "forces": physics.external_forces(data)}
        return state, {**seen, "inertias": physics.body_inertias(data)}

    return step


# ------------------------------------------------------------------------- against C MuJoCo


@pytest.mark.parametrize("name", MODELS.values(), ids=MODELS)
def test_a_step_is_the_originals(name: str) -> None:
    real = envs.make_real(name)
    real.reset(seed=0)
    converge(real.model)
    physics = Physics(real.model, substeps=1, impl="warp", contacts=200, constraints=500)
    seen = play(physics.model, real.qpos, 40 * 15, 15, seed=0)
    assert (seen.contacts > 0).mean() > 0.2
    state, data = jax.jit(jax.vmap(physics.substep))(seen.states(physics), seen.ctrl)
    for found, wanted in ((state.qpos, seen.next_qpos), (state.qvel, seen.next_qvel)):
        scale = np.maximum(1.0, np.sqrt(np.mean(wanted**2, axis=0)))
        assert (np.abs(found - wanted) / scale).max() < TOLERANCE
    scale = np.maximum(1.0, np.abs(seen.sensordata).max(axis=0, initial=0))
    np.testing.assert_allclose(data.sensordata / scale, seen.sensordata / scale, atol=2e-2)


def heap() -> mujoco.MjModel:
    """Crosses of two capsules that fall on each other: a body's contacts are not those of its first
    geom and then those of its second, but those with each other body in turn."""
    cross = """
    <body pos="{x} {y} {z}" euler="{angle} 20 {angle}"><freejoint/>
      <geom type="capsule" size="0.03" fromto="-0.2 0 0 0.2 0 0"/>
      <geom type="capsule" size="0.03" fromto="0 -0.2 0 0 0.2 0"/>
    </body>"""
    crosses = [
        cross.format(x=0.04 * i, y=-0.03 * i, z=0.1 + 0.08 * i, angle=50 * i) for i in range(5)
    ]
    return mujoco.MjModel.from_xml_string(f"""
    <mujoco>
      <option timestep="0.004" noslip_iterations="3" noslip_tolerance="0"/>
      <worldbody><geom type="plane" size="2 2 1"/>{"".join(crosses)}</worldbody>
    </mujoco>""")


def test_the_noslip_solver_ends_where_the_originals_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a heap, in which the order of contacts matters."""
    model = heap()
    physics = Physics(model, substeps=1, impl="warp", contacts=200, constraints=500)
    seen = play(physics.model, model.qpos0, 40 * 10, 10, seed=0)

    def apart() -> np.ndarray:
        step = jax.jit(jax.vmap(lambda state, ctrl: physics.substep(state, ctrl)[0].qvel))
        return np.abs(step(seen.states(physics), seen.ctrl) - seen.next_qvel).max(axis=1)

    assert apart().max() < 1e-4
    # When this fails, MJX-Warp was mended: remove envs/physics/fixes/warp_noslip.py.
    monkeypatch.setattr(warp_collision, "corrected_noslip", contextlib.nullcontext)
    assert apart().max() > 1e-3


def test_a_port_steps_as_with_the_other_backend() -> None:
    env = envs.make("dmc/cheetah_run", impl="warp", **CHEETAH)
    assert env.physics.impl == "warp"
    played = [uniform(env.spec), waves(env.spec, 0)]
    seen = record(env, envs.make_real("dmc/cheetah_run"), played, episodes=2, seed=0, longest=300)
    found = errors(Port.of(env).one_step(seen), seen, scales(seen))
    assert max(error.max() for error in found.values()) <= TOLERANCE, found


def test_a_steep_capsule_slides_as_in_the_original() -> None:
    def ours(model: mujoco.MjModel) -> Callable[..., jax.Array]:
        physics = Physics(model, substeps=1, impl="warp", contacts=8, constraints=32)
        return lambda qpos, qvel, ctrl: physics.substep(physics.init(qpos, qvel), ctrl)[0].qvel

    def mjx_alone(model: mujoco.MjModel) -> Callable[..., jax.Array]:
        data = mjx.make_data(model, impl="warp", naconmax=8 * BATCH, njmax=32)
        model = mjx.put_model(model, impl="warp")
        return lambda qpos, qvel, ctrl: mjx.step(model, data.replace(qpos=qpos, qvel=qvel)).qvel

    def tables() -> tuple[dict[Any, Any], dict[Any, Any]]:
        kinds = collision_driver.MJ_COLLISION_TABLE
        return dict(collision_primitive._PRIMITIVE_COLLISIONS), dict(kinds)

    steps, before = capsule_steps(0.0, np.pi / 6), tables()
    assert error(steps, ours(capsule())) < ONE_STEP
    assert tables() == before
    # When this fails, MJX-Warp was mended: remove envs/physics/fixes/warp_collision.py.
    assert error(steps, mjx_alone(capsule())) > 1000 * ONE_STEP


def contacts_of_c(model: mujoco.MjModel, qpos: np.ndarray) -> list[np.ndarray]:
    """Returns the contacts in each pose, by depth: distance, position, normal."""
    data, found = mujoco.MjData(model), []
    for pose in qpos:
        data.qpos[:] = pose
        mujoco.mj_fwdPosition(model, data)
        found.append(np.array([[c.dist, *c.pos, *c.frame[:3]] for c in data.contact]))
    return [rows[np.lexsort(rows.round(5).T[::-1])] for rows in found]


def contacts_of_warp(model: mujoco.MjModel, qpos: np.ndarray) -> list[np.ndarray]:
    """The same of MJX-Warp, with the colliders of where it is called."""
    warp_model = mujoco_warp.put_model(model)
    data = mujoco_warp.make_data(model, nworld=len(qpos), nconmax=16, njmax=64)
    wp.copy(data.qpos, wp.array(qpos, dtype=float))
    for stage in (mujoco_warp.kinematics, mujoco_warp.com_pos, mujoco_warp.collision):
        stage(warp_model, data)
    contact, count = data.contact, int(data.nacon.numpy()[0])
    fields = (contact.dist, contact.pos, contact.frame, contact.worldid)
    distance, position, frame, world = (x.numpy()[:count] for x in fields)
    rows = np.column_stack([distance, position, frame.reshape(count, 9)[:, :3]])
    found = [rows[(world == i) & (distance < 0)] for i in range(len(qpos))]
    return [rows[np.lexsort(rows.round(5).T[::-1])] for rows in found]


def contacts_off(found: list[np.ndarray], wanted: list[np.ndarray]) -> tuple[float, ...]:
    """Returns the largest difference in distance and position (m) and in the normal (rad), and how
    many poses have another number of contacts."""
    alike = [(a, b) for a, b in zip(found, wanted, strict=True) if len(a) == len(b)]
    apart = np.abs(np.concatenate([a - b for a, b in alike])).max(axis=0)
    return apart[0], apart[1:4].max(), apart[4:].max(), len(found) - len(alike)


BOX = 'type="box" size="0.06 0.04 0.08"'


@pytest.mark.parametrize(
    ("first", "second", "deepest", "wrong"),
    [
        (SPHERE, ELLIPSOID, 0.015, 1e-3),
        # Deep enough for an axis, or an edge, to go through the ellipsoid.
        (CAPSULE_GEOM, ELLIPSOID, 0.05, 1e-3),
        (ELLIPSOID, 'type="ellipsoid" size="0.04 0.08 0.06"', 0.015, 1e-3),
        (ELLIPSOID, BOX, 0.05, 1e-3),
        # All of it in the box, which it may leave over an edge that is not near.
        ('type="ellipsoid" size="0.008 0.012 0.04"', BOX, 0.05, 1e-3),
        (BOX, 'type="box" size="0.05 0.07 0.03"', 0.015, None),
    ],
    ids=["sphere", "capsule", "ellipsoid", "box", "in a box", "boxes"],
)
def test_contacts_are_the_originals(
    first: str, second: str, deepest: float, wrong: float | None
) -> None:
    model = pair(first, second)
    converge(model)
    qpos, _ = touching_poses(model, 100, deepest=deepest, most=8)
    wanted = contacts_of_c(model, qpos)
    with warp_collision.corrected_tables():
        *off, different = contacts_off(contacts_of_warp(model, qpos), wanted)
    # C MuJoCo's search, which is not about ellipsoids, ends with the depth, a square of the angle.
    assert np.all(np.array(off) < [2e-6, 1e-4, 1e-3]), off
    assert different == 0
    # When this fails, MJX-Warp was mended: remove our collider.
    *_, normal, different = contacts_off(contacts_of_warp(model, qpos), wanted)
    assert normal > wrong if wrong else different > 10


def test_boxes_deep_in_the_floor_have_the_originals_contacts() -> None:
    model = mujoco.MjModel.from_xml_string(f"""
    <mujoco><worldbody>
      <geom type="plane" size="1 1 1"/><body><freejoint/><geom {BOX}/></body>
    </worldbody></mujoco>""")
    rng = np.random.default_rng(0)
    turns = rng.normal(size=(100, 4))
    turns /= np.linalg.norm(turns, axis=1, keepdims=True)
    qpos = np.column_stack([np.zeros((100, 2)), rng.uniform(-0.15, 0.03, 100), turns])
    wanted = contacts_of_c(model, qpos)
    with warp_collision.corrected_tables():
        *off, different = contacts_off(contacts_of_warp(model, qpos), wanted)
    assert np.all(np.array(off) < 1e-6), off
    assert different == 0
    # When this fails, MJX-Warp was mended: remove our collider.
    assert contacts_off(contacts_of_warp(model, qpos), wanted)[-1] > 10


def test_what_a_step_reads_is_the_originals() -> None:
    physics, seen = cheetah()
    _, read = jax.jit(jax.vmap(cheetah_step()))(seen.states(physics), seen.ctrl)
    assert 0 < (seen.contacts > 0).sum() < len(seen.contacts)
    np.testing.assert_array_equal(read["in_contact"], seen.contacts > 0)
    scale = np.abs(seen.forces).max()
    np.testing.assert_allclose(read["forces"] / scale, seen.forces / scale, atol=1e-3)
    data = mujoco.MjData(physics.model)
    for i in range(len(seen.qpos)):
        data.qpos[:] = seen.qpos[i]
        mujoco.mj_kinematics(physics.model, data)
        mujoco.mj_comPos(physics.model, data)
        np.testing.assert_allclose(read["xpos"][i], data.xpos, atol=1e-5)
        np.testing.assert_allclose(read["inertias"][i], data.cinert, atol=1e-4)


# ------------------------------------------------------------------------------------ batches


def test_batches_are_one_call_however_they_are_nested() -> None:
    physics, seen = cheetah()
    states, ctrl = seen.states(physics), jnp.float32(seen.ctrl)
    flat = jax.jit(jax.vmap(cheetah_step()))(states, ctrl)
    grid = jax.tree.map(lambda x: x.reshape(4, BATCH // 4, *x.shape[1:]), (states, ctrl))
    nested = jax.vmap(jax.vmap(cheetah_step()))
    for a, b in zip(*map(jax.tree.leaves, (flat, jax.jit(nested)(*grid))), strict=True):
        np.testing.assert_allclose(b.reshape(a.shape), a, rtol=1e-5, atol=1e-5)
    single = jax.jit(cheetah_step())(*jax.tree.map(lambda x: x[0], (states, ctrl)))
    for a, b in zip(*map(jax.tree.leaves, (flat, single)), strict=True):
        np.testing.assert_allclose(b, a[0], rtol=1e-5, atol=1e-5)
    # The step, and the evaluation that finds contacts.
    assert str(jax.make_jaxpr(nested)(*grid)).count("ffi_call[") == 2


def test_one_control_for_all_is_taken_by_each() -> None:
    physics, seen = cheetah()
    state = jax.eval_shape(
        jax.vmap(lambda state, ctrl: physics.substep(state, ctrl)[0], in_axes=(0, None)),
        seen.states(physics),
        jnp.zeros(physics.model.nu),
    )
    assert state.qpos.shape == seen.qpos.shape


def test_states_are_alike_on_both_backends() -> None:
    """A checkpoint of one goes on with the other."""

    def shapes(impl: str) -> Any:
        env = envs.make("dmc/cheetah_run", impl=impl)  # type: ignore[arg-type]
        state = jax.eval_shape(env.reset, jax.random.key(0))
        state = jax.eval_shape(env.step, state, jnp.zeros(6))
        return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), state)

    assert shapes("warp") == shapes("jax")


@pytest.mark.parametrize(("buffer", "size"), [("contacts", 1), ("constraints", 4)])
def test_what_does_not_fit_is_noticed(buffer: str, size: int) -> None:
    _, seen = cheetah()
    model = envs.make_real("dmc/cheetah_run").model
    physics = Physics(model, substeps=1, impl="warp", **{**CHEETAH, buffer: size})
    # Fewer than five rows of constraints, or all on their feet: depends on the simulation.
    state = jax.jit(jax.vmap(lambda s, c: physics.substep(s, c)[0]))(
        seen.states(physics), seen.ctrl
    )
    lost = np.isnan(state.qpos).any(axis=1)
    if buffer == "contacts":
        assert lost.all()  # the buffer is the batch's: nobody knows whose are missing
    else:
        assert lost[seen.contacts > 1].all()
        assert not lost[seen.contacts == 0].all()
    np.testing.assert_array_equal(np.isnan(state.qvel).any(axis=1), lost)


# ------------------------------------------------------------------------------- CUDA graphs


@pytest.fixture
def modes(monkeypatch: pytest.MonkeyPatch) -> set[wp.JaxCallableGraphMode]:
    """Collects the graph mode of each call of MJX-Warp that is traced, as if on a GPU."""
    found: set[wp.JaxCallableGraphMode] = set()
    original = ffi.jax_callable_variadic_tuple

    def seen(*args: Any, graph_mode: wp.JaxCallableGraphMode, **options: Any) -> Any:
        found.add(graph_mode)
        return original(*args, graph_mode=graph_mode, **options)

    monkeypatch.setattr(ffi, "jax_callable_variadic_tuple", seen)
    monkeypatch.setattr(backend, "_captures_graphs", lambda: True)
    return found


def trace(env: Any) -> Any:
    """Traces a reset and a step of three simulations, and returns what their states are like."""
    states = jax.eval_shape(jax.vmap(env.reset), jax.random.split(jax.random.key(0), 3))
    actions = jax.ShapeDtypeStruct((3, env.spec.action_size), "f4")
    return jax.eval_shape(jax.vmap(env.step), states, actions)


@pytest.mark.parametrize("mode", get_args(GraphMode))
@pytest.mark.parametrize("name", ["dmc/pendulum_swingup", "playground/PendulumSwingup"])
def test_steps_are_captured_in_the_mode_asked_for(
    name: str, mode: GraphMode, modes: set[wp.JaxCallableGraphMode]
) -> None:
    trace(envs.make(name, impl="warp", graph_mode=mode))
    assert modes == {wp.JaxCallableGraphMode[mode.upper()]}


def test_images_are_captured_in_the_mode_of_their_task(
    modes: set[wp.JaxCallableGraphMode],
) -> None:
    env = envs.make("dmc/pendulum_swingup", impl="warp", graph_mode="warp_staged")
    states = trace(env)
    modes.clear()
    jax.eval_shape(jax.vmap(Renderer(env)), states)
    assert modes == {wp.JaxCallableGraphMode.WARP_STAGED}


def test_a_mode_changes_nothing_in_the_physics() -> None:
    """On a CPU, where Warp has no graphs, as on a GPU."""
    own, seen = cheetah()
    staged = Physics(own.model, substeps=1, impl="warp", graph_mode="warp_staged", **CHEETAH)
    found, wanted = (
        jax.jit(jax.vmap(lambda s, c, physics=physics: physics.substep(s, c)[0]))(
            seen.states(own), seen.ctrl
        )
        for physics in (staged, own)
    )
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["dmc/cartpole_balance", "playground/PendulumSwingup"])
def test_the_other_backend_has_no_modes(name: str) -> None:
    with pytest.raises(UnsupportedModelError, match=r"'warp_staged'.*impl='jax'.*impl='warp'"):
        envs.make(name, impl="jax", graph_mode="warp_staged")
    with pytest.raises(ValueError, match="'warp_staged_ex', got 'jax'"):
        envs.make(name, impl="warp", graph_mode="jax")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["dmc/cartpole_balance", "playground/PendulumSwingup"])
def test_auto_takes_a_mode_along_to_machines_without_a_gpu(name: str) -> None:
    env = envs.make(name, impl="auto", graph_mode="warp_staged")
    assert trace(env).obs.shape == (3, env.spec.obs_size)


def test_a_task_that_decides_its_backend_itself_takes_no_mode(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mujoco_playground import registry

    config = registry.get_default_config("PendulumSwingup")
    del config["impl"]
    monkeypatch.setattr(registry, "get_default_config", lambda name: config)
    with pytest.raises(UnsupportedModelError, match=r"decides its impl itself.*graph_mode out"):
        envs.make("playground/PendulumSwingup", impl="warp", graph_mode="warp_staged")


# ------------------------------------------------------------------------------- the choice


def test_auto_is_jax_without_a_gpu() -> None:
    assert resolve_impl("auto") == "jax"
    assert envs.make("dmc/cartpole_balance", impl="auto").physics.impl == "jax"


def test_unknown_backends_are_refused() -> None:
    with pytest.raises(ValueError, match="'jax', 'warp' or 'auto'"):
        envs.make("dmc/cartpole_balance", impl="cpp")  # type: ignore[arg-type]


def test_without_warp_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "warp" else find(name)
    )
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'fpmd-mjx\[gpu\]'"):
        envs.make("dmc/cartpole_balance", impl="warp")
    assert resolve_impl("auto") == "jax"


def test_forces_must_be_asked_for() -> None:
    physics = Physics(gym_model("reacher.xml"), substeps=1, impl="warp")
    state = physics.init(np.zeros(4), np.zeros(4))
    with pytest.raises(ValueError, match="reads_forces"):
        jax.eval_shape(
            lambda state: physics.step(state, jnp.zeros(2), physics.external_forces), state
        )
