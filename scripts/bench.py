"""Measure what logging costs. Figures are ratios or differences within one run: machines are noisy."""

import argparse
import importlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rl_logging.formats import FORMATS

_MODES = {
    "delivery": "what the journal and five trackers add to dump(), with MLflow up, down and hanging",
    "ppo": "PPO on CartPole with all outputs and with none",
    "catch-up": "how fast MLflow gets a run that was trained without it",
    "journal": "appending to the journal, following it, opening it again",
    "media": "what taking a video and a large histogram costs, against writing the same bytes",
    "outage": "memory, time and completeness when MLflow is down for a million records",
    "ranks": "merging and collecting what many ranks and workers recorded, and timers",
    "scrape": "asking 8 to 4,096 simulated Ray nodes with 8 GPUs each",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print tables."""
    options = _parser().parse_args(arguments)
    module = importlib.import_module(f"bench_{options.mode.replace('-', '_')}")
    with tempfile.TemporaryDirectory(prefix="rl_logging-bench-", ignore_cleanup_errors=True) as folder:
        module.measure(options, Path(folder))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    modes = parser.add_mutually_exclusive_group()
    for name, what in _MODES.items():
        modes.add_argument(f"--{name}", dest="mode", action="store_const", const=name, help=what)
    parser.set_defaults(mode="dump")
    parser.add_argument("--outputs", default=",".join(FORMATS), help="of a dump alone; all: %(default)s")
    parser.add_argument("--scalars", default="20,50,200", help="in one dump alone; by default %(default)s")
    parser.add_argument("--rounds", type=int, help="by default what each measurement needs")
    parser.add_argument("--dumps", type=int, help="in a round; by default what each measurement needs")
    parser.add_argument("--records", type=int, help="of --catch-up, --journal, --outage")
    parser.add_argument("--pairs", type=int, default=5, help="of --ppo, by default %(default)s")
    parser.add_argument("--steps", type=int, default=100_000, help="of --ppo, by default %(default)s")
    parser.add_argument("--nodes", default="8,64,256,1024,4096", help="of --scrape, by default %(default)s")
    parser.add_argument(
        "--in-turn",
        type=int,
        default=64,
        help="of --scrape: up to so many nodes asked in turn too, by default %(default)s",
    )
    parser.add_argument("--quick", action="store_true", help="tiny, without a server, to see that it works")
    return parser


if __name__ == "__main__":
    main()
