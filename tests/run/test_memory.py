"""The plan against what is really allocated, and its refusal."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import jax
import pytest

from fpmd_mjx.config.schema import ConfigError
from fpmd_mjx.report.text import human
from fpmd_mjx.run import memory

from ..conftest import Toy
from ..toy import tiny_config


def allocated(tree: Any) -> int:
    raw = [jax.random.key_data(x) if "key" in str(x.dtype) else x for x in jax.tree.leaves(tree)]
    return sum(x.nbytes for x in raw)


@pytest.mark.parametrize("name", ["plain", "rich", "pixels"])
def test_the_plan_is_what_init_allocates(toys: Callable[[str], Toy], name: str) -> None:
    toy = toys(name)
    planned, state = memory.plan(toy.program), toy.init()
    assert planned["replay"] == allocated(state.replay)
    assert planned["parameters"] == allocated((state.learner, state.normalizer))
    assert planned["environments"] == allocated(state.env)
    # what is not planned for is a few numbers
    rest = allocated(state) - sum(planned[x] for x in ("replay", "parameters", "environments"))
    assert 0 <= rest < 1000
    assert memory.size(state) == memory.size(jax.eval_shape(lambda: state)) == allocated(state)


def test_temporaries_are_of_the_planned_order(plain: Toy) -> None:
    planned = memory.plan(plain.program)
    found = plain.compiled.train_epoch.memory_analysis().temp_size_in_bytes
    assert 0.1 < found / (planned["batches"] + planned["activations"]) < 10


def test_the_plan_of_images_is_what_the_program_holds(toys: Callable[[str], Toy]) -> None:
    toy = toys("pixels")
    held = memory.measured(toy.compiled.train_epoch)["program"]
    assert held == pytest.approx(sum(memory.plan(toy.program).values()), rel=0.1)


PLAN = {"replay": 0, "parameters": 0, "environments": 0, "batches": 0, "activations": 0}


@pytest.mark.parametrize(
    ("purpose", "remedy"),
    [
        ("replay", r"lower learn\.replay=400,"),
        ("parameters", r"lower actor\.hidden=\[16\] or critic\.hidden=\[16\],"),
        ("environments", r"lower num_envs=4,"),
        ("batches", r"lower learn\.batch=8 or learn\.updates=\d+,"),
        ("activations", r"lower algorithm\.candidates=2 or learn\.batch=8,"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_to_lower(purpose: str, remedy: str) -> None:
    config = tiny_config("learn.replay=400", "seeds=3")
    planned = dict.fromkeys(PLAN, 2**20) | {purpose: 2**31}
    with pytest.raises(ConfigError) as caught:
        memory.check(config, planned, 2**31)
    text = str(caught.value)
    assert "needs 2.0 GiB of the device's 2.0 GiB, of which 2.0 GiB is " + purpose in text
    assert re.search(remedy, text), text
    assert text.endswith("or seeds=3.")
    assert "\n" not in text


def test_the_limit_leaves_room_for_the_allocator() -> None:
    config = tiny_config()
    memory.check(config, PLAN | {"replay": 900}, 1000)
    with pytest.raises(ConfigError):
        memory.check(config, PLAN | {"replay": 901}, 1000)


def test_a_run_that_does_not_fit_leaves_no_folder(
    host_loop: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr(memory, "limit", lambda: 1000)
    with pytest.raises(ConfigError, match=r"lower learn\.replay"):
        host_loop()
    assert list(tmp_path.iterdir()) == []


def test_the_limit_of_this_machine_is_plausible() -> None:
    assert 2**28 < memory.limit() < 2**45


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**30, "1.0 GiB"), (2**41, "2.0 TiB")],
)
def test_bytes_for_people(amount: int, text: str) -> None:
    assert human(amount) == text
    line = memory.describe({"replay": amount}, 2**40)
    assert line == f"memory: {text} of 1.0 TiB (replay {text})"


def test_the_plan_grows_with_what_it_says(plain: Toy) -> None:
    """Each remedy lowers the purpose that it is named for."""
    base = memory.plan(plain.program)
    learn = plain.config.learn
    smaller = dataclasses.replace(plain.config, learn=dataclasses.replace(learn, batch=4))
    program = dataclasses.replace(plain.program, config=smaller)
    assert memory.plan(program)["batches"] == base["batches"] / 2
