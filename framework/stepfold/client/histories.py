"""What became of triggers and runs, read from the histories.

One reader serves all waits of a client. Each partition that somebody asks about is
followed from the earliest offset that matters, and what was seen is kept for those who
ask a moment later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from stepfold.client.joined import JoinedChain
from stepfold.core import events as e
from stepfold.core.errors import (
    CodecError,
    KafkaError,
    NotFoundError,
    RunCancelled,
    RunFailed,
)
from stepfold.journal.codec import decode_event
from stepfold.journal.port import Batch, Reader, TopicFacts

Key = TypeVar("Key", str, int)
Seen = TypeVar("Seen")

SEEN_MAX = 50_000
"""Ends and intakes of one partition that are remembered."""
ENDS = (e.RunCompleted, e.RunFailed, e.RunCancelled, e.RunDeduplicated)
Fate = e.RunCompleted | e.RunFailed | e.RunCancelled | e.RunDeduplicated
Taken = e.RunAccepted | e.RunDeduplicated | e.IntakeUnmatched | e.IntakeRejected


class Histories:
    def __init__(self, reader: Callable[[], Reader]) -> None:
        self._reader = reader
        self._followed: dict[tuple[str, int], _Followed] = {}

    async def end_of(
        self, history: TopicFacts, partition: int, offset: int, run_id: str
    ) -> bytes | str:
        """The result of a run whose trigger was produced when the history ended at offset.

        A run id, when the trigger was a repetition: of the first run. Raises RunFailed or
        RunCancelled.
        """
        fate = await self._follow(history, partition, offset).end(run_id)
        match fate:
            case e.RunCompleted(payload=payload):
                return payload
            case e.RunFailed():
                raise RunFailed(fate.run_id, fate.error_type, fate.error_message)
            case e.RunCancelled(reason=reason):
                raise RunCancelled(fate.run_id, reason)
            case e.RunDeduplicated(existing_run_id=first):
                return first

    async def started_by(
        self, history: TopicFacts, partition: int, offset: int, inbox: TopicFacts, at: int
    ) -> tuple[list[str], bool]:
        """The runs that the record at inbox offset `at` started; true: an earlier one did.

        Raises NotFoundError when the record could not be read.
        """
        followed = self._follow(history, partition, offset)
        followed.inbox_id = inbox.topic_id
        taken = await followed.intake(at)
        match taken:
            case e.RunAccepted(runs=runs):
                return [run.run_id for run in runs], False
            case e.RunDeduplicated(existing_run_id=first):
                return [first], True
            case e.IntakeUnmatched():
                return [], False
            case e.IntakeRejected(reason=reason):
                raise NotFoundError(f"the event was rejected: {reason}; see {taken.dlq_topic}")

    def _follow(self, history: TopicFacts, partition: int, offset: int) -> _Followed:
        place = (history.name, partition)
        followed = self._followed.get(place)
        if followed is None:
            followed = self._followed[place] = _Followed()
            followed.begin = offset + 1
        if offset < followed.begin:
            followed.begin = offset
            followed.chain = JoinedChain()
            self._reader().open(history.name, partition, offset, followed.take)
        return followed


class _Followed:
    def __init__(self) -> None:
        self.begin = 0
        self.chain = JoinedChain()
        self.inbox_id = ""
        self._ends: dict[str, Fate] = {}
        self._taken: dict[int, Taken] = {}
        self._await_end: dict[str, list[asyncio.Future[Fate]]] = {}
        self._await_intake: dict[int, list[asyncio.Future[Taken]]] = {}

    async def end(self, run_id: str) -> Fate:
        known = self._ends.get(run_id)
        if known is not None:
            return known
        future: asyncio.Future[Fate] = asyncio.get_running_loop().create_future()
        self._await_end.setdefault(run_id, []).append(future)
        return await future

    async def intake(self, offset: int) -> Taken:
        known = self._taken.get(offset)
        if known is not None:
            return known
        future: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()
        self._await_intake.setdefault(offset, []).append(future)
        return await future

    def take(self, batch: Batch) -> None:
        if batch.error is not None:
            self._fail(KafkaError(f"the history cannot be read: {batch.error}"))
            return
        for record in batch.records:
            try:
                recorded = decode_event(record.value or b"", record.offset)
            except CodecError as error:
                self._fail(error)
                return
            if self.chain.admit(recorded):
                self._tell(recorded.event)

    def _tell(self, event: e.Event) -> None:
        if isinstance(event, ENDS):
            _remember(self._ends, event.run_id, event)
            for future in self._await_end.pop(event.run_id, ()):
                if not future.done():
                    future.set_result(event)
        if isinstance(event, Taken) and event.source.topic_id == self.inbox_id:
            first = event.source.offset
            if isinstance(event, e.IntakeUnmatched):
                first = event.from_offset
            for offset in range(first, event.source.offset + 1):
                _remember(self._taken, offset, event)
                for waiting in self._await_intake.pop(offset, ()):
                    if not waiting.done():
                        waiting.set_result(event)

    def _fail(self, error: Exception) -> None:
        waiting: list[asyncio.Future[Any]] = []
        for end_futures in self._await_end.values():
            waiting.extend(end_futures)
        for intake_futures in self._await_intake.values():
            waiting.extend(intake_futures)
        self._await_end.clear()
        self._await_intake.clear()
        for future in waiting:
            if not future.done():
                future.set_exception(error)


def _remember(seen: dict[Key, Seen], key: Key, event: Seen) -> None:
    seen[key] = event
    if len(seen) > SEEN_MAX:
        del seen[next(iter(seen))]
