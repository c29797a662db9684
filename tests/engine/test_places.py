"""Who may run when: a bound on all, slow start for suspects, few at once alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from stepfold.engine.places import Kind, Places
from tests.contract.journal_contract import until

SOON_S = 0.05
NEVER_S = 60.0


class Door:
    """Places, and the names that were let in, in order; each takes its place at once."""

    def __init__(self, *, slow_start_s: float = NEVER_S, running_max: int = 100) -> None:
        self.entered: list[str] = []
        self.places = Places(
            asyncio.get_running_loop(),
            running_max=running_max,
            isolated_max=2,
            slow_start_s=slow_start_s,
        )

    def come(self, name: str, kind: Kind, *, since: int = 0) -> None:
        if self.places.has_room(kind):
            self.enter(name, kind)
        else:
            self.places.ask(name, kind, lambda: self.enter(name, kind), since=since)

    def enter(self, name: str, kind: Kind) -> None:
        self.entered.append(name)
        self.places.take(name, kind)

    def leave(self, *names: str) -> None:
        for name in names:
            self.places.free(name)


def play(scene: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await scene()

    asyncio.run(main())


def test_suspects_come_back_one_two_and_four_at_a_time() -> None:
    async def scene() -> None:
        door = Door()

        for number in range(8):
            door.come(f"s{number}", Kind.SUSPECT, since=-number)
        assert door.entered == ["s0"]
        door.leave("s0")
        assert door.entered == ["s0", "s1", "s2"]
        door.leave("s1", "s2")
        assert door.entered == [f"s{number}" for number in range(7)]

    play(scene)


def test_suspect_that_was_started_last_comes_first() -> None:
    async def scene() -> None:
        door = Door()

        door.come("first", Kind.SUSPECT, since=1)
        for since in (5, 9, 7):
            door.come(f"started at {since}", Kind.SUSPECT, since=since)
        door.leave("first")

        assert door.entered == ["first", "started at 9", "started at 7"]

    play(scene)


def test_time_without_a_death_lets_further_suspects_in() -> None:
    async def scene() -> None:
        door = Door(slow_start_s=SOON_S)

        for number in range(5):
            door.come(f"s{number}", Kind.SUSPECT)
        assert len(door.entered) == 1
        await until(lambda: len(door.entered) == 5)
        door.places.close()

    play(scene)


def test_slow_start_begins_anew_when_all_suspects_have_gone() -> None:
    async def scene() -> None:
        door = Door()

        door.come("s0", Kind.SUSPECT)
        door.come("s1", Kind.SUSPECT)
        door.leave("s0", "s1")
        door.come("s2", Kind.SUSPECT)
        door.come("s3", Kind.SUSPECT)

        assert door.entered == ["s0", "s1", "s2"]

    play(scene)


def test_suspects_do_not_hold_up_the_others() -> None:
    async def scene() -> None:
        door = Door()

        for name in ("s0", "s1"):
            door.come(name, Kind.SUSPECT)
        for name in ("i0", "i1", "i2"):
            door.come(name, Kind.ISOLATED)
        door.come("o0", Kind.ORDINARY)
        assert door.entered == ["s0", "i0", "i1", "o0"]
        door.leave("i1")

        assert door.entered[-1] == "i2"

    play(scene)


def test_bound_on_all_attempts_holds_for_every_kind() -> None:
    async def scene() -> None:
        door = Door(running_max=2)

        for name, kind in (("o0", Kind.ORDINARY), ("s0", Kind.SUSPECT)):
            door.come(name, kind)
        for name, kind in (("o1", Kind.ORDINARY), ("i0", Kind.ISOLATED)):
            door.come(name, kind)
        assert door.entered == ["o0", "s0"]
        door.leave("o0", "s0")

        assert sorted(door.entered[2:]) == ["i0", "o1"]

    play(scene)


def test_whoever_asks_twice_is_let_in_once() -> None:
    async def scene() -> None:
        door = Door(running_max=1)

        door.come("o0", Kind.ORDINARY)
        door.come("o1", Kind.ORDINARY)
        door.come("o1", Kind.ORDINARY)
        door.leave("o0")
        door.leave("o1")

        assert door.entered == ["o0", "o1"]

    play(scene)


def test_later_leader_of_a_shard_is_called_in_place_of_the_one_that_is_gone() -> None:
    async def scene() -> None:
        door = Door(running_max=1)

        door.come("o0", Kind.ORDINARY)
        door.places.ask("o1", Kind.ORDINARY, lambda: None)
        door.come("o2", Kind.ORDINARY)
        door.come("o1", Kind.ORDINARY)
        door.leave("o0", "o1")

        assert door.entered == ["o0", "o1", "o2"]

    play(scene)


def test_one_that_needs_no_place_any_more_does_not_keep_it_from_the_next() -> None:
    async def scene() -> None:
        door = Door(running_max=1)

        door.come("o0", Kind.ORDINARY)
        door.places.ask("cancelled", Kind.ORDINARY, lambda: None)
        door.come("o1", Kind.ORDINARY)
        door.leave("o0")

        assert door.entered == ["o0", "o1"]

    play(scene)
