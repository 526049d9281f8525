"""MuJoCo Playground's registry as tasks: `make("playground/CheetahRun")`.

Playground's versions of dm_control's tasks are other tasks (Euler instead of RK4, other time steps,
few solver iterations). Results on `playground/...` do not compare with results on `dmc/...`.

The adapter calls the registry's environment. It changes the order in which XLA may do the
factorizations of a step (`physics.fixes.integration`), and the messages of MJX-Warp on stderr. It
leaves Playground's training wrappers out: they start all episodes of a simulation at the same
state, and report a time limit as a termination. The wrappers of `envs` give every episode a fresh
reset state, and distinguish truncations from terminations.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import importlib.util
import threading
import types
from collections.abc import Iterator, Mapping
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco import mjx

from .base import Env, PhysicsState, State, TaskSpec, longest_chain
from .physics.fixes.integration import step
from .physics.options import PhysicsOptions, UnsupportedModelError, check_graph_mode, resolve_impl

PREFIX = "playground/"


def names() -> list[str]:
    """Returns the names of the installed registry's tasks, sorted; none without the package."""
    if importlib.util.find_spec("mujoco_playground") is None:
        return []
    return sorted(PREFIX + name for name in _registry().ALL_ENVS)


def _registry() -> Any:
    try:
        from mujoco_playground import registry
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"tasks named {PREFIX}... need the package playground: run "
            "`pip install 'fpmd-mjx[playground]'`."
        ) from error
    return registry


# A context variable changes only in the thread that sets it: other threads keep MJX's own step.
_ours = contextvars.ContextVar("ours", default=False)
_lock = threading.Lock()
_users = 0


@contextlib.contextmanager
def _our_steps() -> Iterator[None]:
    """Playground's tasks step with `physics.fixes.integration` if this thread traces them inside.

    Playground looks `mjx` up in one module. While any thread is inside, a replacement there chooses
    the step by context. Afterwards it is MJX again.
    """
    global _users
    from mujoco_playground._src import mjx_env

    with _lock:
        if _users == 0:
            mjx_env.mjx = types.SimpleNamespace(**{**vars(mjx), "step": _step_by_context})
        _users += 1
    token = _ours.set(True)
    try:
        yield
    finally:
        _ours.reset(token)
        with _lock:
            _users -= 1
            if _users == 0:
                mjx_env.mjx = mjx


def _step_by_context(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    return step(model, data) if _ours.get() else mjx.step(model, data)


class PlaygroundEnv(Env):
    """One task of the registry.

    Actions are in [-1, 1]. If an observation has several parts, only `state` is used, which is the
    policy's. The task includes its own action repeat.

    `State.task` holds Playground's state without MJX's private fields. A step computes them again.
    On warp a whole batch shares them, so that a single environment could not reset them.
    """

    def __init__(self, name: str, **options: Unpack[PhysicsOptions]) -> None:
        """Loads a task. name: without `PREFIX`.

        Raises:
            ModuleNotFoundError: if Playground or the backend is not installed.
            UnsupportedModelError: for options that the task itself chooses, such as the backend of
                a task without this setting; for a graph mode with impl=jax; and if the task does
                not load.
            ValueError: if there is no such backend or graph mode.
        """
        graph_mode, asked = options.pop("graph_mode", None), options.pop("impl", "auto")
        check_graph_mode(graph_mode, asked)
        impl = resolve_impl(asked)
        for option, value in options.items():
            if value is not None:
                raise UnsupportedModelError(
                    f"{PREFIX}{name} decides its {option} itself: leave {option} out."
                )
        registry = _registry()
        config = registry.get_default_config(name)
        if "impl" not in config:
            for option, value in {"graph_mode": graph_mode, "impl": asked}.items():
                if value not in (None, "auto"):
                    raise UnsupportedModelError(
                        f"{PREFIX}{name} decides its impl itself, which leaves no choice of "
                        f"{option}={value!r}: leave {option} out."
                    )
        if impl == "warp":
            importlib.import_module(".physics.warp", __package__)  # switches Warp's greeting off
        try:
            with _older_names():
                self._env = registry.load(
                    name, config, {"impl": impl} if "impl" in config else None
                )
        except Exception as error:
            # Locomotion and manipulation tasks download their robots' models at their first use.
            raise UnsupportedModelError(
                f"{PREFIX}{name} could not be loaded ({type(error).__name__}: {error}). Tasks "
                "outside of its DeepMind Control Suite fetch models from the network at first use."
            ) from error
        if self._env.mjx_model.impl == mjx.Impl.WARP:
            from .physics.warp import losses_told, with_graph_mode

            # Playground has no such options. Its domain randomization also replaces this model.
            self._env._mjx_model = losses_told(with_graph_mode(self._env.mjx_model, graph_mode))
        self._repeat = int(config.get("action_repeat", 1))
        # With the task's own sizes of warp's buffers, as in its resets.
        self._template = mjx.make_data(
            self._env.mj_model,
            impl=self._env.mjx_model.impl.value,
            naconmax=config.get("naconmax"),
            njmax=config.get("njmax"),
        )
        with _our_steps():
            start = jax.eval_shape(self._env.reset, jax.ShapeDtypeStruct((2,), jnp.uint32))
        self._dtypes = jax.tree.map(lambda leaf: leaf.dtype, _kept(start))
        self.spec = TaskSpec(
            name=PREFIX + name,
            obs_size=_seen(start.obs).size,
            action_size=self._env.action_size,
            action_low=np.full(self._env.action_size, -1.0, np.float32),
            action_high=np.full(self._env.action_size, 1.0, np.float32),
            episode_steps=-(-int(config.episode_length) // self._repeat),
            control_dt=float(self._env.dt) * self._repeat,
            longest_chain=longest_chain(self._env.mj_model),
        )

    def reset(self, key: jax.Array) -> State:
        # Playground's tasks use untyped keys.
        with _our_steps():
            return self._state(self._env.reset(jax.random.key_data(key)))

    def step(self, state: State, action: jax.Array) -> State:
        from mujoco_playground import State as Theirs

        kept = dict(state.task)
        start = Theirs(data=self._template.replace(**kept.pop("data")), **kept)

        def once(theirs: Any, _: None) -> tuple[Any, jax.Array]:
            with _our_steps():
                theirs = self._env.step(theirs, action)
            # A step may return other types than a reset, or weak ones. A scan needs equal types.
            kept = self._typed(theirs)
            data = theirs.data.replace(**kept.pop("data"))
            return theirs.replace(data=data, **kept), kept["reward"]

        theirs, rewards = jax.lax.scan(once, start, None, self._repeat)
        return self._state(theirs.replace(reward=jnp.sum(rewards)))

    def _state(self, theirs: Any) -> State:
        kept = self._typed(theirs)
        data = kept["data"]
        return State(
            physics=PhysicsState(
                qpos=data["qpos"],
                qvel=data["qvel"],
                qacc_warmstart=data["qacc_warmstart"],
                act=data["act"] if data["act"].size else None,
            ),
            obs=jnp.ravel(_seen(kept["obs"])).astype(jnp.float32),
            reward=kept["reward"].astype(jnp.float32),
            terminated=kept["done"] > 0.5,
            task=kept,
        )

    def _typed(self, theirs: Any) -> dict[str, Any]:
        return jax.tree.map(
            lambda leaf, dtype: jnp.asarray(leaf, dtype), _kept(theirs), self._dtypes
        )


_naming = threading.Lock()


@contextlib.contextmanager
def _older_names() -> Iterator[None]:
    """Gives MuJoCo's method an older name, for one thread at a time. Playground 0.2 compares
    versions as strings, takes MuJoCo 3.17 for older than 3.3, and calls the method by that name."""
    with _naming:
        mujoco.MjSpec.find_body = mujoco.MjSpec.body
        try:
            yield
        finally:
            del mujoco.MjSpec.find_body


def _kept(theirs: Any) -> dict[str, Any]:
    """Returns the fields of Playground's state, with only the public ones of its `mjx.Data`."""
    fields = {field.name: getattr(theirs, field.name) for field in dataclasses.fields(theirs)}
    public = [f.name for f in dataclasses.fields(theirs.data) if not f.name.startswith("_")]
    return fields | {"data": {name: getattr(theirs.data, name) for name in public}}


def _seen(obs: Any) -> Any:
    """Returns the policy's part of an observation."""
    return obs["state"] if isinstance(obs, Mapping) else obs
