"""`Physics`: which models it takes, and that its quantities are MuJoCo's."""

from __future__ import annotations

import subprocess
import sys

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from envs.base import PhysicsState
from envs.physics.backend import Physics
from envs.physics.preparation import prepare_model
from fpmd_mjx.run.process import child_environment

from ..harness import load

# Velocities of some m/s in float32.
LINVEL_TOLERANCE = 1e-5
# A smooth motion of 0.04 s, in rad and N.
STEP_TOLERANCE = 1e-5

PENDULUM = """
<mujoco>
  <option {option}><flag energy="enable"/></option>
  <worldbody>
    <body name="pole">
      <joint name="hinge" type="hinge" axis="0 1 0" {joint}/>
      <geom type="capsule" fromto="0 0 0 0 0 1" size="0.05"/>
    </body>
    {world}
  </worldbody>
  <actuator>{actuator}</actuator>
</mujoco>
"""


def pendulum(
    option: str = "", world: str = "", joint: str = "", actuator: str = ""
) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(
        PENDULUM.format(option=option, world=world, joint=joint, actuator=actuator)
    )


def test_energy_flag_is_cleared_on_a_copy() -> None:
    model = pendulum()
    flags = model.opt.enableflags
    assert flags & mujoco.mjtEnableBit.mjENBL_ENERGY
    physics = Physics(model, substeps=1, iterations=3, ls_iterations=4)
    assert not physics.model.opt.enableflags & mujoco.mjtEnableBit.mjENBL_ENERGY
    assert (physics.model.opt.iterations, physics.model.opt.ls_iterations) == (3, 4)
    assert model.opt.enableflags == flags
    assert model.opt.iterations == 100


def test_counts_must_be_positive() -> None:
    with pytest.raises(ValueError, match="substeps"):
        Physics(pendulum(), substeps=0)
    with pytest.raises(ValueError, match="ls_iterations"):
        prepare_model(pendulum(), ls_iterations=0)


def test_activations_and_sensors_are_those_of_mujoco() -> None:
    actuator = '<general name="a" joint="hinge" dyntype="filter" dynprm="0.1" gainprm="9"/>'
    sensors = '<sensor><actuatorfrc actuator="a"/><jointvel joint="hinge"/></sensor>'
    # MJX leaves out the sensors of forces in a model where nothing can be constrained.
    limit = 'range="-90 90"'
    model = pendulum(joint=limit, actuator=f"{actuator}</actuator>{sensors}<actuator>")
    physics = Physics(model, substeps=20)
    data = mujoco.MjData(model)
    data.qpos[:], data.act[:], data.ctrl[:] = 0.3, -0.7, 0.5
    state = physics.init(data.qpos, data.qvel, data.act)
    mujoco.mj_step(model, data, physics.substeps)

    @jax.jit
    def advance(state: PhysicsState) -> tuple[PhysicsState, jax.Array, jax.Array]:
        state, _ = physics.step(state, jnp.full(1, 0.5), lambda data: None)
        forward = physics.forward(state, jnp.full(1, 0.5)).sensordata
        return state, forward, physics.kinematics(state).sensordata

    state, forward, kinematics = advance(state)
    np.testing.assert_allclose(state.qpos, data.qpos, atol=STEP_TOLERANCE)
    np.testing.assert_allclose(state.act, data.act, atol=STEP_TOLERANCE)
    assert data.act[0] > -0.5  # it moved, so that there was something to carry
    mujoco.mj_forward(model, data)
    np.testing.assert_allclose(forward, data.sensordata, atol=STEP_TOLERANCE)
    np.testing.assert_allclose(kinematics[1], data.sensordata[1], atol=STEP_TOLERANCE)
    assert physics.init([0.3], [0.0]).act.shape == (1,)
    assert Physics(pendulum(), substeps=1).init([0.3], [0.0]).act is None


def test_a_model_without_contacts_needs_no_colliders() -> None:
    world = '<geom type="plane" size="1 1 1"/><geom type="cylinder" size="1 1"/>'
    flag = 'timestep="0.002"><flag contact="disable"/></option><option '
    physics = Physics(pendulum(option=flag, world=world), substeps=1)
    assert not physics.model.geom_contype.any()
    assert not physics.model.geom_conaffinity.any()


def test_kinematics_are_up_to_date() -> None:
    physics = load("dmc/cheetah_run").env.physics
    rng = np.random.default_rng(0)
    qpos, qvel = rng.normal(size=9), rng.normal(size=9)
    data = mujoco.MjData(physics.model)
    data.qpos[:], data.qvel[:] = qpos, qvel
    mujoco.mj_forward(physics.model, data)
    mujoco.mj_subtreeVel(physics.model, data)

    @jax.jit
    def read(qpos: jax.Array, qvel: jax.Array) -> tuple[jax.Array, jax.Array]:
        state = physics.init(qpos, qvel)
        return physics.kinematics(state).xpos, physics.subtree_linvel(state, 1)

    xpos, linvel = read(qpos, qvel)
    np.testing.assert_allclose(xpos, data.xpos, atol=LINVEL_TOLERANCE)
    np.testing.assert_allclose(linvel, data.subtree_linvel[1], atol=LINVEL_TOLERANCE)


def test_matrix_products_are_in_full_precision_and_no_flag_is_set() -> None:
    physics = load("dmc/cartpole_swingup").env.physics
    state = physics.init(jnp.zeros(2), jnp.zeros(2))
    program = str(jax.make_jaxpr(lambda s: physics.substep(s, jnp.zeros(1))[0])(state))
    products = program.count("dot_general[")
    assert products
    assert program.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") == products
    assert jax.config.jax_default_matmul_precision is None


@pytest.mark.parametrize("speed", [1e9, 2e10])
def test_what_the_original_would_reset_is_given_up(speed: float) -> None:
    """C MuJoCo looks at the velocity when the next step begins."""
    model = pendulum()
    physics = Physics(model, substeps=1)
    step = jax.jit(lambda qvel: physics.substep(physics.init(np.zeros(1), qvel), jnp.zeros(0))[0])
    state = step(np.array([speed]))
    data = mujoco.MjData(physics.model)
    data.qvel[:] = speed
    previous = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        mujoco.mj_step(physics.model, data)
    finally:
        mujoco.set_mju_user_warning(previous)
    assert np.isnan(state.qpos).any() == (data.warning[mujoco.mjtWarning.mjWARN_BADQVEL].number > 0)


LARGE_BATCH = """
import jax
import envs
from envs.physics.options import compiler_options

env = envs.make("dmc/cheetah_run")
keys = jax.random.split(jax.random.key(0), 1024)

def steps(keys):
    actions = jax.vmap(lambda key: jax.random.uniform(key, (20, 6), minval=-1.0))(keys)
    states = jax.vmap(env.reset)(keys)
    step = jax.vmap(env.step)
    states, _ = jax.lax.scan(lambda x, u: (step(x, u), None), states, actions.swapaxes(0, 1))
    return states.reward

options = compiler_options(env.spec.longest_chain)
steps = jax.jit(steps, compiler_options=options).lower(keys).compile()
print("compiled", flush=True)
print(steps(keys).mean())
"""


def test_large_batches_end_on_two_threads() -> None:
    """Two factorizations at once would wait for each other: see `physics.fixes.integration`."""
    env = child_environment(NPROC="2")  # of XLA's threads, wherever the test runs
    command = [sys.executable, "-c", LARGE_BATCH]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "compiled\n"
        try:
            reward, _ = process.communicate(timeout=120)  # it takes five seconds
        finally:
            process.kill()
    assert 0.0 <= float(reward) <= 1.0
