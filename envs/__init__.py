"""Exact MJX ports of gymnasium's and dm_control's MuJoCo tasks, and their originals.

env = envs.make("dmc/cartpole_swingup")
states = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 64))
states = jax.jit(jax.vmap(env.step))(states, actions)  # actions: (64, env.spec.action_size)
"""

from .base import Env, State, TaskSpec
from .originals import RealEnv, make_real
from .physics.options import UnsupportedModelError
from .registry import UnknownTaskError, has_original, make, register, tasks

__all__ = [
    "Env",
    "RealEnv",
    "State",
    "TaskSpec",
    "UnknownTaskError",
    "UnsupportedModelError",
    "has_original",
    "make",
    "make_real",
    "register",
    "tasks",
]
