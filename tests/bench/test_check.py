"""Does the program work: what the check sees, with a toy and with runs that are made up."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from fpmd_mjx.bench import check
from fpmd_mjx.config import load as configs
from fpmd_mjx.config.schema import Config
from fpmd_mjx.run import compile as compiling
from fpmd_mjx.run import score, train

from ..conftest import Toy
from ..toy import tiny_config


def test_a_toys_epoch_repeats(toy: Toy) -> None:
    [found] = check.repeat(configs.to_yaml(toy.config))
    assert found["epoch_repeats"]
    assert found["epoch_differing_leaves"] == 0
    assert found["epoch_difference"] == 0.0
    assert found["compile_seconds"] == toy.compiled.seconds


def test_an_epoch_that_differs_in_one_number_does_not(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch, runs = toy.compiled.train_epoch, 0

    def differs(state: Any) -> Any:
        nonlocal runs
        runs += 1
        state, metrics = epoch(state)
        noise = state.learner.noise
        changed = noise.replace(log_alpha=noise.log_alpha + 1e-6 * runs)
        return state.replace(learner=state.learner.replace(noise=changed)), metrics

    compiled = dataclasses.replace(toy.compiled, train_epoch=differs)
    monkeypatch.setattr(compiling, "compile_program", lambda program: compiled)
    [found] = check.repeat(configs.to_yaml(toy.config))
    assert not found["epoch_repeats"]
    assert found["epoch_differing_leaves"] == 1
    assert 0 < found["epoch_difference"] < 1e-3


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1.0, -4.0], [1.0, -4.0], 0.0),
        ([np.nan, 1.0], [np.nan, 1.0], 0.0),
        ([1.0, -4.0], [1.0, -3.0], 0.25),
        ([0.0], [-0.0], check.SMALLEST),
        ([1.0, np.nan], [1.0, 2.0], np.inf),
        ([1.0, np.inf], [1.0, 2.0], np.inf),
        ([np.inf, np.inf], [np.inf, -np.inf], np.inf),
        ([np.inf, -np.inf, 1.0], [np.inf, -np.inf, 2.0], 0.5),
        ([0.0, 0.0], [0.0, 10.0], 1.0),
    ],
)
@pytest.mark.filterwarnings("error")
def test_differences(a: list[float], b: list[float], expected: float) -> None:
    arrays = np.array(a, np.float32), np.array(b, np.float32)
    assert check.difference(*arrays) == pytest.approx(expected)


def test_keys_and_counters_are_compared_too() -> None:
    tree = {"key": jax.random.key(1), "count": np.uint32(3)}
    found = check.host_copy(jax.tree.map(jax.numpy.asarray, tree))
    assert [x.dtype for x in found] == [np.uint32, np.uint32]
    same = check.host_copy({**jax.tree.map(jax.numpy.asarray, tree), "key": jax.random.key(2)})
    assert [check.difference(a, b) > 0 for a, b in zip(found, same, strict=True)] == [False, True]


@pytest.mark.parametrize("resumes", [True, False])
def test_a_run_in_one_go_is_compared_with_one_that_was_continued(
    monkeypatch: pytest.MonkeyPatch, resumes: bool
) -> None:
    trained: list[tuple[str, int]] = []

    def fake(config: Config) -> None:
        trained.append((config.name, config.env_steps))
        config.folder.mkdir(parents=True, exist_ok=True)
        loss = 3 if resumes or config.name == "whole" else 4
        rows = f"epoch,train_seconds,loss\n1,{len(trained)},2\n2,{len(trained)},{loss}\n"
        (config.folder / "metrics.csv").write_text(rows)

    def scored(folder: Path, mode: Any, simulator: str, episodes: int) -> dict[str, Any]:
        assert folder.name == "continued"
        return {"mean": {"mjx": 7.0, "mujoco": 8.0}[simulator]}

    monkeypatch.setattr(train, "train", fake)
    monkeypatch.setattr(score, "score_run", scored)
    [found] = check.run_twice(configs.to_yaml(tiny_config()))
    assert trained == [("whole", 80), ("continued", 40), ("continued", 80)]
    assert found.pop("seconds") >= 0
    assert found == {"resumes": resumes, "score": 7.0, "score_real": 8.0}
