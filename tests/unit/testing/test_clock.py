"""The clock that tests move: nothing is early, nothing is forgotten, nothing goes off twice."""

from __future__ import annotations

import asyncio
from functools import partial

from stepfold.testing.clock import ManualClock
from tests.unit.testing.on_loop import on_loop


async def turn() -> None:
    """Let callbacks run that are ready."""
    await asyncio.sleep(0)


@on_loop
async def test_alarms_go_off_one_at_a_time_in_the_order_of_their_times() -> None:
    clock, seen = ManualClock(1_000), list[tuple[str, int]]()

    def note(name: str) -> None:
        seen.append((name, clock.now_ms()))

    for name, due in (("late", 3_000), ("first", 2_000), ("second", 2_000)):
        clock.call_at(due, partial(note, name))

    while clock.next_due_ms is not None:
        clock.ring_next()
        assert not clock.is_quiet
        await turn()
        assert clock.is_quiet

    assert seen == [("first", 2_000), ("second", 2_000), ("late", 3_000)]


@on_loop
async def test_cancelled_alarm_does_not_go_off_even_when_it_is_ringing() -> None:
    clock, seen = ManualClock(1_000), list[str]()
    clock.call_at(2_000, lambda: seen.append("before")).cancel()
    ringing = clock.call_at(3_000, lambda: seen.append("ringing"))
    due = clock.next_due_ms

    clock.ring_next()
    ringing.cancel()
    await turn()

    assert (due, seen, clock.next_due_ms) == (3_000, [], None)


@on_loop
async def test_what_is_due_already_is_called_on_the_loop() -> None:
    clock, seen = ManualClock(1_000), list[str]()

    clock.call_at(500, lambda: seen.append("called"))
    before = list(seen)
    await turn()

    assert (before, seen, clock.is_quiet) == ([], ["called"], True)


@on_loop
async def test_time_does_not_go_back() -> None:
    clock = ManualClock(1_000)
    clock.observe(5_000)
    clock.move_to(500)

    assert clock.now_ms() == 1_000
