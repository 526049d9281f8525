"""Every setting does something, or is refused: found by tracing, not from a list.

Each setting is changed in programs of a toy. Either the traced program (its operations, constants
and shapes) is then another one, or `load` refuses the change.
"""

import copy
import functools
import hashlib
from typing import Any

import jax
import numpy as np
import pytest

from fpmd_mjx.config import rules
from fpmd_mjx.config.schema import ALGORITHMS, Config, ConfigError
from fpmd_mjx.program import assemble, observed

from ..toy import Corridor, Sketch, tiny_config

PROGRAMS: dict[str, tuple[str, ...]] = {
    "fpmd_m": ("algorithm=fpmd_m", "algorithm.weights=normalized", "critic.kind=scalar"),
    "fpmd_r": (
        "algorithm=fpmd_r",
        "algorithm.flow_steps=3",
        "algorithm.weights=submission",
        "critic.kind=hl_gauss",
        "critic.bins=11",
    ),
    "fpmd_m_plus": ("algorithm=fpmd_m_plus", "critic.kind=scalar"),
    "fpmd_r_plus": ("algorithm=fpmd_r_plus", "critic.kind=scalar"),
    "pixels": ("algorithm=fpmd_m", "task.obs=pixels", "pixels.size=20", "pixels.frames=2",
               "pixels.channels=4", "pixels.trunk=8", "pixels.shift=1"),
}  # fmt: skip

ANOTHER: dict[Any, Any] = {
    "normalized": "scaled", "submission": "scaled", "scalar": "hl_gauss", "hl_gauss": "scalar",
    "relu": "silu", "float32": "bfloat16", "min": "mean", None: 1.0,
}  # fmt: skip

ELSEWHERE = {
    "algorithm.name",  # chooses the program itself
    "pixels.camera", "pixels.shadows", "pixels.skybox", "pixels.textures",  # of the renderer
    "learn.normalize_obs",  # of vectors alone; a rule of its own
}  # fmt: skip
"""Settings that the toy's programs cannot show; other tests do."""


def fingerprint(config: Config) -> str:
    """Of all that the program of `config` is traced to."""
    env: Any = Corridor()
    if config.task.obs == "pixels":
        from envs.render.pixels import PixelEnv

        env = PixelEnv(env, Sketch(config.pixels.size, env.FAR), config.pixels.frames)
    else:
        env = observed(config, env)
    program = assemble(config, env)
    state = program.traced_init.out_info
    closed = [program.traced_init.jaxpr, jax.make_jaxpr(program.train_epoch)(state)]
    text = hashlib.sha256()
    for each in closed:
        text.update(str(each).encode())
        for constant in each.consts:
            text.update(np.asarray(jax.tree.leaves(constant)[0]).tobytes())
    return text.hexdigest()


@functools.cache
def base(name: str) -> tuple[Config, str]:
    config = tiny_config(*PROGRAMS[name])
    return config, fingerprint(config)


def another(now: Any) -> Any:
    if isinstance(now, bool):
        return not now
    if isinstance(now, int):
        return now + 1 if now < 64 else 2 * now  # the replay is rounded to whole rows
    if isinstance(now, float):
        return 1.25 * now if now else 0.25
    return [*now, now[-1]] if isinstance(now, list) else ANOTHER[now]


def changed(config: Config, key: str) -> Config:
    """A copy with another value, whether or not that does anything."""
    copied = copy.deepcopy(config)
    *parents, last = key.split(".")
    setattr(functools.reduce(getattr, parents, copied), last, another(rules.value(config, key)))
    return copied


def keys(name: str) -> list[str]:
    config, groups = base(name)[0], ("algorithm", "actor", "critic", "learn", "pixels")
    found = [key for key, _ in rules.settings(config) if key.split(".")[0] in groups]
    return [key for key in found if key not in ELSEWHERE]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_setting_changes_the_program_or_is_refused(name: str) -> None:
    config, unchanged = base(name)
    wrong, refused = [], set()
    for key in keys(name):
        try:
            rules.refuse_useless(config, [key])
        except ConfigError:
            refused.add(key)
        # Settings that several programs share are changed in the first of them alone, but those
        # that are refused here everywhere: a refusal must be right.
        first = next(other for other in PROGRAMS if key in keys(other) and usable(other, key))
        if key not in refused and first != name:
            continue
        same = fingerprint(changed(config, key)) == unchanged
        if same != (key in refused):
            wrong.append(key)
    assert wrong == []
    assert refused  # each program leaves something out


def usable(name: str, key: str) -> bool:
    try:
        rules.refuse_useless(base(name)[0], [key])
    except ConfigError:
        return False
    return True


def test_every_setting_is_of_use_to_some_program() -> None:
    found = {key for name in PROGRAMS for key in keys(name) if usable(name, key)}
    assert {key for name in PROGRAMS for key in keys(name)} == found
    assert {base(name)[0].algorithm.name for name in PROGRAMS} == set(ALGORITHMS)
