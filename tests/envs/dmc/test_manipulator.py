"""Where manipulator's prop starts: in the hand, in the target or anywhere, and how fast."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import envs

DRAWS = 500
KEPT_SPEED = 7.0  # m/s, more than any draw


@pytest.mark.parametrize("prop", ["ball", "peg"])
def test_prop_starts_in_hand_in_target_or_anywhere(prop: str) -> None:
    env = envs.make(f"dmc/manipulator_bring_{prop}")
    model = env.physics.model
    rejected = env.physics.init(model.qpos0, np.full(model.nv, KEPT_SPEED))
    draw = jax.jit(jax.vmap(env._draw, in_axes=(0, None)))
    physics, target = draw(jax.random.split(jax.random.key(0), DRAWS), rejected)
    data = jax.jit(jax.vmap(env.physics.kinematics))(physics)
    ball = np.asarray(data.xpos[:, model.body(prop).id, ::2])
    in_target = np.linalg.norm(ball - target[:, :2], axis=1) < 1e-5
    hand = np.asarray(data.site_xpos[:, model.site("grasp").id, ::2])
    in_hand = np.linalg.norm(ball - hand, axis=1) < 1e-5
    assert not (in_target & in_hand).any()
    # Five standard deviations of a binomial.
    assert in_target.mean() == pytest.approx(0.1, abs=5 * np.sqrt(0.09 / DRAWS))
    assert in_hand.mean() == pytest.approx(0.1, abs=5 * np.sqrt(0.09 / DRAWS))

    # The original leaves the speed of the draw it rejected to a ball that is placed, not thrown.
    speed = np.asarray(physics.qvel[:, model.joint(f"{prop}_x").dofadr[0]])
    np.testing.assert_array_equal(speed[in_target | in_hand], KEPT_SPEED)
    assert np.abs(speed[~(in_target | in_hand)]).max() <= 5.0
