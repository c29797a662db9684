"""An inbox that several workers take in, in turn: no trigger is lost, and none is taken twice.

The engine's intake does it, on the engine's leader. The inbox holds a trigger, a record that
nobody wants, one that cannot be read, and a repetition of the first trigger, for whose run a
signal came before it: the signal has to reach the first run.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple, cast

from stepfold.core import commands as c
from stepfold.core import events as e
from stepfold.core.ids import Position, run_id_of
from stepfold.core.run import Run
from stepfold.core.shard import evolve
from stepfold.engine.intake import Intake
from stepfold.journal.codec import encode_command
from stepfold.journal.port import Batch, BatchSink, LogRecord, Report
from tests.model.histories import IN_FORCE, Histories
from tests.model.led import TOPICS, Leading, OpenLeader
from tests.model.pen import GUARD, NOW_MS
from tests.model.samples import CONTROL, INBOX, TOPIC_SHORT, WORKFLOW, app_of_steps, beginning
from tests.model.workers import ShardMachine
from tests.model.worlds import (
    LEADING,
    UNDER_WAY,
    Faults,
    Move,
    Sent,
    Things,
    Worker,
    World,
    name,
)

RECORDS = ("a trigger", "a record that nobody wants", "an unreadable record", "a repetition")
RUN_IDS = tuple(run_id_of(0, TOPIC_SHORT, offset) for offset in range(len(RECORDS)))
ACCEPTED = 0
REPEATED = 3
SIGNAL = "the early one"
NONE = -1
BATCH_MAX = 2


class Work(NamedTuple):
    """cursor: what the reader delivers next. copying: the record whose copy the DLQ has to take
    first; flies: whether the copy is on its way. queue: records that wait behind it.
    """

    cursor: int
    copying: int
    flies: int
    queue: tuple[int, ...]


class Outside(NamedTuple):
    """committed: the group's offset. dlq: which records have a copy there."""

    committed: int
    dlq: tuple[int, ...]


class Taken(NamedTuple):
    work: Work
    events: tuple[int, ...]
    state: int


class StillLeader(OpenLeader):
    """Runs no code: what becomes of a run is the business of other machines."""

    def go_on(self, run: Run) -> None:
        """There is nothing to go on with."""


class Shelf:
    """Remembers from where it is to deliver. A Reader."""

    def __init__(self) -> None:
        self.opened_at = NONE

    def open(self, topic: str, partition: int, offset: int, sink: BatchSink) -> None:
        self.opened_at = offset

    def close(self, topic: str, partition: int) -> None:
        """Nothing is delivered but by a move."""

    def pause(self, topic: str, partition: int) -> None:
        """There are not so many runs here."""

    def resume(self, topic: str, partition: int) -> None:
        """There are not so many runs here."""


class OpenIntake(Intake):
    """The engine's intake, made anew where another one left off."""

    def put(self, copying: int, queue: tuple[int, ...]) -> None:
        self._copying = None if copying == NONE else record_at(copying)
        self._records.extend(map(record_at, queue))

    def copying_and_queue(self) -> tuple[int, tuple[int, ...]]:
        copying = NONE if self._copying is None else self._copying.offset
        return copying, tuple(record.offset for record in self._records)

    def copied(self, offset: int, *, is_copied: bool) -> None:
        report = Report(offset, 0, None) if is_copied else Report(None, 0, "failed")
        self._copied(record_at(offset), "unreadable", report)

    def copy_again(self, offset: int) -> None:
        self._copy_to_dlq(record_at(offset), "unreadable")


class Intakes(ShardMachine):
    """opens_at_committed: a rule that can be left out: intake begins where the fold says."""

    def __init__(
        self,
        *,
        workers: int,
        faults: Faults,
        intake: type[OpenIntake] = OpenIntake,
        opens_at_committed: bool = False,
    ) -> None:
        super().__init__(Histories(), workers=workers, faults=faults)
        self._app = app_of_steps(0)
        self._intake = intake
        self._opens_at_committed = opens_at_committed
        self._began = lru_cache(None)(self._begin)
        self._did = lru_cache(None)(self._do)

    # What the search asks

    def opening(self) -> tuple[int, Things]:
        shard = self.histories.empty()
        for event in (*beginning(), _early_signal()):
            evolve(shard, event, NOW_MS, IN_FORCE)
        return self.histories.number(shard), Outside(NONE, ())

    def lead(self, world: World, worker: Worker) -> Worker:
        began = self._began(worker.state)
        committed = cast("Outside", world.outside).committed
        if self._opens_at_committed and committed != NONE:
            began = began._replace(work=began.work._replace(cursor=committed))
        return _grown(worker, began)

    def act(self, world: World, index: int, sent: Sent) -> World:
        return world

    def counted(self, world: World, event: int) -> str:
        fact = self.histories.event(event)
        source: Position | None = getattr(fact, "source", None)
        if source is None or source.topic_id != INBOX:
            return ""
        taken = self.histories.shard(world.log).intake[INBOX, 0].offset
        first = fact.from_offset if isinstance(fact, e.IntakeUnmatched) else source.offset
        if first > taken + 1:
            return "P4: a record of the inbox is passed over"
        if source.offset <= taken:
            return "P4: a record of the inbox is taken twice"
        outside = cast("Outside", world.outside)
        if isinstance(fact, e.IntakeRejected) and source.offset not in outside.dlq:
            return "P4: a record is rejected of which there is no copy"
        return ""

    def moves(self, world: World, index: int) -> Iterator[Move]:
        worker = world.workers[index]
        if worker.mode != LEADING:
            return
        work = cast("Work", worker.work)
        yield from self._copies(world, index, work)
        for size in range(1, BATCH_MAX + 1):
            end = work.cursor + size
            if end <= len(RECORDS):
                what = "delivers {} the next records, up to {}"
                yield self._delivers(world, index, what, range(work.cursor, end))
        if world.faults.special and work.cursor:
            faults = world.faults._replace(special=world.faults.special - 1)
            what = "delivers {} all records again, up to {}"
            yield self._delivers(world._replace(faults=faults), index, what, range(work.cursor))

    def around(self, world: World) -> Iterator[Move]:
        outside = cast("Outside", world.outside)
        if world.faults.special and outside.committed == NONE:
            faults = world.faults._replace(special=world.faults.special - 1)
            committed = outside._replace(committed=1)
            label = ("somebody commits offset 1 for the group",)
            yield label, world._replace(faults=faults, outside=committed)

    def is_good(self, world: World) -> bool:
        shard = self.histories.shard(world.log)
        run = shard.runs.get(RUN_IDS[ACCEPTED])
        return (
            shard.intake[INBOX, 0].offset == len(RECORDS) - 1
            and run is not None
            and [signal.id for signal in run.signals] == [SIGNAL]
        )

    def describe(self, event: int) -> str:
        fact = self.histories.event(event)
        source: Position | None = getattr(fact, "source", None)
        offset = "" if source is None or source.topic_id != INBOX else source.offset
        return f"{type(fact).__name__}({offset})"

    # What a leader does

    def _copies(self, world: World, index: int, work: Work) -> Iterator[Move]:
        if work.copying == NONE:
            return
        if not work.flies:
            yield (
                ("{} copies record {} to the DLQ again", name(index), work.copying),
                self._after(world, index, "again"),
            )
            return
        outside = cast("Outside", world.outside)
        dlq = tuple(sorted({*outside.dlq, work.copying}))
        there = world._replace(outside=outside._replace(dlq=dlq))
        yield (
            ("{} hears that the DLQ has its copy of record {}", name(index), work.copying),
            self._after(there, index, "copied"),
        )
        if world.faults.special:
            faults = world.faults._replace(special=world.faults.special - 1)
            for after, where in ((there, "it is there all the same"), (world, "it is not there")):
                yield (
                    ("{} hears that its copy of record {} failed; {}",
                     name(index), work.copying, where),
                    self._after(after._replace(faults=faults), index, "failed"),
                )  # fmt: skip

    def _delivers(self, world: World, index: int, what: str, offsets: range) -> Move:
        label = (f"the reader {what}", name(index), offsets[-1])
        return label, self._after(world, index, "take", tuple(offsets))

    def _after(self, world: World, index: int, what: str, offsets: tuple[int, ...] = ()) -> World:
        worker = world.workers[index]
        taken = self._did(worker.state, cast("Work", worker.work), what, offsets)
        return self.put(world, index, _grown(worker, taken))

    # The engine's code, each case once

    def _begin(self, state: int) -> Taken:
        leading = self._leading(state)
        leading.leader.start(in_order=False)
        shelf = Shelf()
        intake = self._intake(leading.leader, TOPICS.inbox, shelf, leading.client, GUARD)
        intake.open()
        return self._taken(leading, Work(shelf.opened_at, NONE, 0, ()))

    def _do(self, state: int, work: Work, what: str, offsets: tuple[int, ...]) -> Taken:
        leading = self._leading(state)
        intake = self._intake(leading.leader, TOPICS.inbox, Shelf(), leading.client, GUARD)
        intake.put(work.copying, work.queue)
        cursor, flies = work.cursor, work.flies
        match what:
            case "take":
                cursor = max(cursor, offsets[-1] + 1)
                records = tuple(map(record_at, offsets))
                intake.take(Batch(records, at_end=False, position=offsets[-1] + 1))
            case "again":
                intake.copy_again(work.copying)
            case _:
                intake.copied(work.copying, is_copied=what == "copied")
                flies = 0
        if any(handed.topic == TOPICS.dlq.name for handed in leading.client.handed):
            flies = 1
        copying, queue = intake.copying_and_queue()
        return self._taken(leading, Work(cursor, copying, flies if copying != NONE else 0, queue))

    def _leading(self, state: int) -> Leading:
        return Leading(self._app, self.histories.copy(state), IN_FORCE, leader=StillLeader)

    def _taken(self, leading: Leading, work: Work) -> Taken:
        records = leading.client.events()
        numbers = tuple(self.histories.event_number(r.event, r.at) for r in records)
        return Taken(work, numbers, self.histories.number(leading.leader.shard))


def _grown(worker: Worker, taken: Taken) -> Worker:
    sent = (*worker.sent, *(Sent(event, UNDER_WAY) for event in taken.events))
    return worker._replace(sent=sent, state=taken.state, work=taken.work)


def record_at(offset: int) -> LogRecord:
    return LogRecord(
        topic=TOPICS.inbox.name,
        partition=0,
        offset=offset,
        leader_epoch=0,
        timestamp=NOW_MS,
        key=b"",
        value=_VALUES[offset],
        headers=(),
    )


def _start(key: str) -> bytes:
    return encode_command(
        c.Trigger(
            name="",
            id="",
            workflow=WORKFLOW,
            payload=b"",
            payload_encoding="none",
            key_id="",
            idempotency_key=key,
            sent_at=0,
        )
    )


_VALUES = (_start("once"), b'{"name": "nobody/listens"}', b"\xff", _start("once"))


def _early_signal() -> e.SignalBuffered:
    return e.SignalBuffered(
        source=Position(CONTROL, 0, 0, 0),
        run_id=RUN_IDS[REPEATED],
        signal_id=SIGNAL,
        name="s",
        payload=b"",
        payload_encoding="none",
        key_id="",
        ttl_at=0,
    )
