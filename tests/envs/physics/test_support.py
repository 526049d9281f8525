"""Each model is simulated as C MuJoCo does, or refused with the name of what cannot be."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from mujoco import mjx

import envs
from envs.base import TaskSpec, spec_from_model
from envs.physics import support
from envs.physics.backend import Physics
from envs.physics.options import UnsupportedModelError

QUICK: dict[str, Any] = {"xla_backend_optimization_level": 0}


def limb(
    actuator: str = "", joint: str = "", geom: str = "", sensor: str = "", rest: str = ""
) -> str:
    """A capsule on a hinge in the air."""
    return f"""<mujoco>{rest}<worldbody><site name="mark" pos="0 0 2"/>
    <body name="arm" pos="0 0 1">
      <joint name="hinge" type="hinge" axis="0 1 0" {joint}/>
      <geom name="rod" type="capsule" fromto="0 0 0 .3 0 0" size=".05" {geom}/>
      <site name="tip" pos=".3 0 0"/>
    </body></worldbody>
    <actuator>{actuator}</actuator><sensor>{sensor}</sensor></mujoco>"""


def ball(geom: str = "", floor: str = "", rest: str = "") -> str:
    """A sphere that lies on a floor, 5 mm in it."""
    return f"""<mujoco>{rest}<worldbody>
    <geom name="floor" type="plane" size="5 5 .1" {floor}/>
    <body name="ball" pos="0 0 .095"><freejoint/>
      <geom name="skin" type="sphere" size=".1" {geom}/>
    </body></worldbody></mujoco>"""


FIXED = '<tendon><fixed name="cord" {}><joint joint="hinge" coef="2"/></fixed></tendon>'
MOTOR = '<general name="motor" joint="hinge" gainprm="3" {}/>'
PAIR = """<contact><pair name="touch" geom1="floor" geom2="skin" {}/></contact>"""
MOCAP = '<worldbody><body name="guide" mocap="true"><site name="g"/></body></worldbody>'

# What PhysicsState does not carry, or neither backend has: by what the message names.
REFUSED = {
    "actuator 'motor'.* delay": limb('<motor name="motor" joint="hinge" delay=".02" nsample="9"/>'),
    "sensor 'angle'.* delay": limb(
        sensor='<jointpos name="angle" joint="hinge" delay=".02" nsample="9"/>'
    ),
    "sensor 'held'.* delay": limb(
        sensor='<jointpos name="held" joint="hinge" interval=".02" nsample="3"/>'
    ),
    "actuator 'armed'.* armature": limb('<general name="armed" joint="hinge" armature=".3"/>'),
    "actuator 'off'.* actuatorgroupdisable": limb(
        '<motor name="off" joint="hinge" group="2"/>', rest='<option actuatorgroupdisable="2"/>'
    ),
    "body 'guide'.* mocap": limb(rest=MOCAP),
    "sensor 'now'.* mjSENS_CLOCK": limb(sensor='<clock name="now"/>'),
    "flag sleep": ball(rest='<option><flag sleep="enable"/></option>'),
    "flag fwdinv": ball(rest='<option><flag fwdinv="enable"/></option>'),
    "flag override": ball(rest='<option o_margin=".2"><flag override="enable"/></option>'),
    "integrator .*mjINT_IMPLICIT": limb(rest='<option integrator="implicit"/>'),
    "solver .*PGS": limb(rest='<option solver="PGS"/>'),
    "actuator 'crank'.* mjTRN_SLIDERCRANK": limb(
        '<motor name="crank" cranksite="tip" slidersite="mark" cranklength="2"/>'
    ),
    "actuator 'own'.* mjDYN_USER": limb(
        '<general name="own" joint="hinge" dyntype="user" actdim="1"/>'
    ),
    "actuator 0, .* mjDYN_USER": limb('<general joint="hinge" dyntype="user" actdim="1"/>'),
    "actuator 'dc'.* mjDYN_DCMOTOR": limb(
        '<dcmotor name="dc" joint="hinge" motorconst="1" resistance="1"/>'
    ),
    "sensor 'mine'.* mjSENS_USER": limb(
        sensor='<user name="mine" dim="1" datatype="real" needstage="vel"/>'
    ),
    "sensor 'eye'.* rangefinder": limb(
        sensor='<rangefinder name="eye" site="tip" data="dist dir"/>'
    ),
    "flex 'cloth'": """<mujoco><worldbody><flexcomp name="cloth" type="grid" count="3 3 1"
      spacing=".1 .1 .1" mass="1" radius=".01" dim="2" pos="0 0 1"/></worldbody></mujoco>""",
}

# What MJX leaves out without a word, and MJX-Warp simulates.
REFUSED_BY_JAX = {
    "actuator 'motor'.* actearly": limb(
        MOTOR.format('dyntype="filter" dynprm=".002" actearly="true"')
    ),
    "actuator 'motor'.* damping": limb(MOTOR.format('damping=".3"')),
    "joint 'hinge'.* damping": limb(joint='damping=".1 .5"'),
    "joint 'hinge'.* stiffness": limb(joint='stiffness="1 5"'),
    "tendon 'cord'.* stiffness": limb(rest=FIXED.format('stiffness="3 5"')),
    "tendon 'cord'.* damping": limb(rest=FIXED.format('damping=".3 .4"')),
    "geom 'skin'.* adhesion": ball('adhesion="5"'),
    "geom 'floor'.* surfacevel": ball(floor='surfacevel="1 0 0"'),
    "pair 'touch'.* adhesion": ball(
        'contype="0" conaffinity="0"', rest=PAIR.format('adhesion="3"')
    ),
    "geom 'rod'.* fluidshape": limb(
        geom='fluidshape="ellipsoid"', rest='<option density="1000" viscosity="1"/>'
    ),
    "noslip_iterations": ball(rest='<option noslip_iterations="5" gravity="3 0 -9"/>'),
    "sensor 'eye'.* rangefinder.* material": limb(sensor='<rangefinder name="eye" site="tip"/>'),
    "integrator .*mjINT_DISCRETE": limb(rest='<option integrator="discrete"/>'),
}

# What a backend that ignored it would get wrong, and both simulate.
SIMULATED = {
    "muscle": limb(
        '<muscle joint="hinge" lengthrange="-1 1" ctrlrange="0 1"/>', joint='range="-1 1"'
    ),
    "limits and friction": limb(
        MOTOR.format('dyntype="filterexact" dynprm=".1" actlimited="true" actrange="-.1 .1"')
        + '<position tendon="cord" kp="3" kv=".1" forcerange="-1 1"/>',
        joint='armature=".01" frictionloss=".1" actuatorfrcrange="-.5 .5"',
        sensor='<jointpos joint="hinge" cutoff=".01"/><actuatorfrc actuator="motor"/>',
        rest=FIXED.format('stiffness="3" damping=".3" armature=".2" range="-9 9"'),
    ),
    "gap": ball('margin=".05" gap=".03"').replace(".095", ".13"),
    "box fluid": limb(
        joint='damping=".1"',
        rest='<option density="1000" viscosity="1" wind="1 0 0"/>',
    ),
    "diagnostics": ball(rest='<option><flag energy="enable" island="disable"/></option>'),
    "unused fluidshape": limb(geom='fluidshape="ellipsoid"'),
    "other groups": limb(
        '<motor joint="hinge" group="1"/>', rest='<option actuatorgroupdisable="2"/>'
    ),
    # No constraints: MJX would leave these sensors at 0.
    "sensors of forces": limb(
        '<motor joint="hinge"/>',
        sensor='<accelerometer site="tip"/><force site="tip"/><torque site="tip"/>'
        '<jointactuatorfrc joint="hinge"/><framelinacc objtype="site" objname="tip"/>'
        '<gyro site="tip"/><rangefinder site="tip"/>',
        rest='<asset><material name="any"/></asset>',
    ),
    "sensors of forces with Runge-Kutta": limb(
        '<motor joint="hinge"/>',
        sensor='<accelerometer site="tip"/><force site="tip"/>',
        rest='<option integrator="RK4"/>',
    ),
    "inactive equality": limb(
        rest='<equality><joint joint1="hinge" active="false" polycoef=".5 0 0 0 0"/></equality>'
    ),
}


def errors(xml: str, impl: str, steps: int = 20) -> tuple[float, float]:
    """Returns the largest differences from C MuJoCo over random controls: of qvel, of sensors."""
    model = mujoco.MjModel.from_xml_string(xml)
    physics = Physics(model, substeps=1, impl=impl)  # type: ignore[arg-type]
    data, rng = mujoco.MjData(model), np.random.default_rng(0)
    data.qvel[:] = rng.normal(0, 0.5, model.nv)
    state = physics.init(data.qpos, data.qvel)

    def one(state: Any, control: jax.Array) -> Any:
        after, seen = physics.substep(state, control)
        return after, seen.sensordata

    step = jax.jit(one, compiler_options=QUICK)
    found = []
    for _ in range(steps):
        data.ctrl[:] = rng.uniform(-1, 1, model.nu)
        state, sensors = step(state, jnp.asarray(data.ctrl, jnp.float32))
        mujoco.mj_step(model, data)
        found.append([np.abs(state.qvel - data.qvel), np.abs(sensors - data.sensordata)])
    return tuple(
        max(float(np.max(x, initial=0)) for x in both) for both in zip(*found, strict=True)
    )


@pytest.mark.parametrize("impl", ["jax", "warp"])
@pytest.mark.parametrize("named", REFUSED)
def test_what_no_backend_simulates_is_refused_by_name(named: str, impl: Any) -> None:
    model = mujoco.MjModel.from_xml_string(REFUSED[named])
    with pytest.raises(UnsupportedModelError, match=named):
        Physics(model, substeps=1, impl=impl)


@pytest.mark.parametrize("named", REFUSED_BY_JAX)
def test_what_mjx_would_leave_out_is_refused_by_name(named: str) -> None:
    model = mujoco.MjModel.from_xml_string(REFUSED_BY_JAX[named])
    with pytest.raises(UnsupportedModelError, match=rf"{named}.*impl=jax.*impl=warp"):
        Physics(model, substeps=1, impl="jax")
    Physics(model, substeps=1, impl="warp")


@pytest.mark.parametrize("name", SIMULATED)
def test_what_is_not_refused_moves_as_in_c(name: str) -> None:
    assert max(errors(SIMULATED[name], "jax")) < 1e-4


def test_warp_moves_as_c_where_mjx_would_not() -> None:
    """Several in one model, as each kernel takes seconds to compile."""
    xml = limb(
        MOTOR.format('damping=".3" dyntype="filter" dynprm=".002" actearly="true"'),
        joint='damping=".1 .5" stiffness="1 5"',
        geom='fluidshape="ellipsoid"',
        rest='<option density="10" viscosity="1"/>'
        + FIXED.format('stiffness="3 5" damping=".3 .4"'),
    )
    assert max(errors(xml, "warp")) < 1e-4


def test_a_callback_is_refused() -> None:
    model = mujoco.MjModel.from_xml_string(limb())
    mujoco.set_mjcb_passive(lambda model, data: None)
    try:
        with pytest.raises(UnsupportedModelError, match="mjcb_passive"):
            Physics(model, substeps=1)
    finally:
        mujoco.set_mjcb_passive(None)


# ------------------------------------------------------------------- nothing is left out unseen

# What the sources of MJX need not name: sizes, sparsity patterns and other precomputed structure,
# what only pictures show, and what only names things.
UNREAD = re.compile(
    r"n[a-zA-Z]\w*|\w+adr|\w+_rownnz|\w+_colind|\w+_group|\w+_user|\w+_matid|\w+_rgba|map\w+|efm\w+|"
    r"\w*bvh\w*|oct\w*|tree_(?!sleep)\w+|\w+_treeid|\w+_treenum|\w+_sameframe|\w+num|cam_\w+|"
    r"light_\w+|mat_\w+|tex_\w+|skin_\w+|mesh_\w+|hfield_\w+|flex\w+|text_\w+|tuple_\w+|numeric_\w+|"
    r"key_\w+|name\w*|paths|vis|stat|signature|D_diag|body_(simple|contype|conaffinity|margin)|"
    r"dof_(M0|simplenum|length)|flg_\w+|pair_signature|tendon_width|site_dataid|"
    r"geom_aabb|actuator_length0|(jnt|tendon)_actuatorid"
)
# Read through a field that the compiler makes of it, or checked by MJX with another error.
ELSEWHERE = {
    "geom_gap",  # geom_margin holds both
    "pair_gap",
    "eq_active0",  # mjx.make_data
    "sensor_noise",  # C MuJoCo adds none, either
    "actuator_cranklength",  # of a transmission that is refused
    "actuator_ctrlspec",  # of gains that are refused
    "actuator_outnum",
    "sensor_needstage",  # of the sensor's kind
    "exclude_signature",  # with body ids in their place
}


def sources(impl: str) -> str:
    root = Path(mjx.__file__).parent
    folder = root / "_src" if impl == "jax" else root / "third_party/mujoco_warp/_src"
    # MJX copies all fields without reading them; MJX-Warp computes others of them.
    copies = {"types", "render", "cli"} | ({"io"} if impl == "jax" else set())
    return "\n".join(
        path.read_text()
        for path in folder.glob("*.py")
        if not path.stem.endswith("_test") and path.stem not in copies
    )


@pytest.mark.parametrize("impl", ["jax", "warp"])
def test_every_field_that_a_backend_does_not_read_is_refused_or_of_no_effect(impl: str) -> None:
    """A field that a new version of MuJoCo brings is found here."""
    model, text = mujoco.MjModel.from_xml_string("<mujoco/>"), sources(impl)
    fields = [n for n in dir(model) if not n.startswith("_") and not callable(getattr(model, n))]
    unread = {
        name
        for name in fields
        if not UNREAD.fullmatch(name) and not re.search(rf"\b{name}\b", text)
    }
    assert len(fields) > 300
    assert unread - ELSEWHERE <= support.looked_at(impl)
    options = {name for name in dir(model.opt) if not name.startswith("_")}
    unread = {name for name in options if not re.search(rf"\bopt\.(_impl\.)?{name}\b", text)}
    harmless = {
        "o_friction",  # of the flag override, which is refused
        "o_margin",
        "o_solimp",
        "o_solref",
        "ccd_iterations",  # of C MuJoCo's own search for contacts
        "ccd_tolerance",
        "sdf_iterations",
        "sdf_initpoints",
        "noslip_tolerance",  # with noslip_iterations
        "sleep_tolerance",  # of the flag sleep, which is refused
    }
    assert unread - harmless <= support.looked_at(impl)


def test_every_component_of_the_state_is_carried_given_or_refused() -> None:
    whole = support.CARRIED | support.GIVEN | support.REFUSED_STATE
    assert whole == (1 << int(mujoco.mjtState.mjNSTATE)) - 1


# -------------------------------------------------------------------------------------- actions


def test_an_actuator_without_a_control_range_is_refused_by_name() -> None:
    """Actions are rescaled from [-1, 1], which has no meaning for an infinite range."""
    named = '<motor name="pull" joint="hinge"/><motor name="push" joint="hinge" ctrlrange="-1 1"/>'
    model = mujoco.MjModel.from_xml_string(limb(named))
    with pytest.raises(UnsupportedModelError, match=r"mine/limb.*actuator 'pull'.*ctrlrange") as e:
        spec_from_model("mine/limb", model, obs_size=1, episode_steps=1, substeps=1)
    assert "push" not in str(e.value)
    with pytest.raises(ValueError, match=r"mine/x .*action_low\[1\].*-inf"):
        TaskSpec("mine/x", 1, 2, np.array([0, -np.inf]), np.array([1, 1]), 10, 0.1)
    with pytest.raises(ValueError, match=r"mine/x .*action_high\[0\].*nan"):
        TaskSpec("mine/x", 1, 2, np.array([0, 0]), np.array([np.nan, 1]), 10, 0.1)


@pytest.mark.parametrize("name", ["dmc/swimmer_swimmer6", "gym/Humanoid-v5", "dmc/fish_swim"])
def test_built_in_models_are_supported(name: str) -> None:
    assert envs.make(name).spec.action_size > 0
