"""Watches a trained policy for contacts that `python -m envs.devtools.prune` found impossible.

    python benchmarks/contacts.py dmc/cheetah.xml runs/dmc/cheetah_run/fpmd_m/cpu-s0

Plays the run's last policy in the original simulator, from whose model nothing is left out, adds
the rollout to the model's evidence in envs/physics/impossible_contacts.json, and takes out pairs
that touched.
"""

import argparse
import contextlib
from pathlib import Path

import numpy as np

import envs
from envs.physics import contacts
from fpmd_mjx.algorithms.base import Mode
from fpmd_mjx.evaluation import rollout
from fpmd_mjx.report.records import write_json
from fpmd_mjx.run.folder import load_policy

EPISODES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("run", type=Path)
    args = parser.parse_args()
    records = contacts.records()
    record = records[args.model]
    pairs = [(a, b) for a, b in record["pairs"]]
    program, policy, epoch = load_policy(args.run)
    config = program.config
    mode = Mode.parse("one_step_sampled")  # it wanders more than what is deployed
    model = envs.make_real(config.task.name).model
    watches: list[contacts.Watch] = []
    with contextlib.ExitStack() as stack:

        def report(done: int, total: int) -> None:
            # From the second step on: MuJoCo builds no model while it calls Python back.
            if done == 1:
                watches.append(stack.enter_context(contacts.watching(model, pairs)))

        returns, lengths, _ = rollout.real_rollout(program, mode, EPISODES, policy, 0, report)
    [watch] = watches
    env_steps = epoch * config.iterations_per_epoch * config.steps_per_iteration
    record["rollouts"].append(
        {
            "task": config.task.name,
            "policy": f"trained: {config.algorithm.name}, {config.preset}, "
            f"{env_steps} env steps, {mode}",
            "mean_return": round(float(np.mean(returns)), 1),
            "steps": int(np.sum(lengths)),
            "evaluations": watch.evaluations,
        }
    )
    kept = [i for i, pair in enumerate(pairs) if not watch.touched[pair]]
    for what in ("pairs", "metres_apart"):
        record[what] = [record[what][i] for i in kept]
    write_json(contacts.RECORDS, records)
    print(f"{len(pairs) - len(kept)} of {len(pairs)} pairs touched; {record['rollouts'][-1]}")


if __name__ == "__main__":
    main()
