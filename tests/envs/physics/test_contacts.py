"""Contacts that can never happen: how they are found, watched for, and left out."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

import envs
from envs.devtools import prune
from envs.devtools.parity.controllers import uniform
from envs.originals import make_real
from envs.physics import contacts
from envs.physics.contacts import complete_models, watching

from ..harness import make

# A hand on an arm, and a button on the wall behind it that takes a turn by 150 degrees to reach.
ARM = """
<mujoco>
  <compiler angle="degree"/>
  <worldbody>
    <body name="wall"><geom name="button" type="sphere" size="0.05" pos="-0.866 0 0.5"/></body>
    <body name="arm">
      <joint name="shoulder" type="hinge" axis="0 -1 0" range="{range}"/>
      <geom type="capsule" size="0.02" fromto="0.1 0 0 0.5 0 0"/>
      <body name="hand" pos="1 0 0">
        {joint}
        <geom name="hand" type="sphere" size="0.05"/>
      </body>
    </body>
  </worldbody>
</mujoco>
"""


def arm(limits: str, joint: str = "") -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(ARM.format(range=limits, joint=joint))


@pytest.mark.parametrize(
    ("limits", "joint", "never"),
    [
        ("-100 100", "", True),
        # The hand is 5 degrees away where the limit is exceeded by 10 % of the range.
        ("-100 132", "", False),
        ("-180 180", "", False),
        # No limit keeps the hand from sliding around.
        ("-100 100", '<joint name="slide" type="slide" axis="1 0 0"/>', False),
        ("-100 100", '<joint name="slide" type="slide" axis="1 0 0" range="-0.1 0.1"/>', True),
    ],
)
def test_out_of_reach(limits: str, joint: str, never: bool) -> None:
    found = prune.impossible(arm(limits, joint), poses=500)
    assert (("wall", "hand") in found) == never
    # The capsule ends half a metre short of the button.
    if joint == "":
        assert found["wall", "arm"] > 0.3


def test_the_search_finds_what_few_poses_miss() -> None:
    """Two joints have to be right to some degrees, which ten poses never are."""
    model = arm("-180 180", '<joint name="wrist" type="slide" axis="0 1 0" range="-1 1"/>')
    assert ("wall", "hand") not in prune.impossible(model, poses=10)


def test_what_is_watched_is_counted() -> None:
    model = mujoco.MjModel.from_xml_string("""
        <mujoco>
          <worldbody>
            <geom type="plane" size="1 1 1"/>
            <body name="low" pos="0 0 0.1"><freejoint/><geom type="sphere" size="0.1"/></body>
            <body name="high" pos="0 0 0.5"><freejoint/><geom type="sphere" size="0.1"/></body>
          </worldbody>
        </mujoco>""")
    data, counted = mujoco.MjData(model), {("low", "world"): 0, ("high", "low"): 0}
    counted["high", "world"] = 0
    with watching(model, list(counted)) as watch:
        for _ in range(300):
            mujoco.mj_step(model, data)
            # Of Euler's method, the step's own and only evaluation.
            for contact in data.contact:
                names = (model.body(model.geom_bodyid[geom]).name for geom in contact.geom)
                counted[tuple(sorted(names))] += 1
    assert watch.evaluations == 300
    assert watch.touched == counted
    assert counted["low", "world"] > 100 > counted["high", "world"] == 0 < counted["high", "low"]
    mujoco.mj_step(model, data)
    assert watch.evaluations == 300


@pytest.mark.parametrize("name", ["dmc/cheetah_run", "dmc/finger_spin"])
def test_what_is_left_out_never_happens_in_the_original(name: str) -> None:
    task = name.removeprefix("dmc/").split("_")[0]
    pairs = [(a, b) for a, b in contacts.records()[f"dmc/{task}.xml"]["pairs"]]
    real, policy, rng = make_real(name), uniform(make(name).spec), np.random.default_rng(5)
    touching = ("ffoot", "world") if task == "cheetah" else ("distal", "spinner")
    with watching(real.model, [*pairs, touching]) as watch:
        for t in range(3000):
            if t % 1000 == 0:
                real.reset(t)
            real.step(policy(t, real.qpos, real.qvel, rng))
    assert watch.evaluations >= 3000
    assert watch.touched.pop(touching) > 0
    assert not any(watch.touched.values())


@pytest.mark.parametrize("model", contacts.records())
def test_the_evidence_is_complete(model: str) -> None:
    record = contacts.records()[model]
    assert record["poses"] == prune.POSES
    assert min(record["metres_apart"]) >= prune.NEAR
    assert len(record["metres_apart"]) == len(record["pairs"])
    played = {rollout["policy"] for rollout in record["rollouts"]}
    assert {"uniform", "waves 0"} < played
    assert any("trained" in policy for policy in played)
    assert sum(rollout["evaluations"] for rollout in record["rollouts"]) >= 200_000


def test_models_are_complete_where_that_is_asked_for() -> None:
    pruned = envs.make("dmc/cheetah_run").physics.model
    with complete_models():
        complete = envs.make("dmc/cheetah_run").physics.model
    original = make_real("dmc/cheetah_run").model
    pairs = contacts.records()["dmc/cheetah.xml"]["pairs"]
    assert (pruned.nexclude, complete.nexclude, original.nexclude) == (len(pairs), 0, 0)
    assert envs.make("dmc/cheetah_run").physics.model.nexclude == len(pairs)
