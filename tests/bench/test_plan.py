"""The grid of a benchmark, and what is refused before anything is compiled."""

import shlex
from pathlib import Path

import pytest

from fpmd_mjx.bench.plan import BENCHMARKS, make_plan
from fpmd_mjx.config import ConfigError


def test_no_benchmark_is_all_but_the_one_that_needs_a_target() -> None:
    assert make_plan([], 3).benchmarks == tuple(x for x in BENCHMARKS if x != "target")
    assert make_plan(["target=10"], 3).benchmarks == tuple(BENCHMARKS)


def test_without_a_grid_there_is_one_cell_without_a_label() -> None:
    plan = make_plan(["learn", "num_envs=8", "physics"], 3)
    assert plan.benchmarks == ("physics", "learn")
    [cell] = plan.cells
    assert (cell.label, cell.target, cell.config.num_envs) == ("", None, 8)
    assert plan.rounds == 3


def test_a_grid_has_every_combination_and_labels_say_what_differs() -> None:
    words = ["task=dmc/cheetah_run,gym/Ant-v5", "seeds=1,2", "learn.batch=32", "target=5"]
    cells = make_plan(words, 3).cells
    assert [cell.label for cell in cells] == [
        "task=dmc/cheetah_run,seeds=1",
        "task=dmc/cheetah_run,seeds=2",
        "task=gym/Ant-v5,seeds=1",
        "task=gym/Ant-v5,seeds=2",
    ]
    assert [cell.config.seeds for cell in cells] == [1, 2, 1, 2]
    assert cells[3].config.task.name == "gym/Ant-v5"
    assert {cell.target for cell in cells} == {5.0}
    assert {cell.config.learn.batch for cell in cells} == {32}


def test_the_commas_of_a_list_make_no_grid() -> None:
    cells = make_plan(["actor.hidden=[8,8],[16]", "critic.hidden=[4,4]"], 3).cells
    assert [cell.config.actor.hidden for cell in cells] == [[8, 8], [16]]
    assert cells[0].label == "actor.hidden=[8,8]"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["progam"], "benchmark progam is unknown: choose one of program"),
        (["target"], "add target=RETURN"),
        (["target=high"], "target=high is not possible: give a finite return"),
        (["target=nan"], "target=nan is not possible"),
        (["seeds=1,1"], "seeds=1,1 has a value twice"),
        (["seeds=1", "seeds=2"], "give all its values as seeds=a,b"),
        (["learn.batch=8,0"], "learn.batch=0 is not possible"),
        (["learn.batsh=8"], "learn.batsh=8 is unknown"),
        (["=8"], "'=8' is not an override"),
    ],
)
def test_a_mistake_is_named(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        make_plan(words, 3)


def test_at_least_one_round() -> None:
    with pytest.raises(ConfigError, match="--rounds 0 is not possible"):
        make_plan([], 0)


def test_the_examples_of_the_docs_are_possible() -> None:
    text = (Path(__file__).parents[2] / "docs" / "performance.md").read_text()
    lines = [line.strip() for line in text.splitlines() if line.startswith("    fpmd bench ")]
    examples = [shlex.split(line)[2:] for line in lines if "[" not in line]
    assert len(examples) == 4
    for words in examples:
        if "--out" in words:
            del words[words.index("--out") :]
        assert make_plan(words, 1).cells
