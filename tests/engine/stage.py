"""The real engine on a log in memory: workers, a shard, and what its history says.

Every scene ends with the same question: does a run beside the bad one, of the same shard,
still go from its trigger to its end? A callback that raised fails the scene as well.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from stepfold import App, Retry, step
from stepfold.core import commands as c
from stepfold.core import events as e
from stepfold.core.ids import run_id_of, short_topic_id
from stepfold.core.shard import Chain
from stepfold.engine.checkpoints import EVENTS_BETWEEN
from stepfold.engine.clock import Handle
from stepfold.engine.shard_states import ShardState
from stepfold.engine.worker import Worker
from stepfold.journal.codec import decode_event, encode_command
from stepfold.journal.memory import MemoryCluster, MemoryJournal
from stepfold.journal.port import Headers, LogRecord

APP = "stage"
WAIT_S = 10.0
ENDINGS = (e.RunCompleted, e.RunFailed, e.RunCancelled)
QUICK = Retry(attempts=2, min_delay="10ms", jitter=0)

E = TypeVar("E", bound=e.Event)


@dataclass
class Member:
    """One worker process, played by a task."""

    name: str
    journal: MemoryJournal
    worker: Worker
    working: asyncio.Task[None]

    @property
    def state(self) -> ShardState | None:
        return next(iter(self.worker.states().values()), None)

    @property
    def fault(self) -> str:
        """Why its shard is not led."""
        return next(iter(self.worker.faults().values()))

    def rejoin(self) -> None:
        """Come back to the group after it had given this member up."""
        for membership in self.journal.memberships:
            membership.group.join(membership)

    async def kill(self) -> None:
        """As kill -9 would: nothing is written any more, and nobody is told."""
        self.journal.kill()
        self.working.cancel()
        with suppress(asyncio.CancelledError):
            await self.working


class Stage:
    def __init__(self, app: App) -> None:
        self.app = app
        self.cluster = MemoryCluster()
        self.topics = self.cluster.create_app(app.name, 1)
        self.members: list[Member] = []
        self.troubles: list[str] = []
        self.events_between_checkpoints = EVENTS_BETWEEN
        self._decoded: list[e.Recorded] = []
        self._counting: list[e.Recorded] = []
        self._chain = Chain()
        self._signals = itertools.count(1)
        self._changed = asyncio.Event()
        self.cluster.log(self.topics.history.name, 0).watchers.add(self._changed.set)
        asyncio.get_running_loop().set_exception_handler(self._note_trouble)

    # What happens

    def join(self, name: str = "worker", app: App | None = None) -> Member:
        """Another worker process."""
        journal = MemoryJournal(self.cluster, name)
        worker = Worker(
            journal,
            [app or self.app],
            worker_id=name,
            events_between_checkpoints=self.events_between_checkpoints,
        )
        working = asyncio.get_running_loop().create_task(
            worker.run(ready=lambda: None, stopping=asyncio.Event())
        )
        member = Member(name, journal, worker, working)
        self.members.append(member)
        return member

    def start(
        self, workflow: str, data: object = None, *, payload: bytes | None = None, key: str = ""
    ) -> str:
        """The id of the run that this trigger becomes. payload: in place of data as JSON."""
        trigger = c.Trigger(
            name="",
            id="",
            workflow=workflow,
            payload=json.dumps(data).encode() if payload is None else payload,
            payload_encoding="json",
            key_id="",
            idempotency_key=key,
            sent_at=0,
        )
        return self.run_id(self.put(encode_command(trigger)))

    def send(self, name: str, data: object = None) -> str:
        """The id of the first run that this event starts, if it starts any."""
        return self.run_id(self.put(json.dumps({"name": name, "data": data}).encode()))

    def put(self, value: bytes | None, headers: Headers | None = None) -> LogRecord:
        return self.cluster.append(self.topics.inbox.name, 0, b"", value, headers or [])

    def signal(self, run_id: str, name: str, data: object = None, id: str | None = None) -> None:  # noqa: A002 - the field's name
        self.command(
            c.Signal(
                run_id=run_id,
                signal_id=f"signal-{next(self._signals)}" if id is None else id,
                name=name,
                payload=json.dumps(data).encode(),
                payload_encoding="json",
                key_id="",
            )
        )

    def cancel(self, run_id: str) -> None:
        self.command(c.Cancel(run_id=run_id, by="test", reason="enough"))

    def command(self, command: c.Control | c.Trigger) -> None:
        self.put_control(encode_command(command))

    def put_control(self, value: bytes | None, headers: Headers | None = None) -> LogRecord:
        return self.cluster.append(self.topics.control.name, 0, b"", value, headers or [])

    def run_id(self, trigger: LogRecord, number: int = 0) -> str:
        topic = short_topic_id(self.topics.inbox.topic_id)
        return run_id_of(trigger.partition, topic, trigger.offset, number)

    def run_id_after(self, records: int) -> str:
        """The id of the run that a trigger will become, so many records later."""
        end = len(self.cluster.records(self.topics.inbox.name, 0))
        return run_id_of(0, short_topic_id(self.topics.inbox.topic_id), end + records)

    def fresh_app(self) -> App:
        """The app as another release declares it, so far with the workflow beside alone."""
        app = App(APP, retry=QUICK)
        _declare_beside(app)
        return app

    def count_wakes(self, member: Member) -> list[int]:
        """The due times of all alarms that the worker sets from now on."""
        clock = member.worker.around.clock
        set_alarm, due_times = clock.call_at, list[int]()

        def call_at(due_ms: int, callback: Callable[[], None]) -> Handle:
            due_times.append(due_ms)
            return set_alarm(due_ms, callback)

        clock.call_at = call_at  # type: ignore[method-assign] # it is watched, not replaced
        return due_times

    # What the log says

    @property
    def history(self) -> list[e.Recorded]:
        """The records that count, those that were deleted since included."""
        self._read_on()
        return self._counting

    @property
    def decoded(self) -> list[e.Recorded]:
        """All records, those that do not count as well."""
        self._read_on()
        return self._decoded

    def _read_on(self) -> None:
        log = self.cluster.log(self.topics.history.name, 0)
        for record in log.records[max(0, len(self._decoded) - log.low) :]:
            recorded = decode_event(record.value or b"", record.offset)
            self._decoded.append(recorded)
            if self._chain.admit(recorded):
                self._counting.append(recorded)

    @property
    def dlq(self) -> list[LogRecord]:
        return self.cluster.records(self.topics.dlq.name, 0)

    def of(self, kind: type[E], run_id: str | None = None) -> list[E]:
        return [
            record.event
            for record in self.history
            if isinstance(record.event, kind)
            and run_id in (None, getattr(record.event, "run_id", None))
        ]

    def kinds(self, run_id: str) -> list[str]:
        """The events of a run, by name, without its acceptance."""
        return [
            type(record.event).__name__
            for record in self.history
            if getattr(record.event, "run_id", None) == run_id
            and not isinstance(record.event, e.RunAccepted)
        ]

    async def until(self, is_so: Callable[[], object]) -> None:
        """Wait for the history, or what follows from it, to show something."""
        async with asyncio.timeout(WAIT_S):
            while not is_so():
                for member in self.members:
                    if member.working.done() and not member.working.cancelled():
                        member.working.result()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), 0.02)
                self._changed.clear()

    async def first(self, kind: type[E], run_id: str | None = None) -> E:
        await self.until(lambda: self.of(kind, run_id))
        return self.of(kind, run_id)[0]

    async def end_of(self, run_id: str) -> e.Event:
        """How the run ended, or was parked."""
        endings = (*ENDINGS, e.RunParked)

        def found() -> list[e.Event]:
            return [event for kind in endings for event in self.of(kind, run_id)]

        await self.until(found)
        return found()[0]

    async def failure_of(self, run_id: str) -> e.RunFailed:
        end = await self.end_of(run_id)
        assert isinstance(end, e.RunFailed), end
        return end

    async def result_of(self, run_id: str) -> Any:
        end = await self.end_of(run_id)
        assert isinstance(end, e.RunCompleted), end
        return json.loads(end.payload)

    async def close(self) -> None:
        for member in self.members:
            member.working.cancel()
        await asyncio.gather(*(m.working for m in self.members), return_exceptions=True)

    def _note_trouble(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.troubles.append(f"{context.get('message')}: {context.get('exception')!r}")


Scene = Callable[[Stage], Awaitable[None]]


def play(
    declare: Callable[[App], None], scene: Scene, *, join: bool = True, ends_led: bool = True
) -> None:
    """Play a scene with one worker, and see a run beside it to its end.

    Not so if the shard does not end up led: where its log is broken, that is the point.
    """

    async def main() -> None:
        app = App(APP, retry=QUICK)
        _declare_beside(app)
        declare(app)
        async with _stage(app) as there:
            if join:
                there.join()
            beside = there.start("beside", 1)
            await scene(there)
            if not ends_led:
                return
            there.signal(beside, "go", 2)
            fresh = there.start("beside", 10)
            there.signal(fresh, "go", 20)
            assert [await there.result_of(run) for run in (beside, fresh)] == [4, 31]

    asyncio.run(main())


def nothing(app: App) -> None:
    """The scene needs no workflow of its own."""


@asynccontextmanager
async def _stage(app: App) -> AsyncGenerator[Stage]:
    there = Stage(app)
    try:
        yield there
    finally:
        await there.close()
    assert there.troubles == []


def _declare_beside(app: App) -> None:
    @step
    async def add_one(number: int) -> int:
        return number + 1

    @app.workflow
    async def beside(number: int) -> int:  # pyright: ignore[reportUnusedFunction]
        more = await add_one(number)
        return more + (await step.wait_for_signal("go", int) or 0)
