"""docs/parity.md."""

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
"""Packages that decide a measurement: with another version it is repeated."""


def page(records: dict[str, Any]) -> str:
    """docs/parity.md."""
    states = [parity.status(name, records[name]) for name in records]
    exact, within = states.count(parity.EXACT), states.count(parity.WITHIN)
    missing = [name for name in parity.comparable() if name not in records]
    text = [
        "# Parity with the original simulators",
        f"""\
`fpmd tasks --parity` wrote this page: of {len(records)} measured tasks, {exact} \
{"is" if exact == 1 else "are"} exact and {within} \
{"is" if within == 1 else "are"} within a stated tolerance.
Each port was put into states of the original (gymnasium or dm_control on C MuJoCo) and compared
from there. Errors are relative: |port - original| / max(1, rms), by dimension, where rms is the
original's root mean square over the recorded episodes; shown is the largest of all states and
dimensions. [envs/devtools/parity](../envs/devtools/parity/__init__.py) explains why, and holds the
code.

Where a step or a run is beyond its tolerance, the page asks whether float32 could have done better.
It could not, and rounding *explains* the error, if the original itself, in float64, parts by at
least {1 / FACTOR:g} of it from starts moved by up to {ULPS:g} units of float32's last digit
(mostly, two bodies then touch in this physics step or in the next), or from the very same start
with its iterative searches ended elsewhere; or if the port's step, repeated in float64, ends within
{EXACT:g} of the original in qpos and qvel; or if a run in float64 stays within {EXACT_RUN:g} of it.
Columns *beyond* show how many there are, and how many are explained. At most
{100 * MOST_BEYOND:g} % of a task's steps may need that, and {100 * MOST_EXPLAINED:g} % not counting
those that are right in float64.

A task is *exact* if it passes

- **one step**: error of observation and reward at most {TOLERANCE:g}, from up to
  {parity.STATES:,} states of {parity.EPISODES} whole episodes;
- **50 steps**: the same over 20 open-loop runs of 50 steps, for the contact-poor domains
  ({listed(CONTACT_POOR)}). With contacts, rounding grows exponentially, in any port;
- **ends**: terminations and time limits in the same steps of those episodes;
- **starts**: first observations, qpos and qvel of up to {parity.RESETS:,} episodes in each
  simulator, with two-sample Kolmogorov-Smirnov tests of each dimension and of 10 random
  directions; shown is the smallest p times the number of tests, which must exceed
  {RESET_LEVEL:g};
- **returns**: mean returns of 20 episodes of one scripted controller, from the same starts, within
  each other's 99 % interval (or {TOLERANCE:g} of each other, where returns do not vary).

Half of the recorded episodes have uniformly random actions, a third beyond the range, and half
have scripted ones: sines of 0.5 to 3 Hz, or a linear regulator for {listed(BALANCED)}.""",
    ]
    text.append(
        "A task is *within its stated tolerance* if it passes them with one that is larger, or "
        "against an original with changed options:"
    )
    for prefix, exception in EXCEPTIONS.items():
        text.append(
            f"`{prefix}` is held to {exception.one_step:g} after one step"
            + (f" and {exception.open_loop:g} over 50" if exception.open_loop else "")
            + f": {exception.reason}"
        )
    own = {name: found["released"] for name, found in records.items() if found.get("released")}
    if own:
        text.append(
            f"{listed(CONVERGED)}: the original's collisions are converged here (`ccd_tolerance` "
            "of 1e-12). As released it differs from that, beyond the tolerance, in "
            + ", ".join(f"{x['beyond']:,} steps of `{name}`" for name, x in own.items())
            + f", by up to {max(x['max'] for x in own.values()):.2g}: its directions of contacts "
            "with ellipsoids are right to 1e-2 rad."
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
contacts: share of the original's steps that had any. 1, 50: after so many steps. beyond: steps, or
runs of 20, beyond the tolerance / of these, explained by rounding."""
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
fewer than {parity.RESETS:,} where they did not fit into {parity.SECONDS:.0f} s of processor time.
steps: control steps of each episode that count, all of them unless they did not fit."""
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
    """How many errors are too large, and how many rounding explains; none where it is all the
    same."""
    if found is None:
        return ""
    return f"{found['beyond']} / {found['explained']}" if found["beyond"] else "0"


def number(value: float | None) -> str:
    """An error; null in the records is not finite."""
    return "inf" if value is None else "0" if value == 0 else f"{value:.0e}"


def listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
