"""Humanoid: what external forces cost, far beyond what a random policy meets."""

from __future__ import annotations

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest

from envs.gym.humanoid_body import Seen, force_cost


@pytest.mark.parametrize("force", [0.0, 10.0, 400.0, 600.0, 1e4])
def test_force_cost_is_the_originals_and_bounded(force: float) -> None:
    real = gymnasium.make("Humanoid-v5", disable_env_checker=True).unwrapped
    real.data.cfrc_ext[:] = force * np.random.default_rng(0).uniform(-1, 1, (14, 6))
    nothing = jnp.zeros(())
    seen = Seen(nothing, nothing, nothing, jnp.asarray(real.data.cfrc_ext), nothing)
    np.testing.assert_allclose(force_cost(seen), real.contact_cost, rtol=1e-5)
    assert (float(force_cost(seen)) == 10.0) == (force > 1000)
