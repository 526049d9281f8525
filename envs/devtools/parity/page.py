"""Writes docs/parity.md from the results."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .. import parity
from .compare import QUANTITIES
from .controllers import BALANCED
from .rounding import EXACT, EXACT_RUN, FACTOR, ULPS
from .tolerances import (
    CONTACT_POOR,
    CONVERGED,
    EXCEPTIONS,
    MOST_BEYOND,
    MOST_EXPLAINED,
    RESET_LEVEL,
    TOLERANCE,
)

PAGE = Path(__file__).parents[3] / "docs" / "parity.md"

SIMULATORS = ("jax", "mujoco", "mujoco-mjx", "dm-control", "gymnasium")
"""Packages that affect a measurement. It is repeated with another version of them."""


def page(records: dict[str, Any]) -> str:
    """Returns the text of docs/parity.md."""
    states = [parity.status(name, records[name]) for name in records]
    exact, within = states.count(parity.EXACT), states.count(parity.WITHIN)
    missing = [name for name in parity.comparable() if name not in records]
    text = [
        "# Parity with the original simulators",
        f"""\
`fpmd tasks --parity` wrote this page: of {len(records)} measured tasks, {exact} \
{"is" if exact == 1 else "are"} exact and {within} \
{"is" if within == 1 else "are"} within a stated tolerance.
Each port was put into states of the original (gymnasium or dm_control on C MuJoCo), and the next
states were compared. Errors are relative: |port - original| / max(1, rms) in each dimension, where
rms is the original's root mean square over the recorded episodes. The tables show the largest error
of all states and dimensions. [envs/devtools/parity](../envs/devtools/parity/__init__.py) has the
reasons and the code.

If a step or a run is beyond its tolerance, further tests follow. Rounding in float32 *explains* the
error if one of these is true:

- The original, in float64, changes by at least {1 / FACTOR:g} of the error if its start is moved by
  up to {ULPS:g} units of float32's last digit. Often two bodies then touch in another physics step.
- The original changes by as much if its iterative searches end elsewhere.
- The port's step in float64 ends within {EXACT:g} of the original in qpos and qvel, or its run
  stays within {EXACT_RUN:g}.

The columns *beyond* show the number of these steps or runs, and the number explained. At most
{100 * MOST_BEYOND:g} % of a task's steps may be beyond, and at most {100 * MOST_EXPLAINED:g} %
without those that are right in float64.

A task is *exact* if it passes these checks:

- **one step**: the error of observation and reward is at most {TOLERANCE:g}, from up to
  {parity.STATES:,} states of {parity.EPISODES} whole episodes.
- **50 steps**: the same over 20 open-loop runs of 50 steps, for the contact-poor domains
  ({listed(CONTACT_POOR)}). With contacts, rounding errors grow exponentially in any port.
- **ends**: terminations and time limits are in the same steps of those episodes.
- **starts**: first observations, qpos and qvel of up to {parity.RESETS:,} episodes in each
  simulator have the same distribution, by two-sample Kolmogorov-Smirnov tests of each dimension and
  of 10 random directions. The smallest p times the number of tests must exceed {RESET_LEVEL:g}.
- **returns**: the mean returns of 20 episodes of one scripted controller, from the same starts, are
  within each other's 99 % interval, or within {TOLERANCE:g} of each other if returns do not vary.

Half of the recorded episodes have uniformly random actions, up to 1.3 times the range. The others
have scripted actions: sines of 0.5 to 3 Hz, or a linear regulator for {listed(BALANCED)}.""",
    ]
    text.append(
        "A task is *within its stated tolerance* if it passes them with a larger tolerance, or "
        "against an original with changed options:"
    )
    for prefix, exception in EXCEPTIONS.items():
        text.append(
            f"`{prefix}` has a tolerance of {exception.one_step:g} after one step"
            + (f" and {exception.open_loop:g} over 50" if exception.open_loop else "")
            + f": {exception.reason}"
        )
    own = {name: found["released"] for name, found in records.items() if found.get("released")}
    if own:
        text.append(
            f"{listed(CONVERGED)}: the original has converged collisions here (`ccd_tolerance` of "
            "1e-12). The released original differs from it by more than the tolerance in "
            + ", ".join(f"{x['beyond']:,} steps of `{name}`" for name, x in own.items())
            + f", by up to {max(x['max'] for x in own.values()):.2g}, because its directions of "
            "contacts with ellipsoids have errors of up to 1e-2 rad."
        )
    if missing:
        text.append(f"Not measured yet: {listed(missing)}.")
    text += ["## Errors", _errors(records), "## Episodes", _episodes(records)]
    text += ["## Provenance", _provenance(records)]
    return "\n\n".join(text) + "\n"


def _errors(records: dict[str, Any]) -> str:
    head = ["task", "status", "contacts", "states"]
    parts = [("one_step", "1"), ("open_loop", "50")]
    for _, steps in parts:
        head += [f"{what}, {steps}" for what in QUANTITIES] + [f"beyond, {steps}"]
    rows = [
        [
            name,
            parity.status(name, found),
            f"{100 * found['contacts']:.0f} %",
            f"{found['states']:,}",
            *(
                cell
                for part, _ in parts
                for cell in (
                    *(number(found[part][what]["max"]) for what in QUANTITIES),
                    _beyond(found["rounding"].get(part)),
                )
            ),
        ]
        for name, found in records.items()
    ]
    note = """\
contacts: share of the original's steps with contacts. 1, 50: number of steps. beyond: steps, or
runs of 20, beyond the tolerance / those of them that rounding explains."""
    return f"{_table(head, rows)}\n\n{note}"


def _episodes(records: dict[str, Any]) -> str:
    head = ["task", "paid", "episodes", "terminated", "different ends", "starts", "p x tests"]
    head += ["controller", "steps", "return, port", "return, original"]
    rows = []
    for name, found in records.items():
        flags, starts, returns = found["flags"], found["resets"], found["returns"]
        rows.append(
            [
                name,
                f"{100 * found['paid']:.0f} %",
                str(flags["episodes"]),
                str(flags["terminated"]),
                str(flags["different"]),
                f"{starts['port']:,} / {starts['original']:,}",
                f"{min(1.0, starts['p'] * starts['tests']):.2g}",
                returns["controller"],
                str(returns["steps"]),
                *(
                    "{:.4g} [{:.4g}, {:.4g}]".format(
                        *(math.nan if x is None else x for x in returns[simulator])
                    )
                    for simulator in ("port", "original")
                ),
            ]
        )
    note = f"""\
paid: share of the recorded steps with a reward other than 0. starts: of the port / of the original,
fewer than {parity.RESETS:,} if they took more than {parity.SECONDS:.0f} s of processor time. steps:
control steps of each episode that count, fewer than all if they took more than that time."""
    return f"{_table(head, rows)}\n\n{note}"


def _provenance(records: dict[str, Any]) -> str:
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, found in records.items():
        versions = ", ".join(f"{x} {found['versions'][x]}" for x in ("python", *SIMULATORS))
        key = (found["date"], str(found["commit"]), found["device"], versions)
        groups.setdefault(key, []).append(name)
    return _table(
        ["date", "commit", "device", "versions", "tasks"],
        [[*key, ", ".join(names)] for key, names in groups.items()],
    )


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _beyond(found: dict[str, int] | None) -> str:
    """Returns the number of errors beyond the tolerance and the number explained by rounding; empty
    if there is no tolerance."""
    if found is None:
        return ""
    return f"{found['beyond']} / {found['explained']}" if found["beyond"] else "0"


def number(value: float | None) -> str:
    """Returns an error as text. null in the records is not finite."""
    return "inf" if value is None else "0" if value == 0 else f"{value:.0e}"


def listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
