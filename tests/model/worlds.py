"""Where several workers and one history stand, as numbers and tuples.

Offsets are not kept. The proof asks one thing of them: whether a record landed at its claim's
offset + 1 + its sequence number. So each leading worker knows how `late` its next record would
land: by as many places as other records landed since its claim. A record that lands takes one
place and has one number, so that this changes with the records of others only.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from tests.model.search import Label

IDLE, CLAIMING, LEADING = 0, 1, 2

UNDER_WAY = 0
LANDED, AS_EXPECTED, COUNTED = 1, 2, 4
"""A record's fate: these are added up. COUNTED is what the fold says, and decides what is right."""

Packet: TypeAlias = tuple[int, int, int]
JUNK: Packet = (0, 0, 0)
"""Records of old epochs: each takes an offset, and is void wherever it lands. Where
there is one, any number of them may land: that allows more than Kafka does, with fewer states."""
OLD_CLAIM: Packet = (1, 0, 0)
"""Claims that name an epoch which is not in force any more; of these, too, any number."""
CLAIM: Packet = (2, 0, 0)
"""A claim that names the epoch in force."""
RECORD = 3
ENDLESS = frozenset({JUNK, OLD_CLAIM})

LATE_MAX = 2
"""Beyond it, lateness is not told apart: it is made up for only by own records that are lost,
one place by each, and no search here loses so many."""

Things: TypeAlias = tuple[object, ...]
"""Of numbers and tuples only, so that they can be put in order."""


class Sent(NamedTuple):
    """event: its number; -1 for a claim."""

    event: int
    fate: int


class Worker(NamedTuple):
    """epoch: 1 if its epoch (while it claims: the one that its claim names) is in force.
    busy: what its process does besides leading, and goes on with when it leads no more.
    work: what it does as the leader. state: the shard as it knows it.
    """

    mode: int = IDLE
    epoch: int = 0
    reports: tuple[int, ...] = ()
    late: int = 0
    sent: tuple[Sent, ...] = ()
    state: int = 0
    busy: Things = ()
    work: Things = ()


class Faults(NamedTuple):
    """How often each may still happen. special: the subclass's own."""

    claims: int
    timeouts: int = 0
    copies: int = 0
    silences: int = 0
    crashes: int = 0
    losses: int = 0
    special: int = 0


NO_FAULTS = Faults(0)


class World(NamedTuple):
    log: int
    workers: tuple[Worker, ...]
    ghosts: tuple[Packet, ...]
    faults: Faults
    outside: Things
    wrong: str = ""


Move: TypeAlias = tuple[Label, World]
FRESH = Worker()


def name(index: int) -> str:
    return "ABC"[index]


def first_under_way(worker: Worker) -> int | None:
    """Records of one worker land in the order in which they were handed over."""
    for place, sent in enumerate(worker.sent):
        if sent.fate == UNDER_WAY:
            return place
    return None


def one_later(world: World, besides: int = -1) -> World:
    """One more record in the log; besides: whose own it is."""
    workers = tuple(
        w._replace(late=min(w.late + 1, LATE_MAX)) if index != besides and _has_epoch(w) else w
        for index, w in enumerate(world.workers)
    )
    return world._replace(workers=workers)


def superseded(world: World, log: int) -> World:
    """A claim counts: every other epoch is an old one now."""
    later = one_later(world)
    workers = tuple(w._replace(epoch=0) if w.epoch else w for w in later.workers)
    old = {OLD_CLAIM if packet in (CLAIM, OLD_CLAIM) else JUNK for packet in world.ghosts}
    return later._replace(log=log, workers=workers, ghosts=tuple(sorted(old)))


def _has_epoch(worker: Worker) -> bool:
    return worker.mode == LEADING or (
        worker.mode == CLAIMING and bool(worker.sent[0].fate & COUNTED)
    )
