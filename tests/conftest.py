"""Programs that several tests share, so that each is compiled once a session."""

import ctypes
import dataclasses
import functools
import gc
import importlib.util
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from fpmd_mjx.algorithms.base import ONE_STEP, Mode
from fpmd_mjx.config.schema import Config
from fpmd_mjx.evaluation.rollout import rollout
from fpmd_mjx.program import Program, TrainState
from fpmd_mjx.run import compile as compiling
from fpmd_mjx.run import train
from fpmd_mjx.run.compile import Compiled, compile_program
from fpmd_mjx.run.display import Display
from fpmd_mjx.seeds import seed_array

from .toy import Corridor, build, tiny_config, words

EPOCHS = 8
MODES = (ONE_STEP, Mode("best_of_n"))


@pytest.fixture(autouse=True, scope="module")
def forget() -> Iterator[None]:
    """Drops what a module compiled when it ends: two processes with all of it do not fit into
    24 GiB. What `toys` and `cartpole` compiled ahead of time stays."""
    yield
    jax.clear_caches()
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # what compilers freed goes back to the system


@pytest.fixture
def sbx_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of SBX can be checked without it."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: object() if name == "sbx" else find(name)
    )


# A third of the compile time: LLVM's passes do not pay for toys.
QUICK: dict[str, Any] = {"xla_backend_optimization_level": 0}


def host(tree: Any) -> Any:
    """A copy on the host, which outlives the donation of the arrays; keys as their data."""

    def copy(x: jax.Array) -> np.ndarray:
        is_key = jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key)
        return np.array(jax.random.key_data(x) if is_key else x)

    return jax.tree.map(copy, tree)


# ------------------------------------------------------------------------------- the toy programs

VARIANTS: dict[str, tuple[Corridor, list[str]]] = {
    # An epoch is 10 vector steps, and the first 11 act at random. The ring is far larger than
    # anything else in the program.
    "plain": (
        Corridor(),
        words(
            "algorithm=fpmd_m seeds=4 num_envs=16 learn.replay=160000 warmup_steps=176 "
            "epoch_steps=160 "
            "learn.updates=2 learn.collect_steps=1 learn.n_step=1 algorithm.policy_delay=2"
        ),
    ),
    "rich": (
        Corridor(breaks=True),
        words(
            "algorithm=fpmd_r seeds=2 num_envs=5 learn.replay=125 epoch_steps=50 "
            "critic.kind=hl_gauss "
            "critic.bins=11 learn.dtype=bfloat16 learn.normalize_obs=true learn.n_step=3 "
            "algorithm.weights=scaled learn.updates=3 learn.collect_steps=4 algorithm.flow_steps=3 "
            "learn.reward_scale=null"
        ),
    ),
    "pixels": (
        Corridor(breaks=True),
        words(
            "algorithm=fpmd_m seeds=2 num_envs=8 learn.replay=40000 task.obs=pixels pixels.size=20 "
            "pixels.frames=2 pixels.channels=4 pixels.trunk=8 pixels.shift=1 epoch_steps=80 "
            "learn.batch=4 learn.n_step=2 algorithm.policy_delay=1"
        ),
    ),
    "repeat": (
        Corridor(),
        words(
            "algorithm=fpmd_m seeds=1 learn.replay=400 algorithm.weights=submission "
            "task.action_repeat=2 algorithm.policy_delay=1 learn.updates=1 learn.collect_steps=2"
        ),
    ),
}


@dataclass
class Toy:
    """A compiled toy program."""

    program: Program
    compiled: Compiled

    @classmethod
    def of(cls, program: Program) -> "Toy":
        """`compile_program`, compiling quickly; the evaluations at their first use."""
        state = program.traced_init.out_info
        train_epoch = jax.jit(program.train_epoch, donate_argnums=0).lower(state)

        @functools.cache
        def evaluation(mode: Mode) -> Any:
            play = functools.partial(rollout, program, mode, program.config.eval.episodes)
            return jax.jit(play, compiler_options=QUICK)

        compiled = Compiled(
            init=program.traced_init.lower().compile(QUICK),
            train_epoch=train_epoch.compile(QUICK),
            evaluations={mode: functools.partial(evaluation, mode) for mode in MODES},
            seconds=0.0,
        )
        return cls(program, compiled)

    @property
    def config(self) -> Config:
        return self.program.config

    def init(self) -> TrainState:
        return self.compiled.init(seed_array(self.config))

    def run(self, epochs: int, state: TrainState | None = None) -> tuple[TrainState, list[Any]]:
        """`epochs` epochs, from the start or from `state`, which is donated: state, metrics."""
        state, seen = self.init() if state is None else state, []
        for _ in range(epochs):
            state, metrics = self.compiled.train_epoch(state)
            seen.append(host(metrics))
        return state, seen


@pytest.fixture(scope="session")
def toys() -> Callable[[str], Toy]:
    """VARIANTS by name, compiled at first use."""

    @functools.cache
    def get(name: str) -> Toy:
        env, overrides = VARIANTS[name]
        return Toy.of(build(env, *overrides))

    return get


@pytest.fixture(scope="session")
def plain(toys: Callable[[str], Toy]) -> Toy:
    return toys("plain")


@pytest.fixture
def host_loop(
    plain: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """`train.train` of the toy `plain`, without compiling: takes what to change in its config.

    Seeds, environments and the learner are compiled in and cannot be changed.
    """
    monkeypatch.setattr(
        train, "make_program", lambda c: Program(c, plain.program.algorithm, plain.program.vector)
    )
    monkeypatch.setattr(train, "compile_program", lambda program: plain.compiled)

    def run(display: Display | None = None, **changes: Any) -> dict[str, Any]:
        config = dataclasses.replace(plain.config, runs=str(tmp_path), name="toy", **changes)
        return train.train(config, display)

    return run


# ------------------------------------------------------------------------- a run of the host loop


@dataclass
class Run:
    """A finished run of the host loop: cartpole, EPOCHS epochs, two seeds.

    traces: how often Python ran each of the program's functions; compiles: how often XLA was
    asked for each executable, after each epoch.
    """

    config: Config
    overrides: list[str]
    program: Program
    compiled: Compiled
    summary: dict[str, Any]
    traces: Counter[str]
    compiles: list[Counter[str]]

    @property
    def folder(self) -> Path:
        return self.config.folder


class Watch(Display):
    """Notes after every epoch what was compiled by then."""

    def __init__(self, compiles: Counter[str]) -> None:
        super().__init__()
        self.now = compiles
        self.seen: list[Counter[str]] = []

    def update(self, done: int, text: str) -> None:
        super().update(done, text)
        self.seen.append(self.now.copy())


@pytest.fixture(scope="session")
def cartpole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run that the resumed runs of test_resume.py must reproduce."""
    overrides = ["task=dmc/cartpole_swingup", "algorithm=fpmd_m", "seeds=2", "learn.replay=120"]
    runs = tmp_path_factory.mktemp("runs")
    config = tiny_config(*overrides, f"runs={runs}")
    assert config.epochs == EPOCHS
    traces: Counter[str] = Counter()
    compiles: Counter[str] = Counter()
    found: list[tuple[Program, Compiled]] = []

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            traces[name] += 1
            return function(*args, **kwargs)

        return call

    def keep(program: Program) -> Compiled:
        found.append((program, compile_program(program)))
        return found[-1][1]

    def listen(event: str, duration_secs: float, **kwargs: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiles[kwargs["fun_name"]] += 1

    watch = Watch(compiles)
    jax.monitoring.register_event_duration_secs_listener(listen)
    with pytest.MonkeyPatch.context() as patch, watch:
        for name in ("init", "train_epoch"):
            patch.setattr(Program, name, counted(name, getattr(Program, name)))
        patch.setattr(compiling, "rollout", counted("rollout", rollout))
        patch.setattr(train, "compile_program", keep)
        summary = train.train(config, watch)
    jax.monitoring.unregister_event_duration_listener(listen)
    [(program, compiled)] = found
    return Run(config, overrides, program, compiled, summary, traces, watch.seen)
