"""Stands for `fpmd bench` in a campaign: takes its arguments, writes its results, and ends as the
word `how=...` says."""

import argparse
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

from fpmd_mjx.run.process import end_with_parent


def main() -> int:
    end_with_parent()
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="*")
    parser.add_argument("--rounds")
    parser.add_argument("--shared-caches", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    words = dict(word.split("=", 1) for word in args.words if "=" in word)
    how = words.pop("how", "well")
    metrics: dict[str, Any] = {"some.rate": {"q1": 1.0, "median": 2.0, "q3": 3.0}}
    for seed in range(
        int(words.get("seed", 0)), int(words.get("seed", 0)) + int(words.get("seeds", 0))
    ):
        metrics[f"curve.last.one_step.seed_{seed}"] = 100.0 + seed
    if "limit" in words:
        metrics["curve.limit"] = float(words["limit"])
    if how == "in vain":
        print("fpmd: learn.batch=0 is not possible: give a whole number of at least 1.")
        return 2
    if how.startswith("slow above ") and int(words["seeds"]) > int(how.split()[-1]):
        metrics["curve.projected_wall_seconds"] = 160.0
    write(args.out, metrics, os.environ.get("DEVICE", "a card"))
    if how == "in turn":  # ends when the other one is there, too
        other = args.out.with_name(f"{os.environ['OTHER']}.running.json")
        ended = args.out.with_name(f"{os.environ['OTHER']}.json")
        deadline = time.monotonic() + 60
        while not (other.exists() or ended.exists()):
            if time.monotonic() > deadline:
                return 3
            time.sleep(0.01)
    if how == "for ever" or (how == "for ever above 4" and int(words["seeds"]) > 4):
        time.sleep(600)
    if how == "deaf":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        write(args.out, metrics | {"deaf": 1.0}, "a card")
        time.sleep(600)
    if how == "short of memory":
        resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
        bytearray(2**31)
    if how == "broken from 4" and int(words["seed"]) >= 4:
        raise ZeroDivisionError
    if how == "killed" or (how == "killed above 4" and int(words["seeds"]) > 4):
        os.kill(os.getpid(), signal.SIGKILL)
    return 0


def write(out: Path, metrics: dict[str, Any], device: str, commit: str = "c") -> None:
    cell = {"label": "", "config": {}, "target": None, "metrics": metrics}
    versions = {"jax": "2", "mujoco-mjx": "3", "warp-lang": "4"}
    content = {"device": device, "commit": commit, "versions": versions, "cells": [cell]}
    out.write_text(json.dumps(content))


if __name__ == "__main__":
    sys.exit(main())
