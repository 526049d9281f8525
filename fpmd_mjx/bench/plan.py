"""The plan of `fpmd bench`: its benchmarks, and the cells of a grid of settings."""

import difflib
import importlib.util
import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from fpmd_mjx.config import load as configs
from fpmd_mjx.config.schema import Config, ConfigError

BENCHMARKS = {
    "physics": "steps of the environments with random actions",
    "collect": "acting, stepping and insertion into the replay",
    "learn": "sampling and updates",
    "program": "the whole of a training epoch",
    "floor": "the arithmetic and bytes of an update and a vector step, and the least they can take",
    "latency": "choosing an action: each evaluation mode, a Gaussian and a diffusion policy",
    "ceilings": "the device's largest products and copies, and what a kernel and a wait cost",
    "profile": "the kernels of a few iterations, or of part=collect or part=learn of them",
    "startup": "from the command to training, and compilation, with an empty and a full cache",
    "memory": "what a training epoch holds, against the plan",
    "kernels": "what an H200 launches for an update and a vector step; needs no GPU",
    "check": "a run, continued and scored, and an epoch run twice: does the program work here",
    "curve": "training to the end of the run: returns of every seed; limit=SECONDS ends it before",
    "target": "training until the one_step return of target=RETURN, for limit=SECONDS at most",
    "peers-speed": "env steps per second beside brax; peer=sac (equal settings), sac_tuned, ppo",
    "peers-return": "training until target=RETURN, then brax (playground/) or SBX (dmc/ and gym/)",
}

NAMED_ONLY = ("ceilings", "kernels", "profile", "check", "curve")
"""Benchmarks that run only by name: they look at the device or the compiled program, or train."""


@dataclass(frozen=True)
class Peers:
    """Peers of a benchmark, and settings of it, chosen so that the peers can have them.

    Attributes:
        families: prefixes of the names of the tasks that they train on.
        modules: those that they need.
        extra: the extra of the package that installs these.
        defaults: settings that a command can change.
        fixed: settings that it cannot.
        varied: defaults of the keys whose values are sides of one comparison instead of cells of
            the grid. One of these is `peer`, whose values must be among its defaults.
    """

    families: tuple[str, ...]
    modules: tuple[str, ...]
    extra: str
    defaults: tuple[str, ...]
    fixed: tuple[str, ...]
    varied: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        return _axes(list(self.varied))["peer"]

    @property
    def tasks(self) -> str:
        """Their tasks, for a message."""
        return f"tasks of {' and '.join(self.families)}"


PROFILED = ("collect", "learn", "program")
PEER_DIVISORS = (1, 2, 4, 8, 16, 32, 64, 128)
"""Divisors of the numbers of environments and of the batches in Playground's tuned settings. SAC
has 128 environments there, and PPO 2048."""

PEERS = {
    "peers-speed": (
        Peers(
            families=("playground/",),
            modules=("brax", "mujoco_playground"),
            extra="peers",
            defaults=(
                "task=playground/CartpoleSwingup,playground/CheetahRun,playground/WalkerWalk",
                "task.impl=auto",
                "preset=paper",
                "num_envs=64",
                "warmup_steps=1024",
                "env_steps=1099511627776",  # no end
                "epoch_steps=16384",
                "actor.hidden=[256,256]",
                "actor.layer_norm=false",
                "learn.batch=256",
                "learn.updates=2",
                "learn.replay=1000000",
                "learn.normalize_obs=true",
            ),
            fixed=(
                "seeds=1",
                "task.graph_mode=null",  # brax's side has MJX's own
                "task.action_repeat=1",
                "actor.activation=relu",
                "critic.kind=scalar",
                "critic.activation=relu",
                "critic.hidden=${actor.hidden}",
                "critic.layer_norm=${actor.layer_norm}",
                "learn.n_step=1",
                "learn.collect_steps=1",
                "learn.dtype=float32",
            ),
            varied=(
                "peer=sac,sac_tuned,ppo",
                "algorithm=fpmd_m",
                "algorithm.candidates=1,8,32",
                "algorithm.policy_delay=2,1",  # as released, and as SAC learns
            ),
        ),
    ),
    "peers-return": (
        Peers(
            families=("playground/",),
            modules=("brax", "mujoco_playground"),
            extra="peers",
            defaults=(
                "task=playground/CheetahRun",
                "task.impl=auto",
                "preset=fast",
                "algorithm=fpmd_m",
                "eval.episodes=128",  # as many as brax's
            ),
            fixed=("seeds=1", "task.graph_mode=null"),
            varied=("peer=sac,ppo",),
        ),
        Peers(
            families=("dmc/", "gym/"),
            modules=("sbx",),
            extra="sbx",
            defaults=("preset=cpu", "algorithm=fpmd_m"),
            fixed=("seeds=1", "task.obs=state", "task.action_repeat=1", "peer_divisor=1"),
            varied=("peer=sbx_sac,sbx_tqc,sbx_crossq",),
        ),
    ),
}
"""The peers of each benchmark against peers. The first are those of a command without a task."""


@dataclass(frozen=True)
class Cell:
    """One point of the grid.

    Attributes:
        label: the settings that differ between cells, such as `seeds=1,num_envs=64`.
        config: of its runs.
        overrides: the `key=value` that make its config.
        target: the return that `target` and `peers-return` train to.
        limit: wall seconds after which `target`, `curve` and `peers-return` end.
        variants: further overrides of each side that `peers-speed` compares.
        peers: names of the other sides, in the benchmarks against peers.
        peer_divisor: divisor of the tuned peers' sizes.
        modes: evaluation modes of `target` and `curve`; the target is a return in the first one.
        whole: whether `curve` ends as soon as its pace shows that it will exceed its limit.
        part: the part that `profile` runs, one of `PROFILED`.
    """

    label: str
    config: Config
    overrides: tuple[str, ...] = ()
    target: float | None = None
    limit: float | None = None
    variants: tuple[tuple[str, ...], ...] = ()
    peers: tuple[str, ...] = ()
    peer_divisor: int = 1
    modes: tuple[str, ...] = ("one_step",)
    whole: bool = False
    part: str = "program"


@dataclass(frozen=True)
class Plan:
    """The benchmarks to measure, and how.

    benchmarks: names in `BENCHMARKS`; cells: in the order of the grid; rounds: repetitions of each
    measurement; empty_caches: whether `target`, `curve`, `peers-speed` and `peers-return` start
    with empty compile caches instead of the user's.
    """

    benchmarks: tuple[str, ...]
    cells: tuple[Cell, ...]
    rounds: int
    empty_caches: bool


def make_plan(words: list[str], rounds: int, empty_caches: bool = True) -> Plan:
    """The plan of a command.

    words: benchmarks and `key=value[,value...]` in any order. Without a benchmark: all that apply,
    but none of `PEERS` and `NAMED_ONLY`. rounds, empty_caches: as of a `Plan`.

    Raises ConfigError for an unknown or impossible word, before anything runs.
    """
    if rounds < 1:
        raise ConfigError(f"--rounds {rounds} is not possible: give at least 1.")
    overrides = [word for word in words if "=" in word]
    named = [word for word in words if "=" not in word]
    if "profile" not in named and any(_key(word) == "part" for word in overrides):
        raise ConfigError("part=NAME is for benchmark profile: add profile, or leave part out.")
    for name in named:
        if name not in BENCHMARKS:
            close = difflib.get_close_matches(name, BENCHMARKS) or BENCHMARKS
            raise ConfigError(f"benchmark {name} is unknown: choose one of {', '.join(close)}.")
    varied: list[str] = []
    if not any(name in PEERS for name in named):
        for key in map(_key, overrides):
            if key in ("peer", "peer_divisor"):
                raise ConfigError(
                    f"{key} is for benchmarks {' and '.join(PEERS)}: name one, or leave {key} out."
                )
    for name in named:
        if name in PEERS:
            overrides, varied = _against_peers(name, named, overrides)
    cells = tuple(_cells(overrides, varied))
    has_target = cells[0].target is not None
    for name in ("target", "peers-return"):
        if name in named and not has_target:
            raise ConfigError(f"benchmark {name} needs a return to reach: add target=RETURN.")
    if cells[0].limit is not None and not has_target and "curve" not in named:
        raise ConfigError("limit=SECONDS is for training: add target=RETURN, or benchmark curve.")
    if any(cell.whole for cell in cells) and (cells[0].limit is None or "curve" not in named):
        raise ConfigError(
            "whole=true is for benchmark curve with limit=SECONDS: add what is missing."
        )
    if any(cell.modes != ("one_step",) for cell in cells) and not {"curve", "target"} & set(named):
        raise ConfigError("modes=[...] is for benchmarks curve and target: add one of them.")
    default = [name for name in BENCHMARKS if name not in (*PEERS, *NAMED_ONLY)]
    if not has_target:
        default.remove("target")
    benchmarks = tuple(name for name in BENCHMARKS if name in (named or default))
    return Plan(benchmarks, cells, rounds, empty_caches)


def _against_peers(
    name: str, named: list[str], overrides: list[str]
) -> tuple[list[str], list[str]]:
    """`overrides` added to the settings of a benchmark in `PEERS`: the grid's, and the varied."""
    if len(set(named)) > 1:
        raise ConfigError(f"benchmark {name} has settings of its own: measure it alone.")
    peers = peers_of(name, overrides)
    if not all(map(importlib.util.find_spec, peers.modules)):
        raise ConfigError(
            f"benchmark {name} needs {' and '.join(peers.modules)} for {peers.tasks}: "
            f"run `pip install 'fpmd-mjx[{peers.extra}]'` as docs/howto/compare-with-peers.md says."
        )
    chosen = {_key(override) for override in overrides}
    for key in map(_key, peers.fixed):
        if key in chosen:
            raise ConfigError(f"benchmark {name} chooses {key} itself: leave it out.")
    defaults = (*peers.defaults, *peers.varied)
    overrides = [*(x for x in defaults if _key(x) not in chosen), *overrides]
    varies = [_key(x) for x in peers.varied]
    grid = [x for x in overrides if _key(x) not in varies]
    varied = [x for key in varies for x in overrides if _key(x) == key]
    return [*grid, *peers.fixed], varied


def peers_of(name: str, overrides: list[str]) -> Peers:
    """The peers that train on the tasks of a command. Raises ConfigError if its peers do not."""
    words = [x for x in overrides if _key(x) in ("task", "peer")]
    axes = _axes(words)
    found = PEERS[name][0]
    if "task" in axes:
        of_all = [x for x in PEERS[name] if all(t.startswith(x.families) for t in axes["task"])]
        if not of_all:
            kinds = ", or ".join(x.tasks for x in PEERS[name])
            raise ConfigError(
                f"task={','.join(axes['task'])} is not possible with {name}: give {kinds}."
            )
        [found] = of_all
    for peer in axes.get("peer", ()):
        if peer in found.names:
            continue
        known = ", ".join(found.names)
        for other in PEERS[name]:
            if peer in other.names:
                raise ConfigError(
                    f"peer={peer} trains on {other.tasks}: give one as task=NAME, or choose among "
                    f"{known}."
                )
        raise ConfigError(f"peer={peer} is unknown: choose among {known}.")
    return found


def _key(override: str) -> str:
    return override.partition("=")[0]


def _cells(overrides: list[str], varied: list[str]) -> list[Cell]:
    axes, sides = _axes(overrides), _axes(varied)
    peers = tuple(sides.pop("peer", ()))
    variants = tuple(_points(sides)) if sides else ()
    cells = []
    for words in _points(axes):
        chosen = dict(word.split("=", 1) for word in words)
        label = ",".join(f"{key}={chosen[key]}" for key in axes if len(axes[key]) > 1)
        target = _number("target", chosen.pop("target")) if "target" in chosen else None
        limit = _seconds("limit", chosen.pop("limit")) if "limit" in chosen else None
        divisor = _divisor(chosen.pop("peer_divisor", "1"))
        part = chosen.pop("part", "program")
        if part not in PROFILED:
            known = ", ".join(PROFILED)
            raise ConfigError(f"part={part} is unknown: choose one of {known}.")
        modes = tuple(chosen.pop("modes", "one_step").strip("[]").split(","))
        whole = chosen.pop("whole", "false")
        if whole not in ("true", "false"):
            raise ConfigError(f"whole={whole} is not possible: give true or false.")
        words = tuple(f"{key}={value}" for key, value in chosen.items())
        for variant in variants:
            configs.load([*words, *variant])  # raises
        cells.append(
            Cell(
                label,
                configs.load(list(words)),
                words,
                target=target,
                limit=limit,
                variants=variants,
                peers=peers,
                peer_divisor=divisor,
                part=part,
                modes=modes,
                whole=whole == "true",
            )
        )
    return cells


def _axes(overrides: list[str]) -> dict[str, list[str]]:
    """The values of each key."""
    axes: dict[str, list[str]] = {}
    for override in overrides:
        key, _, values = override.partition("=")
        if key in axes:
            raise ConfigError(f"{override} sets {key} again: give all its values as {key}=a,b.")
        axes[key] = re.split(r",(?![^\[]*\])", values)  # not at the commas of a list
        if len(set(axes[key])) < len(axes[key]):
            raise ConfigError(f"{override} has a value twice: give each once.")
    return axes


def _points(axes: dict[str, list[str]]) -> Iterator[tuple[str, ...]]:
    """Every combination of one value for each key, as overrides."""
    for point in itertools.product(*axes.values()):
        yield tuple(f"{key}={value}" for key, value in zip(axes, point, strict=True))


def _divisor(text: str) -> int:
    if text not in map(str, PEER_DIVISORS):
        raise ConfigError(
            f"peer_divisor={text} is not possible: choose one of "
            f"{', '.join(map(str, PEER_DIVISORS))}."
        )
    return int(text)


def _number(key: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"{key}={text} is not possible: give a finite number.")
    return value


def _seconds(key: str, text: str) -> float:
    value = _number(key, text)
    if value <= 0:
        raise ConfigError(f"{key}={text} is not possible: give a number above 0.")
    return value
