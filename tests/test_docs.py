"""Pages name what is there: links, anchors, files, modules, settings, commands.

`python -m tests.run_docs` runs the commands; here nothing is run.
"""

import functools
import importlib.util
import re
import shlex
from pathlib import Path
from urllib.parse import unquote

import pytest

from fpmd_mjx import cli
from fpmd_mjx.bench import plan
from fpmd_mjx.bench.agent import yardstick
from fpmd_mjx.bench.campaign import cells
from fpmd_mjx.config.load import RENAMED, choices, load
from fpmd_mjx.config.schema import ALGORITHMS, ConfigError
from fpmd_mjx.run.suite import load_suite

from .pages import PAGES, ROOT, Command, Program, arguments, commands, name, steps
from .run_docs import reason_not_to_run, toy

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SPAN = re.compile(r"`([^`\n]+)`")


def prose(text: str) -> str:
    """A page without its code blocks."""
    text = FENCE.sub("", text)
    return "\n".join(line for line in text.splitlines() if not line.startswith("    "))


def anchors(text: str) -> set[str]:
    """Of the headings of a page, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE):
        shown = LINK.sub(lambda link: link[0][1:].partition("]")[0], heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        number = sum(1 for each in found if re.fullmatch(rf"{re.escape(slug)}(-\d+)?", each))
        found.add(f"{slug}-{number}" if number else slug)
    return found


def broken_links(page: Path, text: str) -> list[str]:
    """The relative links of a page that lead nowhere."""
    broken = []
    for link in LINK.findall(SPAN.sub("", prose(text))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        if target.exists():
            there = text if target == page else target.read_text() if anchor else ""
            if not anchor or anchor in anchors(there):
                continue
        broken.append(link)
    return broken


def check(words: list[str]) -> None:
    """Raises what the command would say to a mistake, before it does anything."""
    if words[:2] == ["python", "-m"] and importlib.util.find_spec(words[2]) is None:
        raise ConfigError(f"there is no module {words[2]}")
    fpmd = arguments(words)
    if fpmd is None:
        return
    args = cli._arguments(fpmd)
    if args.run is cli._train:
        load(args.overrides)
    elif args.run is cli._suite:
        load_suite(args.name, args.overrides)
    elif args.run is cli._bench:
        plan.make_plan(args.words, args.rounds)
    elif args.run is cli._campaign:
        cells.load(args.name)
    elif args.run is cli._agent:
        chosen = yardstick.load(args.on, args.task, args.seeds, args.env_steps)
        yardstick.parse_settings(args.settings, chosen)
    elif args.run in (cli._eval, cli._render):
        cli._check_stored_policy(args)


@functools.cache
def keys() -> set[str]:
    """All settings, and the groups that they are in."""
    found: set[str] = set()

    def add(node: object, prefix: str) -> None:
        for key in getattr(node, "__dataclass_fields__", {}):
            found.add(prefix + key)
            add(getattr(node, key, None), f"{prefix}{key}.")

    for algorithm in ALGORITHMS:
        add(load([f"algorithm={algorithm}"]), "")
    return found


def unknown_settings(text: str) -> list[str]:
    """Settings that a page names and that do not exist, such as those of earlier versions."""
    known = keys()
    groups = {key.partition(".")[0] for key in known if "." in key}
    earlier = {key.partition(".")[0] for key in RENAMED}
    pattern = rf"({'|'.join(sorted(groups | earlier))})\.[a-z_.]+"
    named = [
        word.partition("=")[0]
        for span in SPAN.findall(prose(text))
        for word in span.split()
        if re.fullmatch(pattern, word.partition("=")[0]) and not word.endswith((".py", ".yaml"))
    ]
    # The rates of `fpmd bench` are named after parts of the program, one of which is a group, too.
    return [key for key in named if key not in known and not key.endswith("_per_second")]


def missing_files(text: str) -> list[str]:
    """Paths that a page names and that are neither in the repository nor in the trainer."""
    path = r"[\w.\-]+(?:/[\w.\-]+)*/(?:[\w\-]+\.(?:py|yaml))?"
    elsewhere = ("runs/", "videos/", "gym/", "dmc/", "playground/", "mjx/", "mujoco")
    named = [span for span in SPAN.findall(prose(text)) if re.fullmatch(path, span)]
    return [
        each
        for each in named
        if not each.startswith(elsewhere)
        and not any((root / each).exists() for root in (ROOT, ROOT / "fpmd_mjx"))
    ]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page, page.read_text()) == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_settings_and_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    assert unknown_settings(text) == []
    assert missing_files(text) == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_modules_that_are_named_exist(page: Path) -> None:
    for module in re.findall(r"python -m ([\w.]+)", page.read_text()):
        assert importlib.util.find_spec(module), module


load_once = functools.cache(lambda *words: load(list(words)))


@pytest.fixture
def loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands share most of the settings that they load."""
    monkeypatch.setattr(plan.configs, "load", lambda words: load_once(*words))


@pytest.mark.usefixtures("loaded_once", "sbx_installed")
@pytest.mark.parametrize("page", [x for x in PAGES if commands(x.read_text())], ids=name)
def test_commands_are_possible(page: Path) -> None:
    for words in commands(page.read_text()):
        for each in (words, toy(words)):
            try:
                check(each)
            except ConfigError as error:
                pytest.fail(f"{shlex.join(each)}: {error}")
            except SystemExit as end:
                if end.code != 0:  # as --help has
                    pytest.fail(shlex.join(each))


def test_the_layout_is_that_of_the_repository() -> None:
    [tree] = re.findall(r"## Layout\n\n((?:    .*\n)+)", (ROOT / "README.md").read_text())
    folder = ROOT
    for line in tree.splitlines():
        path = line.split()[0]
        folder = folder if line.startswith("      ") else ROOT / path
        assert (folder if folder == ROOT / path else folder / path).exists(), line


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    linked = {(ROOT / "docs" / link.partition("#")[0]).resolve() for link in LINK.findall(index)}
    pages = {p for p in PAGES if p.parent.name in ("docs", "howto") and p.name != "README.md"}
    assert pages <= linked


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("fpmd train actor=fpmd_m", "actor is now called algorithm"),
        ("fpmd bench learn improvement.candidates=8", "now called algorithm.candidates"),
        ("fpmd bench speed", "benchmark speed is unknown"),
        ("fpmd suite quik", "suite quik is unknown"),
        ("./run.sh quik", "suite quik is unknown"),
        ("fpmd eval runs/a --epoch worst", "--epoch=worst is not possible"),
        ("python -m envs.tune", "no module envs.tune"),
        ("fpmd bench campaign cpu", "campaign cpu is unknown"),
    ],
)
def test_a_stale_command_is_found(words: str, message: str) -> None:
    [found] = commands(f"```sh\n{words}   # a comment\n```\n")
    with pytest.raises(ConfigError, match=re.escape(message)):
        check(found)


def test_steps_of_a_page_are_in_order() -> None:
    text = (
        "```sh\nls   # a comment\nfpmd tasks\n```\n\n    a tree's file\n    ./run.sh quick\n\n"
        "<!-- a.py -->\n```python\nimport a\n```\n\n```python\n1 + 1\n```\n"
    )
    assert list(steps(text)) == [
        Command(["ls"], ours=False),
        Command(["fpmd", "tasks"], ours=True),
        Command(["./run.sh", "quick"], ours=True),
        Program("import a\n", "a.py"),
        Program("1 + 1\n", ""),
    ]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("fpmd train actor.hidden=[128,64] seeds=2", "seeds=2 actor.hidden=[16]"),
        ("fpmd train preset=cpu_pixels", "preset=cpu_pixels pixels.size=20"),
        ("./run.sh quick", "quick env_steps=64"),
        ("fpmd bench physics num_envs=8,32,128 task=a,b,c", "task=a,b num_envs=4,8 --rounds 1"),
        ("fpmd bench peers-return --rounds 5", "target=0 peer=sac,ppo --rounds 1"),
        ("fpmd bench peers-return task=dmc/cheetah_run", "target=0 peer=sbx_sac --rounds 1"),
        ("./run.sh fpmd eval runs/a --episodes 20", "runs/a --episodes 1"),
        ("python a.py render runs/a -o a.mp4", "a.mp4 --episodes 1 --size 64"),
        ("./run.sh gpu --minutes 15", "--minutes 15 --rehearse --cell ceilings"),
    ],
)
def test_commands_have_a_toy_size(words: str, parts: str) -> None:
    found = iter(toy(words.split()))
    assert all(part in found for part in parts.split())  # in this order


@pytest.mark.parametrize("words", ["./run.sh setup", "fpmd report a.json", "fpmd train --help"])
def test_other_commands_run_as_they_are(words: str) -> None:
    assert toy(words.split()) == words.split()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_step_is_run_or_has_a_reason(page: Path) -> None:
    for step in steps(page.read_text()):
        assert isinstance(reason_not_to_run(step), str)


def test_reasons() -> None:
    assert reason_not_to_run(Program("1 + 1\n", "")) == "a fragment"
    assert reason_not_to_run(Command(["pip", "install", "a"], ours=False)) == "installs packages"
    assert reason_not_to_run(Command(["fpmd", "tasks"], ours=True)) == ""


def test_what_leads_nowhere_is_found() -> None:
    text = "# A page\n\n[a](#a-page) [b](#b) [c](docs/none.md) [d](docs/fpmd.md#none) `[e](none)`\n"
    assert broken_links(ROOT / "README.md", text) == ["#b", "docs/none.md", "docs/fpmd.md#none"]
    text = "`learn.batch=8 noise.scale=1` `actor.time_power` `actor.lr` `actor/one_step_error`"
    assert unknown_settings(text) == ["noise.scale", "actor.time_power"]
    text = "`program.py` `flows/rectified.py` `actors/fpmd.py` `configs/actor/` `configs/task/`"
    assert missing_files(text) == ["actors/fpmd.py", "configs/actor/"]


def test_the_presets_of_the_reference_are_all_there_are() -> None:
    [table] = re.findall(r"## Presets\n\n((?:\|.*\n)+)", (ROOT / "docs/settings.md").read_text())
    first = [line.split("|")[1] for line in table.splitlines()[2:]]
    assert sorted(SPAN.findall(" ".join(first))) == choices("preset")
