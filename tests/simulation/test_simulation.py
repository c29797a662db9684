"""Whole lives of a cluster under a virtual clock: what is promised holds in all of them."""

from __future__ import annotations

import pytest

from tests.simulation.simulation import simulate

SEEDS = 1_000
SEEDS_AT_ONCE = 100
SEEDS_TWICE = (3, 17, 99)


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_AT_ONCE))
def test_every_promise_holds_whatever_happens(first: int) -> None:
    """A seed that fails is played again by `python -m tests.simulation SEED --trace`."""
    problems = {
        seed: found
        for seed in range(first, first + SEEDS_AT_ONCE)
        if (found := simulate(seed).problems)
    }

    assert problems == {}


@pytest.mark.parametrize("seed", SEEDS_TWICE)
def test_one_seed_gives_one_life(seed: int) -> None:
    first, second = simulate(seed, tracing=True), simulate(seed, tracing=True)

    assert first.lines == second.lines
    assert len(first.lines) > 100
