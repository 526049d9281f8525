"""The list of tasks."""

import envs
from envs import playground
from envs.devtools import parity
from envs.physics.limits import backends
from envs.registry import cannot


def show() -> None:
    """Prints a line for each task."""
    records = parity.measured()
    print(
        f"{'task':32} {'obs':>5} {'action':>6} {'steps':>6} {'control':>8}  {'backends':9}  parity"
    )
    for name in envs.tasks():
        try:
            spec = envs.make(name).spec
        except ModuleNotFoundError as error:  # this task's backend is not installed
            print(f"{name:32} {error}")
            continue
        print(
            f"{name:32} {spec.obs_size:5} {spec.action_size:6} {spec.episode_steps:6} "
            f"{1000 * spec.control_dt:5.0f} ms  {'/'.join(backends(name)):9}  "
            f"{parity.status(name, records.get(name))}"
        )
    print("\nTasks that MJX cannot simulate:")
    for name, reason in cannot().items():
        print(f"{name}: {reason}.")
    found = playground.names()
    print(
        f"\nMuJoCo Playground's registry, on MJX alone: {', '.join(found)}"
        if found
        else "\nWith `pip install 'fpmd-mjx[playground]'`, also MuJoCo Playground's registry."
    )
