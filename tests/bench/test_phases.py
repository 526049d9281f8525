"""The parts of the program alone: what they do in a chunk, and what they leave alone."""

from typing import Any

import jax
import numpy as np
import pytest

from fpmd_mjx.bench import phases
from fpmd_mjx.bench.timing import Quartiles
from fpmd_mjx.program import Program
from fpmd_mjx.run.memory import size

from ..conftest import QUICK, host
from ..toy import Corridor, build, words

# An epoch is 5 iterations of 2 vector steps of 4 environments and 16 updates, of each of 2 seeds.
# The parameters are much larger than a batch, and the ring than the parameters.
OVERRIDES = words(
    "seeds=2 epoch_steps=40 learn.collect_steps=2 learn.updates=16 learn.replay=2000000 "
    "warmup_steps=50 algorithm=fpmd_r actor.hidden=[256,256] critic.hidden=[256,256]"
)


@pytest.fixture(scope="module")
def workload() -> phases.Workload:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Program, "compiler_options", QUICK)
        return phases.Workload(build(Corridor(), *OVERRIDES), phases.PHASES)


def test_a_chunk_is_the_work_of_an_epoch(workload: phases.Workload) -> None:
    found = [workload.phase(name) for name in phases.PHASES]
    assert [(x.name, x.env_steps, x.updates) for x in found] == [
        ("physics", 80, 0),
        ("collect", 80, 0),
        ("learn", 0, 160),
        ("program", 80, 160),
    ]


def test_each_phase_does_its_own_work_on_the_state_that_it_is_handed(
    workload: phases.Workload,
) -> None:
    def counts() -> tuple[int, int]:
        return int(workload._state.vector_steps), int(workload._state.updates)

    def learner() -> list[np.ndarray]:
        return jax.tree.leaves(host(workload._state.learner))

    steps, updates = counts()
    assert steps * 4 >= 50  # warmed up
    workload.phase("collect").run()
    assert counts() == (steps + 10, updates)
    rows, before = host(workload._state.replay), learner()
    workload.phase("learn").run()
    assert counts() == (steps + 10, updates + 80)
    after = host(workload._state.replay)
    jax.tree.map(np.testing.assert_array_equal, rows, after)
    assert any((a != b).any() for a, b in zip(before, learner(), strict=True))
    workload.phase("program").run()
    assert counts() == (steps + 20, updates + 160)
    clocks = host(workload._physics[0].clock)
    workload.phase("physics").run()
    assert counts() == (steps + 20, updates + 160)
    assert (clocks != host(workload._physics[0].clock)).any()


@pytest.mark.parametrize("name", phases.PHASES)
def test_the_state_is_donated_and_held_once(workload: phases.Workload, name: str) -> None:
    # JAX 0.11 donates no array that the host has read on a CPU, and the test before reads the
    # counters. This run leaves arrays that nobody has read.
    workload.phase(name).run()
    held: Any = workload._physics if name == "physics" else workload._state
    found = workload.compiled[name].memory_analysis()
    assert found.alias_size_in_bytes == pytest.approx(size(held), rel=0.02)
    workload.phase(name).run()
    assert not [x for x in jax.tree.leaves(held) if x.size and not x.is_deleted()]
    if name != "physics":
        assert found.temp_size_in_bytes < 0.1 * size(held.replay)


def test_scanned_updates_copy_neither_replay_nor_parameters(workload: phases.Workload) -> None:
    """Beside the donated state there is no room for the ring, nor for the learner once more."""
    state = workload._state
    assert size(state.replay) > 10 * size(state.learner)
    for name in ("learn", "program"):
        found: Any = workload.compiled[name].memory_analysis()
        assert found.alias_size_in_bytes >= 0.999 * size(state)
        assert found.temp_size_in_bytes < size(state.learner)


def test_derived_compares_the_seconds_of_each_round() -> None:
    seconds = {
        "physics": [1.0, 2.0],
        "collect": [1.5, 2.5],
        "learn": [2.0, 4.0],
        "program": [4.0, 8.0],
    }
    shown = {name: x.median for name, x in phases.derived(seconds).items()}
    assert shown == {
        "program.rate_to_physics": 0.25,
        "program.efficiency": 0.75,
        "program.rate_to_collect": (0.375 + 0.3125) / 2,
        "program.efficiency_with_acting": (0.875 + 0.8125) / 2,
    }
    assert phases.derived({"physics": [1.0], "learn": [1.0]}) == {}
    assert phases.derived({"physics": [1.0], "program": [2.0]}) == {
        "program.rate_to_physics": Quartiles(0.5, 0.5, 0.5)
    }
