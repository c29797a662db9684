"""`python -m tests.simulation SEED [--trace]`: one seed again, or many of them."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.simulation import simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--trace", action="store_true")
    arguments = parser.parse_args()
    failed = 0
    began = time.perf_counter()
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        verdict = simulate(seed, tracing=arguments.trace)
        if arguments.trace:
            say("\n".join(verdict.lines))
        if verdict.problems:
            failed += 1
            say(f"seed {seed}: {len(verdict.problems)} problems")
            for problem in verdict.problems[:6]:
                say(f"    {problem[:400]}")
    took = time.perf_counter() - began
    each_ms = took / arguments.count * 1_000
    say(f"{arguments.count} seeds, {failed} failed, {took:.1f} s, {each_ms:.0f} ms each")
    return 1 if failed else 0


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
