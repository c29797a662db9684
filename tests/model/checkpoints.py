"""A history with checkpoints, folded from anywhere: what a new owner makes of it, and trimming.

Here the log is kept, record by record, because marks are offsets. What the other machines show is
taken as given: a leader is replaced by a claim, and goes on for a while without knowing it, so
that its records land void among those that count; and a leader whose records land later than it
takes them to land goes on for a while, too, and then they count.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from enum import Enum
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from stepfold.core import events as e
from stepfold.core.ids import NO_EPOCH, Epoch
from stepfold.core.shard import Shard
from stepfold.engine import checkpoints
from stepfold.engine.checkpoints import Checkpoints
from tests.model.folds import Folds, Log
from tests.model.histories import claim_of
from tests.model.pen import GUARD, NOW_MS, Client, history_on
from tests.model.samples import beginning
from tests.model.search import Label
from tests.model.trimming import trim_before
from tests.model.two_runs import DOINGS, RUNS, events_of

CHECKPOINT = "checkpoint"
EPOCH = Epoch(0, 100)


class Pen(NamedTuple):
    """A leader. shard: as it knows it. queue: records appended, not landed. waiting: the runs that
    its checkpoint has still to write; None: it makes none.
    """

    epoch: Epoch
    shard: int
    queue: tuple[int, ...] = ()
    waiting: tuple[str, ...] | None = None


class History(NamedTuple):
    """begin: the offset of the first record that is not deleted. zombie: the leader that was
    replaced last, which does not know. marks: those of proven checkpoints. Then, how often a
    claim, a void record and a deletion may still come.
    """

    log: Log
    begin: int
    leader: Pen
    zombie: Pen | None
    marks: tuple[int, ...]
    claims: int
    voids: int
    trims: int
    wrong: str = ""


Move: TypeAlias = tuple[Label, History]


class Hints(Enum):
    """Where else than at a mark a fold is tried: hints are not to be believed."""

    COUNTING = "at every record that counts"
    ANY = "at every record; void ones then are those that the replaced leader really wrote"


class Without(Enum):
    NOTHING = "nothing"
    COMPLETENESS = "a fold from a hint is used though no checkpoint says that it is complete"
    MARK = "records are deleted up to the end of the last checkpoint, not up to its mark"
    MARK_AS_BEGIN = "records are deleted up to the lower of the mark and what is still read"
    PROOF = "records are deleted up to the mark of a checkpoint that is appended, not yet proven"


class OpenCheckpoints(Checkpoints):
    """The engine's, made anew where another one left off; due at once."""

    def put(self, waiting: tuple[str, ...] | None) -> None:
        self._waiting = None if waiting is None else deque(waiting)

    def take(self) -> tuple[str, ...] | None:
        return None if self._waiting is None else tuple(self._waiting)

    def go_on(self) -> None:
        self._go_on()

    def _span(self, shard: Shard) -> int:
        return 1


class CheckpointMachine:
    def __init__(
        self,
        *,
        records_max: int,
        claims: int,
        voids: int = 0,
        trims: int = 0,
        doings: tuple[str, ...] = DOINGS,
        hints: Hints = Hints.COUNTING,
        without: Without = Without.NOTHING,
        kind: type[OpenCheckpoints] = OpenCheckpoints,
    ) -> None:
        self._folds = Folds()
        self._records_max = records_max
        self._budget = (claims, voids, trims)
        self._doings = (*doings, CHECKPOINT)
        self._hints = hints
        self._without = without
        self._kind = kind
        self._appended = lru_cache(None)(self._append)
        self._wrong = lru_cache(None)(self._judge)

    # A machine, for the search

    def initial(self) -> History:
        claim = e.Recorded(0, NO_EPOCH, -1, NOW_MS, claim_of(NO_EPOCH, EPOCH.nonce))
        opened = e.Recorded(1, EPOCH, 0, NOW_MS, beginning()[0])
        log = tuple(map(self._folds.record_number, (claim, opened)))
        return History(log, 0, Pen(EPOCH, self._folds.of(log, 0)), None, (), *self._budget)

    def canonical(self, state: History) -> History:
        return state

    def stuck(self, state: History) -> str:
        return ""

    def successors(self, state: History) -> Iterator[Move]:
        yield from self._trimmed(state)
        if len(state.log) >= self._records_max:
            return
        for label, leader in self._goes_on(state.leader):
            yield ("the leader appends: {}", label), state._replace(leader=leader)
        if state.leader.queue:
            yield self._lands(state)
        if state.claims:
            yield self._claimed(state)
        if state.claims < self._budget[0]:
            yield from self._void(state)

    # Leaders

    def _goes_on(self, pen: Pen) -> Iterator[tuple[str, Pen]]:
        if not pen.queue:
            for doing in self._doings:
                grown = self._appended(pen, doing)
                if grown is not None:
                    yield doing, grown

    def _lands(self, state: History) -> Move:
        leader, offset = state.leader, len(state.log)
        record = self._folds.record(leader.queue[0])
        expected = leader.epoch.offset + 1 + record.seq
        marks = state.marks
        if isinstance(record.event, e.CheckpointEnd) and offset == expected:
            marks = tuple(sorted({*marks, record.event.lwm}))
        landed = state._replace(
            log=(*state.log, leader.queue[0]),
            leader=leader._replace(queue=leader.queue[1:]),
            marks=marks,
        )
        late = "" if offset == expected else f", though expected at {expected}"
        label: Label = ("{} lands at {}{}", self._named(leader.queue[0]), offset, late)
        return label, self._judged(landed)

    def _void(self, state: History) -> Iterator[Move]:
        """A record of a leader that was replaced. What it says matters to false hints only."""
        offset = len(state.log)
        if self._hints is Hints.COUNTING:
            if state.voids:
                old = e.Recorded(-1, NO_EPOCH, 0, NOW_MS, e.Drained(reason="", open_attempts=0))
                log = (*state.log, self._folds.record_number(old))
                landed = state._replace(log=log, voids=state.voids - 1)
                yield ("a late record of an old epoch lands at {}", offset), self._judged(landed)
            return
        zombie = state.zombie
        if zombie is None:
            return
        for label, grown in self._goes_on(zombie):
            yield ("the replaced leader appends: {}", label), state._replace(zombie=grown)
        if zombie.queue:
            log = (*state.log, zombie.queue[0])
            landed = state._replace(log=log, zombie=zombie._replace(queue=zombie.queue[1:]))
            what = self._named(zombie.queue[0])
            yield ("late, {} lands at {} and is void", what, offset), self._judged(landed)

    def _claimed(self, state: History) -> Move:
        """A new owner folds, from the last mark or from the first record, and its claim counts."""
        begin = max((mark for mark in state.marks if mark >= state.begin), default=state.begin)
        folded = self._folds.of(state.log, begin)
        offset = len(state.log)
        epoch = Epoch(offset, EPOCH.nonce + offset)
        claim = claim_of(self._folds.shard(folded).chain.epoch, epoch.nonce)
        number = self._folds.record_number(e.Recorded(offset, NO_EPOCH, -1, NOW_MS, claim))
        owner = Pen(epoch, self._folds.on(folded, offset, number))
        label = ("another worker folds from {}, and its claim counts at {}", begin, offset)
        claimed = state._replace(
            log=(*state.log, number),
            leader=owner,
            zombie=None if self._hints is Hints.COUNTING else state.leader,
            claims=state.claims - 1,
        )
        return label, self._judged(claimed)

    # What has to hold of every fold

    def _judged(self, state: History) -> History:
        wrong = self._wrong(state.log, state.begin, state.marks)
        return state._replace(wrong=wrong) if wrong else state

    def _judge(self, log: Log, begin: int, marks: tuple[int, ...]) -> str:
        folds = self._folds
        if begin > 0 and (folds.is_partial(log, begin) or not folds.are_alike(log, begin)):
            return f"P8: what is left from {begin} on does not fold to what was there"
        for mark in marks:
            if mark >= begin and folds.is_partial(log, mark):
                return f"P8: no checkpoint that ends behind the mark {mark} says that it holds"
            if mark >= begin and not folds.are_alike(log, mark):
                return f"P7: the fold from the mark {mark} is not the fold from the start"
        for hint in range(max(begin, 1), len(log)):
            if not self._is_used(log, hint) or folds.are_alike(log, hint):
                continue
            # A record that never counted tells of an epoch that is not in force: a claim which
            # names it is void, so that such a fold decides nothing.
            if folds.epoch(log, hint) == folds.epoch(log, 0):
                return f"P7: the fold from the hint {hint} is used, and is not that from the start"
        return ""

    def _is_used(self, log: Log, hint: int) -> bool:
        """Whether an owner that is led to this offset is content with the fold from there."""
        if self._hints is Hints.COUNTING and not self._folds.counts(log[: hint + 1]):
            return False
        return self._without is Without.COMPLETENESS or not self._folds.is_partial(log, hint)

    # Trimming

    def _trimmed(self, state: History) -> Iterator[Move]:
        if state.trims:
            for before in sorted(self._bounds(state)):
                if before > state.begin:
                    trimmed = state._replace(begin=before, trims=state.trims - 1)
                    yield ("records before {} are deleted", before), self._judged(trimmed)

    def _bounds(self, state: History) -> set[int]:
        end = len(state.log)
        marks = state.marks
        if self._without is Without.PROOF:
            appended = self._folds.shard(state.leader.shard).lwm
            marks = (appended,) if 0 < appended <= end else ()
        if not marks:
            return set()
        if self._without is Without.MARK:
            return {self._folds.shard(self._folds.of(state.log, 0)).checkpoint_offset}
        if self._without is Without.MARK_AS_BEGIN:
            return {min(max(marks), kept_from) for kept_from in range(1, end + 1)}
        bounds = {trim_before(marks, kept_from=kept_from) for kept_from in range(1, end + 1)}
        return {bound for bound in bounds if bound is not None}

    # The engine's code, each case once

    def _append(self, pen: Pen, doing: str) -> Pen | None:
        shard, client = self._folds.copy(pen.shard), Client()
        history = history_on(shard, pen.epoch, client)
        waiting = pen.waiting
        if doing == CHECKPOINT:
            maker = self._kind(
                history=history, guard=GUARD, on_done=lambda mark: None, events_between=1
            )
            maker.put(waiting)
            with _one_run_per_slice():
                maker.begin_if_due() if waiting is None else maker.go_on()
            waiting = maker.take()
        else:
            for event in events_of(shard, doing):
                history.append(event)
        queue = tuple(map(self._folds.record_number, client.events()))
        return Pen(pen.epoch, self._folds.number(shard), queue, waiting) if queue else None

    def _named(self, record: int) -> str:
        event = self._folds.record(record).event
        run_id = getattr(event, "run_id", "")
        if isinstance(event, e.CheckpointEnd):
            return f"CheckpointEnd(mark {event.lwm})"
        return f"{type(event).__name__}({f'run {RUNS.index(run_id)}' if run_id in RUNS else ''})"


@contextmanager
def _one_run_per_slice() -> Generator[None]:
    """So that events come in between the snapshots of two runs."""
    many = checkpoints.RUNS_PER_SLICE
    checkpoints.RUNS_PER_SLICE = 1
    try:
        yield
    finally:
        checkpoints.RUNS_PER_SLICE = many
