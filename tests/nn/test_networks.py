"""Networks against their own layers: what is shared is multiplied once."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fpmd_mjx.bench.floor import flops
from fpmd_mjx.nn.networks import MLP, FlowNet, JointDense, ensemble

OBS, ACTION = 5, 3


def normal(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize(
    "leads",
    [
        [(4,), (4,)],
        [(4,), (6, 4)],  # candidates of a state
        [(6, 4), (6, 4), ()],  # a time that all share
        [(4,), (6, 4), (), ()],
        [(4,), (1, 4)],
    ],
)
def test_a_joint_layer_is_the_layer_of_the_concatenation(leads: list[tuple[int, ...]]) -> None:
    parts = [normal(i, *lead, 5 - i) for i, lead in enumerate(leads)]
    lead = jnp.broadcast_shapes(*leads)
    whole = jnp.concatenate([jnp.broadcast_to(x, (*lead, x.shape[-1])) for x in parts], -1)
    params = JointDense(7).init(jax.random.key(9), *parts)
    want, got = nn.Dense(7).apply(params, whole), JointDense(7).apply(params, *parts)
    np.testing.assert_allclose(got, want, atol=1e-5)
    same = nn.Dense(7).init(jax.random.key(9), whole)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a.shape, b.shape), params, same)


def test_candidates_share_what_their_state_decides() -> None:
    """Of the first layer, only the action's rows are multiplied for every candidate."""
    net = FlowNet((16,), "relu")
    obs, x, t = normal(0, 8, OBS), normal(1, 32, 8, ACTION), jnp.zeros(())
    params = net.init(jax.random.key(2), obs, x, t)

    def products(obs: jax.Array, t: jax.Array) -> float:
        traced: Any = jax.make_jaxpr(net.apply)(params, obs, x, t)
        return flops(traced, max)

    every = (32, 8)
    repeated = products(jnp.broadcast_to(obs, (*every, OBS)), jnp.broadcast_to(t, every))
    saved = 2 * 16 * (OBS * (32 - 1) * 8 + 16 * (32 * 8 - 1)) + 4 * 16 * 32 * (32 * 8 - 1)
    assert repeated - products(obs, t) >= saved
    np.testing.assert_allclose(
        net.apply(params, obs, x, t),
        net.apply(params, jnp.broadcast_to(obs, (*every, OBS)), x, jnp.broadcast_to(t, every)),
        atol=1e-5,
    )


@pytest.mark.parametrize("layer_norm", [False, True])
def test_an_mlp_is_its_layers_one_after_the_other(layer_norm: bool) -> None:
    mlp = MLP((6, 4), 2, "relu", layer_norm)
    x = normal(0, 9, 5)
    variables = mlp.init(jax.random.key(1), x)
    layers: Any = variables["params"]
    y = np.asarray(x)
    for i in range(3):
        y = y @ layers[f"Dense_{i}"]["kernel"] + layers[f"Dense_{i}"]["bias"]
        if i < 2 and layer_norm:
            y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-6)
        y = np.maximum(y, 0) if i < 2 else y
    np.testing.assert_allclose(mlp.apply(variables, x), y, atol=1e-5)


def test_a_trunk_reduces_the_first_part_alone() -> None:
    mlp = MLP((6,), 2, "relu", trunk=4)
    features, action = normal(0, 8, 30), normal(1, 5, 8, ACTION)
    variables = mlp.init(jax.random.key(1), features, action)
    layers: Any = variables["params"]
    x = np.asarray(features) @ layers["trunk"]["kernel"] + layers["trunk"]["bias"]
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    x = np.broadcast_to(np.tanh(x), (5, 8, 4))
    x = np.concatenate([x, action], -1) @ layers["Dense_0"]["kernel"] + layers["Dense_0"]["bias"]
    y = np.maximum(x, 0) @ layers["Dense_1"]["kernel"] + layers["Dense_1"]["bias"]
    np.testing.assert_allclose(mlp.apply(variables, features, action), y, atol=1e-5)


def test_members_of_an_ensemble_are_mlps_of_their_own() -> None:
    settings: dict[str, Any] = {"hidden": (6,), "out": 2, "activation": "mish"}
    net, one = ensemble(2, **settings), MLP(**settings)
    obs, action = normal(0, 4, OBS), normal(1, 6, 4, ACTION)
    twice = [jnp.broadcast_to(x, (2, *x.shape)) for x in (obs, action)]
    params = net.init(jax.random.key(1), *twice)
    got = net.apply(params, *twice)
    whole = jnp.concatenate([jnp.broadcast_to(obs, (6, 4, OBS)), action], -1)
    for i in range(2):
        member = jax.tree.map(lambda x, i=i: x[i], params)
        np.testing.assert_allclose(got[i], one.apply(member, whole), atol=1e-5)
    assert not np.allclose(got[0], got[1])
