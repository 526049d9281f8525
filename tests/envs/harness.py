"""What the environment tests share.

A port is a model on MJX and a task around it, and the two are tested apart, because compiling MJX
takes up to a minute a model, and a task next to nothing:

- `on_c(name)`, for every task: the port with C MuJoCo in place of MJX. What is left to differ from
  the original is the task: observation, reward, ends, starts.
- `load(name)`, for SAMPLE: the port as it is. What is left to differ is MJX.

`fpmd tasks --parity` measures every task as it is, and docs/parity.md holds its results.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import envs
from envs.devtools.parity.on_c import on_c as put_on_c
from envs.devtools.parity.port import Port
from envs.originals import RealEnv

SAMPLE = [
    "gym/InvertedPendulum-v5",
    "gym/Reacher-v5",
    "gym/HalfCheetah-v5",
    "dmc/cartpole_swingup",
    "dmc/cheetah_run",
]
"""Tasks whose models are compiled in every run of the tests: Runge-Kutta and Euler integration,
pyramidal contacts, joint limits and springs, sensors; few bodies, for the time it takes."""


@dataclasses.dataclass(frozen=True)
class Task:
    """A port and its original."""

    port: Port
    real: RealEnv

    @property
    def env(self) -> Any:
        return self.port.env


@functools.cache
def make(name: str) -> Any:
    """Builds a port, once a session."""
    return envs.make(name)


@functools.cache
def make_real(name: str) -> RealEnv:
    """Builds an original, once a session."""
    return envs.make_real(name)


@functools.cache
def load(name: str) -> Task:
    """Returns the port as it is; its functions compile at their first call."""
    return Task(Port.of(make(name)), make_real(name))


@functools.cache
def on_c(name: str) -> Task:
    """Returns the port with C MuJoCo in place of MJX."""
    return Task(Port.of(put_on_c(make(name))), make_real(name))
