"""What a history says, told a second time and in other words.

Shares with the engine the codec and the event classes; the rule which records count, and
what follows from them, is written down here anew. If both understand the protocol, they agree.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pydantic_core

from stepfold.core import events as e
from stepfold.core.ids import Position
from stepfold.journal.codec import decode_event
from stepfold.journal.port import LogRecord

Owner: TypeAlias = tuple[int, int]
"""Offset and nonce of a claim."""
NOBODY: Owner = (-1, 0)
ENDINGS = (e.RunCompleted, e.RunFailed, e.RunCancelled)

EARLY = (e.SignalBuffered, e.CancelRequested, e.RunPaused, e.RunResumed)
NOT_OF_A_RUN = (e.RunDeduplicated, e.IntakeRejected, e.RunSnapshot)
"""They name a run, and nothing happens to it."""


@dataclass(slots=True, eq=False)
class Entry:
    """A record that counts. stamp: the broker's time; at: the writer's idea of it."""

    offset: int
    landed_us: int
    stamp: int
    at: int
    owner: Owner
    event: e.Event


@dataclass(slots=True, eq=False)
class RunStory:
    run_id: str
    accepted: Entry
    start: e.RunStart
    order: Any
    entries: list[Entry] = field(default_factory=list[Entry])
    ending: Entry | None = None

    @property
    def accepted_event(self) -> e.RunAccepted:
        assert isinstance(self.accepted.event, e.RunAccepted)
        return self.accepted.event


@dataclass(slots=True, eq=False)
class ShardStory:
    partition: int
    entries: list[Entry] = field(default_factory=list[Entry])
    runs: dict[str, RunStory] = field(default_factory=dict[str, RunStory])
    early: dict[str, list[Entry]] = field(default_factory=dict[str, list[Entry]])
    """Of runs that were not accepted yet."""
    problems: list[str] = field(default_factory=list[str])
    taken: dict[str, int] = field(default_factory=dict[str, int])
    """The last record of each source topic that became history."""
    decided: dict[str, int] = field(default_factory=dict[str, int])
    """The number of the last delivery for each target."""
    arrived: dict[str, int] = field(default_factory=dict[str, int])
    """And of the last one from each shard that was taken."""
    marks: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """Ends of checkpoints, and from where a fold may begin by each. Only proven ones: one that
    is not may count nevertheless, and names offsets that are of other records."""
    claims: int = 0
    void: int = 0
    open_runs: int = 0
    _owner: Owner = NOBODY
    _place: int = 0

    def mark(self, end: int) -> int:
        """From where a fold may begin that goes up to this offset."""
        return next((mark for offset, mark in reversed(self.marks) if offset <= end), 0)

    def take(self, record: LogRecord, landed_us: int) -> None:
        recorded = decode_event(record.value or b"", record.offset)
        event = recorded.event
        if isinstance(event, e.Claimed):
            if (event.prev_epoch_offset, event.prev_epoch_nonce) != self._owner:
                self.void += 1
                return
            self._owner, self._place = (record.offset, event.nonce), 0
            self.claims += 1
        elif tuple(recorded.epoch) != self._owner or recorded.seq != self._place:
            self.void += 1
            return
        else:
            self._place += 1
        entry = Entry(record.offset, landed_us, record.timestamp, recorded.at, self._owner, event)
        self.entries.append(entry)
        is_proven = record.offset == self._owner[0] + self._place
        if isinstance(event, e.CheckpointEnd) and is_proven:
            self.marks.append((record.offset, event.lwm))
        self._count_deliveries(event)
        self._tell(entry)

    def _count_deliveries(self, event: e.Event) -> None:
        for out in getattr(event, "out", ()):
            self.decided[out.target] = out.n
        origin: e.Origin = getattr(event, "origin", e.NOWHERE)
        if origin.shard:
            self.arrived[origin.shard] = origin.n

    def _tell(self, entry: Entry) -> None:
        event = entry.event
        source = source_of(event)
        if source is not None:
            self.taken[source.topic_id] = source.offset
        if isinstance(event, e.RunAccepted):
            for start in event.runs:
                self._begin(start, event, entry)
            return
        run_id: str = getattr(event, "run_id", "")
        if not run_id or isinstance(event, NOT_OF_A_RUN):
            return
        run = self.runs.get(run_id)
        if run is None:
            self.early.setdefault(run_id, []).append(entry)
            return
        # What comes late for a child run is kept for a day: its id does not tell that it is over.
        is_late = isinstance(event, EARLY) and bool(run.accepted_event.parent.run_id)
        if run.ending is not None and not is_late and not isinstance(event, e.ChildResolved):
            self.problems.append(f"{kind_of(event)} of run {run_id} after its end")
        run.entries.append(entry)
        if isinstance(event, ENDINGS) and run.ending is None:
            run.ending = entry
            self.open_runs -= 1

    def _begin(self, start: e.RunStart, event: e.RunAccepted, entry: Entry) -> None:
        if start.run_id in self.runs:
            self.problems.append(f"run {start.run_id} was accepted twice")
            return
        order = pydantic_core.from_json(event.payload) if event.payload else None
        run = RunStory(start.run_id, entry, start, order)
        run.entries.extend(self.early.pop(start.run_id, ()))
        self.runs[start.run_id] = run
        self.open_runs += 1


def source_of(event: e.Event) -> Position | None:
    """The record outside that the event takes in, if there is one."""
    source: Position | None = getattr(event, "source", None)
    return None if source is None or source.partition < 0 else source


def kind_of(event: e.Event) -> str:
    return type(event).__name__
