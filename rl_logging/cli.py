"""The command ``rl-logging``."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from rl_logging import __version__

_TRAINING = {"algo": "ppo", "env": "CartPole-v1", "timesteps": 30_000, "seed": 0, "chaos": False}


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    :param arguments: by default those of the process
    :return: the exit status
    """
    parser = _Parser(prog="rl-logging", description="One logger for reinforcement learning.")
    parser.add_argument("--version", action="version", version=f"rl_logging {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    _add_demo(commands)
    _add_sync(commands)
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(levelname)s: %(message)s", stream=sys.stderr)
    status: int = options.run(parser, options)
    return status


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser(
        "demo",
        help="train an agent, log it to every output, and check what arrived",
        description="Train an agent with stable-baselines3, log it to every output, offline, read every "
        "output back, and compare it with the run's journal. The exit status is 1 if anything differs.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    demo.add_argument("--algo", default=_TRAINING["algo"], help="a2c, ddpg, dqn, ppo, sac or td3")
    demo.add_argument("--env", default=_TRAINING["env"], help="a Gymnasium environment")
    demo.add_argument(
        "--timesteps", default=_TRAINING["timesteps"], type=_whole(1), help="how long to train, in steps"
    )
    demo.add_argument("--outputs", default="all", help="names, separated by commas, or all")
    demo.add_argument(
        "--folder", default=argparse.SUPPRESS, help="the run folder (default: a new one in runs/)"
    )
    demo.add_argument(
        "--seed", default=_TRAINING["seed"], type=_whole(0), help="of the environment and the agent"
    )
    demo.add_argument(
        "--chaos", action="store_true", help="log to an MLflow server that is killed half-way and comes back"
    )
    demo.add_argument(
        "--llm",
        action="store_true",
        help="train nothing; replay a recorded run of GRPO through NeMo-RL's calls into every tracker",
    )
    demo.set_defaults(run=_demo)


def _add_sync(commands: Any) -> None:
    sync = commands.add_parser(
        "sync",
        help="deliver what a run's trackers lack",
        description="Deliver what a run's journal holds and its trackers lack, into the same remote runs, or "
        "into a tracker that was not there during training. Safe to call twice, and while training runs. "
        "The exit status is 1 if anything is missing in the end; with --dry-run, now.",
    )
    sync.add_argument("folder", metavar="RUN", help="the run folder")
    sync.add_argument("--to", nargs="+", default=(), metavar="NAME", help="these trackers only, or new ones")
    sync.add_argument("--follow", action="store_true", help="go on until the run has ended")
    sync.add_argument("--dry-run", action="store_true", help="say what is missing, and deliver nothing")
    sync.add_argument("--from-start", action="store_true", help="deliver all again, into the same runs")
    sync.add_argument("--no-wait", action="store_true", help="leave out what somebody else delivers to now")
    sync.add_argument(
        "--offline", action="store_true", help="into the trackers' offline modes, on this machine"
    )
    sync.set_defaults(run=_sync)


def _demo(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if options.llm:
        return _demo_llm(parser, options)
    from rl_logging import demo

    try:
        plan = demo.plan(
            options.algo,
            options.env,
            options.timesteps,
            options.outputs,
            getattr(options, "folder", None),
            options.seed,
            options.chaos,
        )
    except (ValueError, ImportError) as error:
        parser.error(" ".join(str(error).split()))
    return demo.run(plan)


def _demo_llm(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    from rl_logging import demo_llm

    for name, default in _TRAINING.items():
        if getattr(options, name) != default:
            parser.error(f"--llm trains nothing, so --{name} has no meaning with it")
    try:
        names, folder = demo_llm.plan(options.outputs, getattr(options, "folder", None))
    except (ValueError, ImportError) as error:
        parser.error(" ".join(str(error).split()))
    return demo_llm.run(names, folder)


def _sync(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    from rl_logging import sync, sync_plan

    try:
        plan = sync_plan.plan(
            options.folder,
            options.to,
            follow=options.follow,
            from_start=options.from_start,
            wait=not options.no_wait,
            offline=options.offline,
        )
    except (ValueError, ImportError) as error:
        parser.error(" ".join(str(error).split()))
    return sync.show(plan) if options.dry_run else sync.run(plan)


def _whole(least: int) -> Callable[[str], int]:
    """A parser of whole numbers from ``least`` on."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} on")
        return int(text)

    return parse


if __name__ == "__main__":
    sys.exit(main())
