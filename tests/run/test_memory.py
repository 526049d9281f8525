"""The plan against what is really allocated, and its refusal."""

import dataclasses
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import pytest

from fpmd_mjx.config.schema import ConfigError
from fpmd_mjx.report.text import human
from fpmd_mjx.run import memory

from ..conftest import QUICK, Toy
from ..toy import Corridor, build, tiny_config


def allocated(tree: Any) -> int:
    raw = [jax.random.key_data(x) if "key" in str(x.dtype) else x for x in jax.tree.leaves(tree)]
    return sum(x.nbytes for x in raw)


@pytest.mark.parametrize("name", ["plain", "rich", "pixels"])
def test_the_plan_is_what_init_allocates(toys: Callable[[str], Toy], name: str) -> None:
    toy = toys(name)
    planned, state = memory.plan(toy.program), toy.init()
    assert planned["replay"] == allocated(state.replay)
    assert planned["parameters"] == allocated((state.learner, state.normalizer, state.returns))
    assert planned["environments"] == allocated(state.env)
    # what is not planned for is a few numbers
    rest = allocated(state) - sum(planned[x] for x in ("replay", "parameters", "environments"))
    assert 0 <= rest < 1000
    assert memory.size(state) == memory.size(jax.eval_shape(lambda: state)) == allocated(state)


def test_temporaries_fit_the_plan_and_fill_half_of_it() -> None:
    """With networks of a size at which XLA's own few kilobytes do not matter."""
    sizes = "learn.batch=256 algorithm.candidates=16 actor.hidden=[128,128] critic.hidden=[128,128]"
    program = build(Corridor(), "learn.replay=4000", *sizes.split())
    epoch = jax.jit(program.train_epoch, donate_argnums=0).lower(program.traced_init.out_info)
    planned = memory.plan(program)
    found = memory.measured(epoch.compile(QUICK))["temporary"]
    assert found is not None
    assert 0.5 < found / (planned["batches"] + planned["activations"]) < 1


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


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V1 = "sys/fs/cgroup/memory"
NO_LIMIT_V1 = "9223372036854771712"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        # Version 2: the least of the process's own group and those around it.
        ({"own": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "4096\n"}, 4096),
        (
            {
                "own": "0::/a/b\n",
                "sys/fs/cgroup/a/b/memory.max": "8192\n",
                "sys/fs/cgroup/a/memory.max": "2048\n",
            },
            2048,
        ),
        ({"own": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n"}, None),
        # In a container with a namespace of its own, its group is the root that it sees.
        ({"own": "0::/\n", "sys/fs/cgroup/memory.max": "512\n"}, 512),
        # Version 1, and both at once.
        (
            {
                "own": "5:cpu,cpuacct:/x\n4:memory:/docker/1\n",
                f"{V1}/docker/1/memory.limit_in_bytes": "1024\n",
                f"{V1}/memory.limit_in_bytes": f"{NO_LIMIT_V1}\n",
                "sys/fs/cgroup/cpu/x/memory.max": "1\n",
            },
            1024,
        ),
        # A container of version 1 that sees its own group at the root, by a path of the host.
        (
            {
                "own": "4:memory:/docker/1\n0::/docker/1\n",
                f"{V1}/memory.limit_in_bytes": "768\n",
            },
            768,
        ),
        ({"own": "4:memory:/x\n", f"{V1}/x/memory.limit_in_bytes": NO_LIMIT_V1}, None),
        ({"own": "0::/gone\n"}, None),
        ({}, None),
    ],
)
def test_the_limit_is_that_of_the_control_groups(
    tmp_path: Path, files: dict[str, str], expected: int | None
) -> None:
    files = {name if name != "own" else "proc/self/cgroup": x for name, x in files.items()}
    assert memory.cgroup_limit(tree(tmp_path, files)) == expected


@pytest.mark.parametrize(
    ("group", "space", "expected"),
    [
        (None, resource.RLIM_INFINITY, 1000 * 4096),
        (2**20, resource.RLIM_INFINITY, 2**20),
        (2**62, resource.RLIM_INFINITY, 1000 * 4096),
        (2**20, 2**19, 2**19),
    ],
)
def test_a_cpu_has_the_least_of_all_limits(
    monkeypatch: pytest.MonkeyPatch, group: int | None, space: int, expected: int
) -> None:
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}
    monkeypatch.setattr(memory, "_device_stats", dict)
    monkeypatch.setattr(memory.os, "sysconf", sizes.__getitem__)
    monkeypatch.setattr(memory, "cgroup_limit", lambda: group)
    monkeypatch.setattr(resource, "getrlimit", lambda what: (space, resource.RLIM_INFINITY))
    assert memory.limit() == expected


def test_an_accelerator_has_a_limit_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_device_stats", lambda: {"bytes_limit": 12345})
    monkeypatch.setattr(memory, "cgroup_limit", lambda: 99)
    assert memory.limit() == 12345


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
