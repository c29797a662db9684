"""The real fold and the real decisions as tables: a folded shard is a number.

A search meets the same folded shard hundreds of thousands of times. Here each distinct one is
kept once, and what the engine's code makes of it and a record is worked out once, on a copy.

Epochs are renamed. The chain compares them for equality and no more, and all that are not in
force are alike to it; so the one in force is always called IN_FORCE, and every other OLD. A
test shows that the chain does not notice (`test_ties.py`).
"""

from __future__ import annotations

import copy
from collections.abc import Hashable
from dataclasses import fields
from typing import Any, TypeVar, cast

from stepfold.core import events as e
from stepfold.core.ids import NO_EPOCH, Epoch
from stepfold.core.outgoing import Outgoing
from stepfold.core.run import Run, Step
from stepfold.core.shard import Chain, Parts, Shard, fold

T = TypeVar("T")

OLD = Epoch(0, 10)
IN_FORCE = Epoch(1, 11)
NEW = Epoch(2, 12)
"""A claim's own epoch while it lands; IN_FORCE from then on, if it counts."""


class Histories:
    """Folded shards by number. chain: the class that judges, for mutations."""

    def __init__(self, chain: type[Chain] = Chain) -> None:
        self._chain = chain
        self._shards: list[Shard] = []
        self._numbers: dict[Hashable, int] = {}
        self._events: list[tuple[e.Event, int]] = []
        self._event_numbers: dict[tuple[e.Event, int], int] = {}
        self._landed: dict[tuple[int, bool, int, int], tuple[bool, int]] = {}
        self._claimed: dict[tuple[int, bool], tuple[bool, int]] = {}

    def empty(self) -> Shard:
        """The shard of a history without records; the epoch in force there is none's."""
        return Shard(chain=self._chain(IN_FORCE))

    def number(self, shard: Shard) -> int:
        """Keeps the shard: it must not change any more."""
        frozen = freeze(shard)
        number = self._numbers.get(frozen)
        if number is None:
            number = self._numbers[frozen] = len(self._shards)
            self._shards.append(shard)
        return number

    def shard(self, number: int) -> Shard:
        """To be looked at, never to be changed."""
        return self._shards[number]

    def copy(self, number: int) -> Shard:
        return duplicate(self._shards[number])

    def event_number(self, event: e.Event, at: int) -> int:
        """at: when it was appended, which its record says."""
        number = self._event_numbers.get((event, at))
        if number is None:
            number = self._event_numbers[event, at] = len(self._events)
            self._events.append((event, at))
        return number

    def event(self, number: int) -> e.Event:
        return self._events[number][0]

    def land(self, number: int, is_in_force: bool, seq: int, event: int) -> tuple[bool, int]:
        """A record lands: whether it counts, and the shard that is folded with it."""
        key = (number, is_in_force, seq, event)
        found = self._landed.get(key)
        if found is None:
            epoch = IN_FORCE if is_in_force else OLD
            fact, at = self._events[event]
            # Where it landed is not kept, but what its writer takes for its place is.
            offset = epoch.offset + 1 + seq
            recorded = e.Recorded(offset=offset, epoch=epoch, seq=seq, at=at, event=fact)
            found = self._landed[key] = self._fold(number, recorded)
        return found

    def claim(self, number: int, names_in_force: bool) -> tuple[bool, int]:
        """A claim lands that names the epoch in force, or an older one."""
        key = (number, names_in_force)
        found = self._claimed.get(key)
        if found is None:
            claimed = claim_of(IN_FORCE if names_in_force else OLD, NEW.nonce)
            recorded = e.Recorded(offset=NEW.offset, epoch=NO_EPOCH, seq=-1, at=0, event=claimed)
            found = self._claimed[key] = self._fold(number, recorded)
        return found

    def _fold(self, number: int, recorded: e.Recorded) -> tuple[bool, int]:
        shard = self.copy(number)
        if not fold(shard, recorded):
            return False, number
        if isinstance(recorded.event, e.Claimed):
            _rename(shard)
        return True, self.number(shard)


def claim_of(prev: Epoch, nonce: int) -> e.Claimed:
    return e.Claimed(
        prev_epoch_offset=prev.offset,
        prev_epoch_nonce=prev.nonce,
        nonce=nonce,
        worker_id="w",
        host="",
        pid=0,
        build="",
        fold_version=e.FOLD_VERSION,
        closes_last_seq=-1,
        closes_last_offset=-1,
        unsafe=False,
    )


def _rename(shard: Shard) -> None:
    shard.chain.epoch = IN_FORCE
    shard.chain.last_offset = IN_FORCE.offset
    for run in shard.runs.values():
        for step in run.steps.values():
            step.epoch = OLD


CHANGED_IN_PLACE = (Shard, Outgoing, Parts, Run, Step)


def duplicate(value: T) -> T:
    """A copy that shares only what never changes; `deepcopy` takes five times as long."""
    if isinstance(value, dict):
        held = {key: duplicate(each) for key, each in cast("dict[Any, Any]", value).items()}
        return cast("T", held)
    if isinstance(value, list):
        return cast("T", [duplicate(each) for each in cast("list[Any]", value)])
    if isinstance(value, Chain):
        return type(value)(value.epoch, value.next_seq, value.last_offset)
    if isinstance(value, CHANGED_IN_PLACE):
        same = copy.copy(value)
        for name in _FIELDS[type(cast("object", value))]:
            setattr(same, name, duplicate(getattr(value, name)))
        return same
    return value


_FIELDS: dict[type[object], list[str]] = {
    kind: [field.name for field in fields(kind)] for kind in CHANGED_IN_PLACE
}


def freeze(value: object) -> Hashable:
    """All that a folded state holds, so that equal states are equal and hash alike."""
    if isinstance(value, dict):
        items = cast("dict[Hashable, Any]", value).items()
        return tuple([(key, freeze(held)) for key, held in items])
    if isinstance(value, list):
        held = cast("list[object]", value)
        return tuple([freeze(each) for each in held])
    if isinstance(value, Chain):
        return (value.epoch, value.next_seq, value.last_offset)
    if isinstance(value, CHANGED_IN_PLACE):
        return tuple([freeze(getattr(value, name)) for name in _FIELDS[type(value)]])
    return value
