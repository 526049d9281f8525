"""`fpmd train|eval|render|suite|tasks|bench|report`: arguments in, one call out, no logic.

Exit codes: 0 done; 1 a measured task differs from its original, or a cell of a campaign or a run of
a comparison failed; 2 a user's mistake, with one sentence that names the remedy; 128 + n stopped by
signal n, with everything saved; 141 the reader of the output has ended.
"""

import argparse
import contextlib
import importlib
import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fpmd_mjx.bench.plan import BENCHMARKS, NAMED_ONLY, PEERS, make_plan
from fpmd_mjx.config.schema import ConfigError
from fpmd_mjx.run.process import collect_garbage_rarely

CAMPAIGN, AGENT = "bench campaign", "bench agent"

CLOSED_PIPE = 128 + 13
"""Exit code when the reader of the output has ended, the same as after SIGPIPE."""


def main(argv: list[str] | None = None) -> int:
    collect_garbage_rarely()
    try:
        try:
            return _main(argv)
        finally:
            sys.stdout.flush()  # here, and not as the interpreter ends, where nobody can catch it
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())  # for what they still hold
        return CLOSED_PIPE


def _main(argv: list[str] | None) -> int:
    args = _arguments(argv)
    # Nothing is compiled and nothing heavy is imported before the configuration is valid.
    try:
        return args.run(args)
    except ConfigError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        print(f"fpmd: {args.interrupted}", file=sys.stderr)
        return 128 + signal.SIGINT


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = _parser()
    argv = sys.argv[1:] if argv is None else argv
    if " ".join(argv[:2]) in (CAMPAIGN, AGENT):  # a bench takes any words, so these are commands
        argv = [" ".join(argv[:2]), *argv[2:]]
    args, rest = parser.parse_known_args(argv)
    # argparse takes positional words in one piece, and returns those after an option as the rest.
    words = getattr(args, "words", None)
    if rest and (words is None or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if words is not None:
        words += rest
    return args


class _Parser(argparse.ArgumentParser):
    """details: returns a long text for the help; called only when the help is shown."""

    details: Callable[[], str] | None = None

    def format_help(self) -> str:
        text = super().format_help()
        return f"{text}\n{self.details()}\n" if self.details else text

    def print_help(self, file: Any = None) -> None:
        (file or sys.stdout).write(self.format_help())  # argparse hides that a pipe is closed


def _parser() -> _Parser:
    parser = _Parser(prog="fpmd", description="Train one-step flow policies.")
    parser.set_defaults(interrupted="interrupted; the same command goes on from what is saved")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_train, _add_eval, _add_render, _add_suite, _add_tasks, _add_bench):
        add(commands)
    _add_campaign(commands)
    _add_agent(commands)
    _add_report(commands)
    return parser


def _command(
    commands: Any, name: str, summary: str, *examples: str, more: str = "", **options: Any
) -> _Parser:
    """The parser of a command. examples: its arguments; more: lines above the examples."""
    lines = [more, *([""] if more else []), "examples:"]
    lines += [f"  fpmd {name} {example}".rstrip() for example in examples]
    return commands.add_parser(
        name,
        help=summary,
        epilog="\n".join(lines).lstrip("\n"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **{"description": f"{summary[0].upper()}{summary[1:]}."} | options,
    )


def _add_train(commands: Any) -> None:
    def details() -> str:
        from fpmd_mjx.config.describe import train_help

        return train_help()

    train = _command(
        commands,
        "train",
        "train, or continue, one run",
        "task=dmc/cheetah_run",
        "task=gym/Ant-v5 preset=paper seeds=4 name=first-try",
        "task=dmc/walker_walk env_steps=1000000 learn.batch=512 eval.modes=[one_step,best_of_n]",
    )
    train.details = details
    train.add_argument("overrides", nargs="*", metavar="key=value", help="settings, listed below")
    train.set_defaults(run=_train)


def _add_eval(commands: Any) -> None:
    score = _command(
        commands,
        "eval",
        "score a run's checkpoint",
        "runs/dmc/cheetah_run/fpmd_m/cpu-s0",
        "runs/dmc/cheetah_run/fpmd_m/cpu-s0 --simulator mujoco --episodes 20",
        "runs/dmc/cheetah_run/fpmd_m/cpu-s0 --epoch best --mode best_of_n",
    )
    _add_stored_policy(score)
    score.add_argument("--simulator", default="mjx", choices=("mjx", "mujoco"))
    score.add_argument("--episodes", type=int, default=10, help="per seed; default: 10")
    score.set_defaults(run=_eval)


def _add_render(commands: Any) -> None:
    render = _command(
        commands,
        "render",
        "make a video of a run's checkpoint",
        "runs/dmc/cheetah_run/fpmd_m/cpu-s0",
        "runs/dmc/cheetah_run/fpmd_m/cpu-s0 --epoch best --size 512 -o cheetah.mp4",
    )
    _add_stored_policy(render)
    render.add_argument("-o", "--out", type=Path, metavar="FILE.mp4", help="default: RUN/videos/")
    render.add_argument("--episodes", type=int, default=1, help="of the first seed; default: 1")
    render.add_argument("--size", type=int, default=256, help="height and width in pixels")
    render.add_argument("--camera", type=int, help="number of the model's camera")
    render.add_argument("--renderer", default="auto", choices=("auto", "gl", "warp"))
    render.set_defaults(run=_render)


def _add_suite(commands: Any) -> None:
    suite = _command(
        commands,
        "suite",
        "run configs/suite/NAME.yaml: tasks x algorithms x seeds",
        "quick",
        "cpu seeds=8 env_steps=600000",
    )
    suite.add_argument("name")
    suite.add_argument("overrides", nargs="*", metavar="key=value", help="for every run")
    suite.set_defaults(run=_suite)


def _add_tasks(commands: Any) -> None:
    tasks = _command(
        commands, "tasks", "list the tasks, or measure them", "", "--parity 'dmc/*' gym/Ant-v5"
    )
    tasks.add_argument(
        "--parity",
        nargs="*",
        metavar="PATTERN",
        help="compare these with the original simulators, such as 'dmc/*'; none: those missing",
    )
    tasks.set_defaults(run=_tasks)


def _add_bench(commands: Any) -> None:
    listed = "\n".join(f"  {name:12} {what}" for name, what in BENCHMARKS.items())
    bench = _command(
        commands,
        "bench",
        "measure speed, start-up, memory and latency",
        "",
        "program task=dmc/cheetah_run,gym/Ant-v5 num_envs=64,256 task.impl=jax,warp",
        "curve task=dmc/walker_walk modes=[one_step,best_of_n] --out walker.json",
        description="Prints `name.metric value`. Without a name, all but "
        f"{', '.join((*NAMED_ONLY, *PEERS))}:\n{listed}",
        more="A key may have several values, key=a,b: each combination is measured, in turns.\n"
        "peer=NAME[,NAME] chooses peers; peer_divisor=128 shrinks the tuned ones, to rehearse.",
    )
    bench.add_argument(
        "words",
        nargs="*",
        metavar="NAME | key=value[,value]",
        help="benchmarks, and settings of what they run",
    )
    bench.add_argument("--out", type=Path, metavar="FILE", help="JSON, with quartiles")
    bench.add_argument("--rounds", type=int, default=7, help="repetitions, in turns; default: 7")
    bench.add_argument(
        "--shared-caches",
        action="store_true",
        help="target and peers-* use your compile caches instead of empty ones: faster starts",
    )
    bench.set_defaults(run=_bench, interrupted="bench interrupted before anything was measured")


def _add_campaign(commands: Any) -> None:
    campaign = _command(
        commands,
        CAMPAIGN,
        "measure a GPU: many benchmarks in order of value, in the time there is",
        "gpu --minutes 10",
        "gpu --cell 'fast-*' --dry-run",
        description="Runs the cells of configs/campaign/NAME.yaml, each in a process of its own, "
        "and keeps each result in OUT/CARD/CELL.json. A result of this card and this program is "
        "not measured again.",
    )
    campaign.add_argument("name", nargs="?", default="gpu")
    campaign.add_argument("--minutes", type=float, metavar="N", help="end in time; default: no end")
    campaign.add_argument(
        "--cell", nargs="+", default=[], metavar="CELL", help="these alone; globs such as 'fast-*'"
    )
    campaign.add_argument(
        "--again", nargs="+", default=[], metavar="CELL", help="measure these anew"
    )
    campaign.add_argument("--rehearse", action="store_true", help="toy sizes, on any device")
    campaign.add_argument("--dry-run", action="store_true", help="say what would be measured")
    campaign.add_argument(
        "--table", action="store_true", help="write the tables of the results anew, measure nothing"
    )
    campaign.add_argument(
        "--out", type=Path, metavar="FOLDER", help="default: benchmarks/gpu; rehearsal: runs"
    )
    campaign.add_argument(
        "--cache", type=Path, metavar="FILE", help="begin with the compile caches of --keep-cache"
    )
    campaign.add_argument(
        "--keep-cache", type=Path, metavar="FILE", help="write the compile caches to FILE.000, ..."
    )
    campaign.set_defaults(run=_campaign)


def _add_agent(commands: Any) -> None:
    agent = _command(
        commands,
        AGENT,
        "compare what settings learn: scores, falls and costs, on one set of tasks",
        "wide='critic.hidden=[256,256]' narrow='critic.hidden=[128,128]'",
        "m='algorithm=fpmd_m' r='algorithm=fpmd_r' --task dmc/cheetah_run --seeds 4 --jobs 2",
        description="Trains every setting on every task of configs/yardstick/NAME.yaml, and "
        "compares the others with the first. A run that ended before with this program is not "
        "trained again.",
    )
    agent.add_argument("settings", nargs="+", metavar="NAME='key=value ...'")
    agent.add_argument("--on", default="tuning", metavar="YARDSTICK", help="default: tuning")
    agent.add_argument("--task", nargs="+", default=[], metavar="TASK", help="these alone")
    agent.add_argument("--seeds", type=int, help="runs of each task; default: the yardstick's")
    agent.add_argument(
        "--env-steps", type=int, metavar="N", help="of each run; default: the yardstick's"
    )
    agent.add_argument("--jobs", type=int, default=1, help="runs side by side, on CPUs; default: 1")
    agent.add_argument(
        "--out", type=Path, default=Path("runs/agent"), metavar="FOLDER", help="default: runs/agent"
    )
    agent.set_defaults(run=_agent)


def _add_report(commands: Any) -> None:
    report = _command(
        commands,
        "report",
        "show results as a Markdown table",
        "runs/suites/quick",
        "before.json after.json",
    )
    report.add_argument("paths", nargs="+", type=Path, metavar="FILE", help="JSON, or a folder")
    report.set_defaults(run=_report)


def _add_stored_policy(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that choose a stored policy and its episodes."""
    parser.add_argument("folder", type=Path, metavar="RUN", help="a folder under runs/")
    parser.add_argument(
        "--mode", default="one_step", help="one_step | one_step_sampled | best_of_n | steps=K"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the episodes; default: 0")
    parser.add_argument(
        "--epoch",
        default="latest",
        metavar="latest|best|N",
        help="of the checkpoint; default: latest. best: of the evaluations during training",
    )


def _train(args: argparse.Namespace) -> int:
    from fpmd_mjx.config.load import load

    config = load(args.overrides)
    _quiet()
    from fpmd_mjx.run.train import train

    return _finish(lambda: train(config))


def _check_stored_policy(args: argparse.Namespace) -> None:
    """Raises ConfigError on impossible arguments, and makes a number of `--epoch N`."""
    if args.episodes < 1:
        raise ConfigError(f"--episodes={args.episodes} is not possible: give at least 1.")
    if not 0 <= args.seed < 2**32:
        raise ConfigError(
            f"--seed={args.seed} is not possible: give a whole number of at least 0, below 2**32."
        )
    if args.epoch.isdecimal() and int(args.epoch) > 0:
        args.epoch = int(args.epoch)
    elif args.epoch not in ("latest", "best"):
        raise ConfigError(
            f"--epoch={args.epoch} is not possible: give latest, best or the number of an epoch."
        )


def _eval(args: argparse.Namespace) -> int:
    _check_stored_policy(args)
    _quiet()
    from fpmd_mjx.run.score import score

    return _finish(
        lambda: print(
            score(args.folder, args.mode, args.simulator, args.episodes, args.seed, args.epoch)
        )
    )


def _render(args: argparse.Namespace) -> int:
    _check_stored_policy(args)
    _quiet()
    from fpmd_mjx.run.render import render

    return _finish(
        lambda: print(
            render(
                args.folder,
                args.out,
                mode=args.mode,
                episodes=args.episodes,
                seed=args.seed,
                epoch=args.epoch,
                size=args.size,
                camera=args.camera,
                how=args.renderer,
            )
        )
    )


def _suite(args: argparse.Namespace) -> int:
    from fpmd_mjx.run.suite import load_suite, run_suite

    suite = load_suite(args.name, args.overrides)
    _quiet()
    return _finish(lambda: run_suite(suite))


def _tasks(args: argparse.Namespace) -> int:
    _quiet()
    if args.parity is None:
        from fpmd_mjx.report.tasks import show

        show()
        return 0
    from envs.devtools.parity.sweep import NothingToMeasureError, sweep
    from fpmd_mjx.report.records import write_json
    from fpmd_mjx.run.provenance import provenance

    try:
        return 1 if sweep(args.parity, provenance(), write_json) else 0
    except NothingToMeasureError as error:
        raise ConfigError(f"--parity {error}") from error


def _bench(args: argparse.Namespace) -> int:
    plan = make_plan(args.words, args.rounds, empty_caches=not args.shared_caches)
    _quiet()
    from fpmd_mjx.bench.run import run

    return _finish(lambda: run(plan, args.out))


def _campaign(args: argparse.Namespace) -> int:
    if args.minutes is not None and not args.minutes > 0:
        raise ConfigError(f"--minutes {args.minutes} is not possible: give a number above 0.")
    _quiet()
    from fpmd_mjx.bench.campaign.run import Options, run_campaign, write_tables

    if args.table:
        return write_tables(args.name)
    options = Options(
        out=args.out,
        minutes=args.minutes,
        only=tuple(args.cell),
        again=tuple(args.again),
        rehearse=args.rehearse,
        dry_run=args.dry_run,
        cache=args.cache,
        keep_cache=args.keep_cache,
    )
    failures: list[int] = []
    return _finish(lambda: failures.append(run_campaign(args.name, options))) or int(any(failures))


def _agent(args: argparse.Namespace) -> int:
    from fpmd_mjx.bench.agent import yardstick

    for name in ("seeds", "env_steps", "jobs"):
        value = getattr(args, name)
        if value is not None and value < 1:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option} {value} is not possible: give at least 1.")
    chosen = yardstick.load(args.on, args.task, args.seeds, args.env_steps)
    settings = yardstick.parse_settings(args.settings, chosen)
    _quiet()
    from fpmd_mjx.bench.agent.run import measure

    failed: list[str] = []
    code = _finish(lambda: failed.extend(measure(chosen, settings, args.out, args.jobs)))
    return code or int(bool(failed))


def _report(args: argparse.Namespace) -> int:
    from fpmd_mjx.report.tables import render

    print(render(args.paths))
    return 0


def _finish(call: Callable[[], Any]) -> int:
    """Calls, and returns the exit code. Writes one line to stderr if the call was stopped."""
    from fpmd_mjx.run.checkpoint import CheckpointError
    from fpmd_mjx.run.signals import Interrupted

    try:
        call()
    except CheckpointError as error:
        return _fail(str(error))
    except Interrupted as stop:
        print(f"fpmd: {stop}", file=sys.stderr)
        return 128 + stop.signum
    return 0


def _quiet() -> None:
    """Imports MJX, and hides its message on stdout that the optional Warp backend is missing."""
    with contextlib.redirect_stdout(io.StringIO()):
        importlib.import_module("mujoco.mjx")


def _fail(message: str) -> int:
    print(f"fpmd: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
