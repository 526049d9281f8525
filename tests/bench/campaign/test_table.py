"""Results as Markdown."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from fpmd_mjx.bench.campaign import cells, table
from fpmd_mjx.bench.campaign.cells import Campaign
from fpmd_mjx.bench.campaign.store import Record, Store

from .test_run import CARD, cell


def record(name: str, metrics: dict[str, Any], status: Any = "measured") -> Record:
    reason = None if status == "measured" else "it broke"
    results = [{"cells": [{"label": "", "metrics": metrics}]}]
    return Record(name, status, reason, "p", "fpmd bench", CARD, 3.0, results=results)


ROOT = Path(__file__).parents[3]

CAMPAIGN = Campaign(
    "gpu",
    "",
    (
        cell("a", figures={"rate": "x.rate", "other": "x.other"}, title="A"),
        cell("b", figures={"return": "c.seed_*"}, title="B"),
    ),
    readme=("a",),
)


def test_without_a_result_it_says_so(tmp_path: Path) -> None:
    assert table.render(CAMPAIGN, tmp_path).splitlines() == [
        "| measurement | figure | a GPU |",
        "|---|---|---:|",
        "| A | rate | not measured |",
        "| B | return | not measured |",
        "",
    ]


def test_a_column_a_card_a_row_a_figure(tmp_path: Path) -> None:
    one, two = Store(tmp_path / "card-1"), Store(tmp_path / "card-2")
    one.write(record("a", {"x.rate": {"q1": 1, "median": 183456.7, "q3": 2}, "x.other": 0.914}))
    one.write(record("b", {f"c.seed_{i}": 100.0 + i for i in range(3)}))
    two.write(record("a", {"x.rate": None}))
    two.write(record("b", {"c.seed_0": 90.0}, "partial"))
    lines = table.render(CAMPAIGN, tmp_path).splitlines()
    assert lines[0] == "| measurement | figure | a card | a card |"
    assert lines[2] == "| A | rate | 183,000 | - |"
    assert lines[3] == "|  | other | 0.914 | not measured |"
    # 101 +- 4.303 * 1 / sqrt(3)
    assert lines[4] == "| B | return | 101 [99, 103], 3 seeds | 90, 1 seed (in part) |"
    assert "- a card, driver 1, jax 2, mujoco-mjx 3, commit c: a, b." in lines
    assert "- b, partial: it broke." in lines
    assert len(table.render(CAMPAIGN, tmp_path, readme=True).splitlines()) == 4
    toy = dataclasses.replace(CAMPAIGN, toy=True)
    assert table.render(toy, tmp_path).startswith("A rehearsal: with toy sizes, these figures mean")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (1.0, "1"),
        (42.0, "42"),
        (0.914, "0.914"),
        (0.0123, "0.0123"),
        (3.14159, "3.14"),
        (42.35, "42.4"),
        (470.4, "470"),
        (999.9, "1,000"),
        (3987.0, "3,990"),
        (183456.7, "183,000"),
        (1.834e6, "1.83 M"),
        (7.9e14, "790 T"),
        (4.3e12, "4.3 T"),
        (4.23e-6, "4.23 µ"),
        (2.5e-3, "2.5 m"),
        (float("nan"), "-"),
    ],
)
def test_numbers_have_three_digits(value: float, shown: str) -> None:
    assert table.quantity(value) == shown


def test_a_block_of_a_page_is_replaced_and_nothing_else() -> None:
    page = "a\n<!-- x -->\nold\n<!-- end -->\nb\n<!-- y -->\nkept\n<!-- end -->\n"
    assert table.block(page, "x", "new\n") == page.replace("old", "new")
    with pytest.raises(ValueError, match="no block <!-- z -->"):
        table.block(page, "z", "")


@pytest.mark.parametrize("name", table.PAGES)
def test_pages_show_what_is_measured(name: str) -> None:
    """`fpmd bench campaign --table` mends what this finds."""
    page = (ROOT / name).read_text()
    shown = table.render(cells.load("gpu"), ROOT / "benchmarks" / "gpu", table.PAGES[name])
    assert table.block(page, table.BLOCK, shown) == page


def test_the_table_is_written_into_every_page(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for name in table.PAGES:
        (tmp_path / name).write_text(f"# A\n<!-- {table.BLOCK} -->\nold\n<!-- end -->\nB\n")
    Store(tmp_path / "benchmarks/gpu/card").write(record("a", {"x.rate": 7.0}))
    table.write_pages(CAMPAIGN, tmp_path)
    readme, page = ((tmp_path / name).read_text() for name in table.PAGES)
    assert "| A | rate | 7 |" in readme
    assert "| A | rate | 7 |" in page
    assert "commit c" in page
    assert "commit c" not in readme
    assert "old" not in readme
    (tmp_path / "README.md").unlink()
    table.write_pages(CAMPAIGN, tmp_path)
    assert not (tmp_path / "README.md").exists()
