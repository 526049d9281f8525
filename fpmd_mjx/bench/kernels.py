"""The kernels that an NVIDIA H200 would launch: the program compiled for one, with JAX's CUDA
plugin and without a GPU."""

import importlib.util
import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from fpmd_mjx.bench import fresh
from fpmd_mjx.bench.plan import Cell
from fpmd_mjx.config import load as configs
from fpmd_mjx.config.schema import ConfigError
from fpmd_mjx.data.replay import Batch
from fpmd_mjx.program import Program, make_program

H200 = """
gpu_device_info {
  name: "NVIDIA H200"
  device_vendor: "NVIDIA Corporation"
  cuda_compute_capability { major: 9 }
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  l2_cache_size: 52428800
  memory_bandwidth: 4800000000000
  device_memory_size: 151397597184
  driver_version: "13.0.0"
  runtime_version: "13.0.0"
  compile_time_toolkit_version: "13.0.0"
  dnn_version: "9.10.0"
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
device_description_str: "NVIDIA H200"
"""
"""XLA's description of an H200, with NVIDIA's figures for compute capability 9.0 and its memory."""

NO_KERNELS = frozenset(
    [
        *("after-all", "bitcast", "call", "conditional", "constant", "get-tuple-element"),
        *("fusion-done", "parameter", "tuple", "while"),
    ]
)
"""XLA's instructions that do no work themselves."""


def kernels(cell: Cell) -> dict[str, float]:
    """Metrics of `fpmd bench kernels`."""
    if importlib.util.find_spec("jax_cuda13_plugin") is None:
        raise ConfigError(
            "benchmark kernels compiles for a GPU, with JAX's CUDA plugin (no GPU is needed): run "
            "`pip install 'fpmd-mjx[gpu]'`."
        )
    # The check of versions needs a driver, which is not there.
    env = {"JAX_PLATFORMS": "cpu", "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1"}
    (found,) = fresh.run(compiled, configs.to_yaml(cell.config), env=env)
    return {f"kernels.{name}": value for name, value in found.items()}


def compiled(text: str) -> Iterator[fresh.Record]:
    """Yields the metrics of one config, given as YAML."""
    topology = topologies.get_topology_desc("cuda", "cuda", target_config=H200, topology="1x1x1")
    sharding = SingleDeviceSharding(topology.devices[0])

    def place(shapes: Any) -> Any:
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes
        )

    program = make_program(configs.from_yaml(text))
    state = place(program.traced_init.out_info)
    update = hlo(jax.jit(program.algorithm.update), *place(update_arguments(program)))
    step = hlo(jax.jit(program.vector_step, donate_argnums=0), state)
    epoch = jax.jit(program.train_epoch, donate_argnums=0).lower(state).compile()
    analysis: Any = epoch.memory_analysis()
    yield {
        "update": launches(update),
        "update_waits": waits(update),
        "vector_step": launches(step),
        "vector_step_waits": waits(step),
        "epoch_state_bytes": analysis.argument_size_in_bytes,
        "epoch_temporary_bytes": analysis.temp_size_in_bytes,
    }


def hlo(function: Any, *arguments: Any, options: Any = None) -> str:
    """The optimized HLO of a jitted function, as text."""
    return str(function.lower(*arguments).compile(options).as_text())


def launches(text: str) -> int:
    """The number of instructions that do work in a compiled program.

    Those in a loop count once. The parts of a fusion or a reduction do not count.
    """
    return sum(name not in NO_KERNELS for name, _ in _instructions(text))


def waits(text: str) -> int:
    """The number of conditions and of loops whose length depends on data: there a GPU may have to
    wait for the host."""
    return sum(
        name == "conditional" or (name == "while" and '"known_trip_count"' not in line)
        for name, line in _instructions(text)
    )


def loop_launches(text: str) -> int:
    """`launches` of one iteration of the only loop in a compiled program."""
    (body,) = re.findall(r" while\(.*\bbody=%([\w.-]+)", text)
    inside = text[text.index(f"\n%{body} (") + 1 :]
    return launches(inside[: inside.index("\n}")])


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    """Name and line of every instruction that is not a part of another one."""
    parts = set(re.findall(r"\b(?:calls|to_apply)=%([\w.-]+)", text))
    # A `call` runs a computation like any other.
    parts -= set(re.findall(r" call\(.*\bto_apply=%([\w.-]+)", text))
    counts = False
    for line in text.splitlines():
        if begin := re.match(r"(?:ENTRY )?%([\w.-]+) \(.*\{$", line):
            counts = begin[1] not in parts
        elif counts and (found := re.match(r"  (?:ROOT )?%\S+ = .*? ([\w-]+)\(", line)):
            yield found[1], line


def update_kernels(program: Program) -> int:
    """`launches` on this device of one seed's update with the policy's."""
    update = jax.jit(program.algorithm.update)
    return launches(hlo(update, *update_arguments(program), options=program.compiler_options))


def update_arguments(program: Program) -> tuple[Any, ...]:
    """Shapes of the arguments of an algorithm's `update`."""
    key = jax.ShapeDtypeStruct((), jax.random.key(0).dtype)
    learner = jax.eval_shape(program.algorithm.init, key)
    return learner, batch(program), key, program.traced_init.out_info.updates


def batch(program: Program) -> Batch:
    """Shapes of a batch of one seed."""

    def array(*shape: int, dtype: Any = jnp.float32) -> Any:
        return jax.ShapeDtypeStruct((program.config.learn.batch, *shape), dtype)

    spec = program.vector.env.spec
    obs = array(*spec.obs_shape, dtype=program.traced_init.out_info.env.env.obs.dtype)
    scalar = array()
    return Batch(
        obs=obs,
        action=array(spec.action_size),
        reward=scalar,
        discount=scalar,
        next_obs=obs,
        mask=scalar,
    )
