"""Scores against their closed forms."""

import numpy as np
import pytest

from fpmd_mjx.bench.agent import scores
from fpmd_mjx.bench.agent.scores import Curve
from fpmd_mjx.bench.agent.yardstick import Task
from fpmd_mjx.report.statistics import stratified_bootstrap


def curve(*returns: list[float], seconds: float = 10.0, updates: int = 50) -> Curve:
    """Returns of each evaluation, one a seed; an evaluation every 100 env steps and `seconds`."""
    records = [
        {
            "env_steps": 100 * (i + 1),
            "train_seconds": seconds * (i + 1),
            "updates": updates * (i + 1),
            "returns": {"one_step": x},
        }
        for i, x in enumerate(returns)
    ]
    return Curve.of(Task("dmc/cheetah_run", 100 * len(returns), random=0, solved=100), records)


def test_the_score_is_the_mean_of_the_last_evaluations_in_time() -> None:
    run = curve([10, 0], [20, 0], [30, 3], [40, 6], [50, 0])
    np.testing.assert_allclose(run.score(), [0.4, 0.03])
    np.testing.assert_allclose(run.score(40), [0.3, 0.03])
    np.testing.assert_allclose(run.score(39.9), [0.2, 0.01])
    np.testing.assert_allclose(run.score(9.9), [0, 0])


def test_a_fall_is_a_loss_of_three_tenths_of_the_best_so_far() -> None:
    #      the first seed: a fall from 50 to 34.9, none to 35; the second is not worth a fall
    run = curve([50, 9.9], [34.9, 0], [35, 0], [60, 0], [10, 9])
    assert run.falls() == (2, 4)
    assert curve([1, 2]).falls() == (0, 0)


def test_costs_are_of_all_seeds_and_tasks() -> None:
    runs = {"a": curve([10, 30], [10, 30]), "b": curve([50, 70], seconds=4, updates=150)}
    table = scores.summary({"only": runs})
    [row] = table.rows
    found = dict(zip(table.columns, row, strict=True))
    assert found["score"] == pytest.approx(0.4)
    assert found["low"] < 0.4 < found["high"]
    assert found["updates per env step"] == pytest.approx(250 * 2 / (300 * 2))
    assert found["ms per update"] == pytest.approx(1000 * 24 / (250 * 2))
    assert found["training seconds"] == 24


def test_settings_differ_at_equal_env_steps_and_at_equal_seconds() -> None:
    before = {"a": curve([10, 10], [20, 20]), "b": curve([40, 20]), "c": curve([9, 9])}
    slow = {
        "a": curve([20, 20], [60, 60], seconds=20),
        "b": curve([60, 40], seconds=5),
        "c": curve([9, 9], seconds=5),
    }
    steps, seconds = (
        {
            row[1]: dict(zip(table.columns, row, strict=True))
            for table in [scores.differences({"before": before, "slow": slow}, equal)]
            for row in table.rows
        }
        for equal in ("env steps", "seconds")
    )
    # The mean of the evaluations after 100 and 200 env steps.
    a, b = steps["a"], steps["b"]
    assert (a["before"], a["score"], a["difference"]) == pytest.approx((0.15, 0.4, 0.25))
    assert a["times"] == pytest.approx(40 / 15)
    assert steps["all"]["difference"] == pytest.approx((0.25 + 0.2) / 3)
    # Within 20 s the slow one has one evaluation.
    assert seconds["a"]["difference"] == pytest.approx(0.05)
    assert seconds["a"]["times"] == pytest.approx(20 / 15)
    # Within 5 s the first setting has none, and there is no multiple of nothing.
    assert seconds["b"]["difference"] == pytest.approx(0.5)
    assert np.isnan(seconds["c"]["times"])
    # Seeds are drawn together: both gain 20 in task b, whichever is drawn.
    assert (b["low"], b["high"]) == pytest.approx((0.2, 0.2))
    assert steps["all"]["times low"] <= steps["all"]["times"] <= steps["all"]["times high"]


def test_the_interval_is_that_of_all_samples() -> None:
    """Two tasks of two seeds have four equally likely samples each: all 16 means by hand."""
    drawn = stratified_bootstrap(
        np.array([[0.0, 1.0], [10.0, 14.0]]), lambda x: x.mean((1, 2)), repetitions=200_000
    )
    means = [
        np.mean([a, b, c, d]) for a in (0, 1) for b in (0, 1) for c in (10, 14) for d in (10, 14)
    ]
    np.testing.assert_allclose(drawn, np.percentile(means, [2.5, 97.5], method="inverted_cdf"))


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        x = rng.normal([[0.0], [5.0], [10.0]], [[1.0], [2.0], [3.0]], (3, 30))
        low, high = stratified_bootstrap(x, lambda x: x.mean((1, 2)), 1000, seed=trial)
        covered += low <= 5.0 <= high
    assert 0.89 <= covered / 200 <= 0.99
