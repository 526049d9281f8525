"""Every way to choose an action, timed, at tiny sizes."""

import jax
import pytest

from fpmd_mjx.bench import latency
from fpmd_mjx.bench.latency import Latency

from ..toy import Corridor, build

NAMES = [*latency.MODES, "gaussian", "diffusion"]


def test_every_mode_and_reference_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "BATCHES", (3,))
    monkeypatch.setattr(latency, "CHUNK_SECONDS", 0.0)
    overrides = ["seeds=2", "algorithm=fpmd_r", "algorithm.flow_steps=3", "algorithm.candidates=5"]
    program = build(Corridor(), *overrides)
    found = latency.selections(program)
    monkeypatch.setattr(latency, "selections", lambda _: found)
    chunks, calls = latency.measurements(program)
    assert [chunk.name for chunk in chunks] == [f"latency.{name}.batch_3" for name in NAMES]
    assert {(chunk.env_steps, chunk.updates, chunk.calls) for chunk in chunks} == {(0, 0, 1)}
    for chunk in chunks:
        chunk.run()
    assert list(calls) == [f"latency.{name}.network_calls" for name in NAMES]
    assert list(calls.values()) == [1, 1, 5 * 3 + 5 * 2, 4, 20, 1, 32 * 20 + 32 * 2]
    obs = jax.ShapeDtypeStruct((1, 6, 3), "float32")
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
    for each in found:
        action = jax.eval_shape(each.choose, each.policy, obs, keys)
        assert action.shape == (1, 6, 1), each.name


def timed(name: str, calls: int) -> Latency:
    """Of what `results` reads."""
    found = object.__new__(Latency)
    found.name, found.calls = f"latency.{name}", calls
    return found


def test_results_are_of_one_call_and_against_one_step_of_the_same_round() -> None:
    chunks = [
        timed("one_step.batch_1", 10),
        timed("gaussian.batch_1", 1),
        timed("one_step.batch_64", 4),
        timed("gaussian.batch_64", 2),
    ]
    seconds = [[0.01, 0.02], [0.003, 0.001], [0.4, 0.8], [0.1, 0.2]]
    shown = {name: x.median for name, x in latency.results(chunks, seconds).items()}
    assert shown == pytest.approx(
        {
            "latency.one_step.batch_1_ms": 1.5,
            "latency.gaussian.batch_1_ms": 2.0,
            "latency.gaussian.batch_1_to_one_step": 1.75,  # 3 and 0.5
            "latency.one_step.batch_64_ms": 150.0,
            "latency.gaussian.batch_64_ms": 75.0,
            "latency.gaussian.batch_64_to_one_step": 0.5,
        }
    )
