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
            print("\n".join(verdict.lines))
        if verdict.problems:
            failed += 1
            print(f"seed {seed}: {len(verdict.problems)} problems")
            for problem in verdict.problems[:6]:
                print("   ", problem[:400])
    took = time.perf_counter() - began
    print(f"{arguments.count} seeds, {failed} failed, {took:.1f} s, {took / arguments.count * 1000:.0f} ms each")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
