"""`python -m tests.model [--trace]`: every configuration, and every rule left out."""

from __future__ import annotations

import argparse
import logging
import sys

from tests.model.configurations import LARGE, QUICK
from tests.model.mutations import MUTATIONS
from tests.model.search import Outcome


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--trace", action="store_true", help="the way to what each rule prevents")
    arguments = parser.parse_args()
    # A worker that is told of a fault says so, here a hundred thousand times.
    logging.disable(logging.CRITICAL)
    failed = 0
    for configuration in (*QUICK, *LARGE):
        outcome = configuration.explore()
        say(f"{configuration}\n    {_figures(outcome)}; {outcome.wrong or 'no violation'}")
        if not outcome.is_exhausted:
            failed += 1
            _tell(outcome)
    for mutation in MUTATIONS:
        outcome = mutation.explore()
        say(f"without {mutation}\n    {_figures(outcome)}; {outcome.wrong or 'NO VIOLATION'}")
        failed += not outcome.wrong.startswith(f"{mutation.promise}:")
        if arguments.trace:
            _tell(outcome)
    say(f"{failed} of {len(QUICK + LARGE) + len(MUTATIONS)} are not as they should be")
    return 1 if failed else 0


def _figures(outcome: Outcome) -> str:
    steps = f", trace of {len(outcome.trace)}" if outcome.trace else ""
    return f"{outcome.states:,} states, depth {outcome.depth}{steps}, {outcome.seconds:.1f} s"


def _tell(outcome: Outcome) -> None:
    for number, line in enumerate(outcome.trace, start=1):
        say(f"    {number:3} {line}")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
