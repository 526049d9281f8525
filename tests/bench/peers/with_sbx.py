"""SBX's own agents. pytest collects this file only by its name, for the extra `sbx` is not part of
`dev`: `pytest tests/bench/peers/with_sbx.py` where it is installed."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from fpmd_mjx.bench.peers import sbx


@pytest.mark.parametrize(
    ("peer", "task"),
    [
        ("sbx_sac", "gym/InvertedPendulum-v5"),
        ("sbx_tqc", "dmc/cartpole_swingup"),
        ("sbx_crossq", "dmc/cartpole_swingup"),
    ],
)
def test_their_agents_learn_as_published(
    peer: str, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    make = sbx.make_agent
    monkeypatch.setattr(sbx, "make_agent", lambda *args: made.append(make(*args)) or made[-1])
    monkeypatch.setattr(sbx, "use_compile_cache", lambda: None)
    monkeypatch.setattr(sbx, "EVALUATE_EVERY", 110)
    found = list(itertools.islice(sbx.train(peer, task, 2, 3, 1e9), 2))
    [agent] = made
    assert (agent.num_timesteps, agent._n_updates, agent.seed) == (220, 220 - 100, 3)
    assert [x["env_steps"] for x in found] == [110, 220]
    assert all(np.isfinite(x["return"]) for x in found)
    first, second = found
    assert first["compile_seconds"] > first["train_seconds"] > 0
    assert second["compile_seconds"] < 2 * first["compile_seconds"]
    assert second["train_seconds"] > first["train_seconds"]
