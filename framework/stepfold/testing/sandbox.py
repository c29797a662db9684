"""The sandbox: an app, a worker, a log in memory, and a clock in the hands of the test."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TypeVar

from stepfold.core import commands as c
from stepfold.core import events as e
from stepfold.core.durations import Duration, to_milliseconds
from stepfold.core.ids import run_id_of, short_topic_id
from stepfold.core.run import StepStatus
from stepfold.journal.codec import decode_command, encode_command
from stepfold.journal.port import LogRecord, TopicFacts
from stepfold.sdk.app import App
from stepfold.sdk.event import Event
from stepfold.sdk.payload import decode, encode
from stepfold.sdk.workflow import WorkflowDefinition
from stepfold.testing.clock import ManualClock
from stepfold.testing.errors import SandboxError
from stepfold.testing.hold import Hold
from stepfold.testing.process import Process
from stepfold.testing.run import SandboxRun
from stepfold.testing.story import Story, moment
from stepfold.testing.world import SandboxCluster

Input = TypeVar("Input")
Result = TypeVar("Result")

BEGIN = datetime(2027, 1, 1, tzinfo=UTC)
PATIENCE_S = 10.0
"""Real time in which nothing happens although something should, before a test is told."""
EAGER_TURNS = 200
"""Looks at whether all is settled that follow each other at once; steps in threads take longer."""
LOOK_S = 0.001
SKIPS_MAX = 100_000
"""Moments that one call skips to: a workflow that polls for ever must not hang its test."""
PARTITION = 0


class Sandbox:
    """Runs an app's workflows for a test: `async with Sandbox(app) as sandbox:`.

    steps: functions to call in place of the steps of these names, or a Hold. skip_time:
    while a result is awaited, time goes to whatever is due next. begin: the time at the
    beginning, the first day of 2027 if not given; it moves only when the test moves it.

    Whatever a test calls here returns when all that can happen at that time has happened.
    """

    def __init__(
        self,
        app: App,
        *,
        steps: Mapping[str, Callable[..., Any]] | None = None,
        skip_time: bool = False,
        begin: datetime = BEGIN,
    ) -> None:
        self.skips_time = skip_time
        self._app = app
        self._steps = dict(steps or {})
        self._clock = ManualClock(round(begin.timestamp() * 1_000))
        self._cluster = SandboxCluster(self._clock.now_ms)
        self._topics = self._cluster.create_app(app.name, 1)
        self._story = Story(self._cluster.log(self._topics.history.name, PARTITION))
        self._dice = random.Random(app.name)
        self._numbers = itertools.count(1)
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        self._begin_process()
        await self.settle()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process, self._process = self._process, None
        if process is not None:
            await process.kill()

    # What happens

    async def start(
        self,
        workflow: WorkflowDefinition[Input, Result],
        input: Input | None = None,  # noqa: A002 - as the client names it
        /,
        *,
        idempotency_key: str = "",
    ) -> SandboxRun[Result]:
        """Start a workflow, as Client.start does; with a key that was used, the first run."""
        if workflow.app != self._app.name or workflow.name not in self._app.workflows:
            raise SandboxError(
                f"workflow {workflow.name!r} is of app {workflow.app!r}; this sandbox has app "
                f"{self._app.name!r} with {', '.join(self._app.workflows) or 'no workflows'}"
            )
        data = encode(input, f"the input of workflow {workflow.name!r}")
        runs = await self._trigger(workflow.name, data, workflow.name, key=idempotency_key)
        return SandboxRun(self, runs[0], workflow)

    async def send(self, event: Event[Any]) -> list[SandboxRun[Any]]:
        """Send an event; the runs that it starts, or started when it was sent before."""
        event_id = event.id or f"event-{self.next_number()}"
        data = encode(event.data, f"the data of event {event.name!r}")
        return [self._handle(run) for run in await self._trigger(event.name, data, id=event_id)]

    async def advance(self, by: Duration | None = None) -> None:
        """Let time pass: what is due by then happens, one thing after the other, in order.

        Without an argument, to the next moment at which something happens to a run.
        """
        if by is None:
            if not await self.skip():
                raise SandboxError("nothing is due at any time; see the `waits` of a run")
        else:
            await self._advance_to(self._clock.now_ms() + to_milliseconds(by))

    async def advance_to(self, when: datetime) -> None:
        """Let time pass until a moment, which has a time zone; one that is over is refused."""
        target_ms = round(when.timestamp() * 1_000)
        if when.tzinfo is None or target_ms < self._clock.now_ms():
            raise SandboxError(
                f"cannot advance to {when}: it is {self.now}, and time never goes back"
            )
        await self._advance_to(target_ms)

    async def crash(self) -> None:
        """End the worker as kill -9 does, and start another one, which goes on from the log."""
        await self.deploy(self._app)

    async def deploy(
        self, app: App, *, steps: Mapping[str, Callable[..., Any]] | None = None
    ) -> None:
        """As `crash`, but the new worker has this code. steps: stand-ins from now on."""
        if app.name != self._app.name:
            raise SandboxError(f"this sandbox is of app {self._app.name!r}, not of {app.name!r}")
        if self._process is not None:
            await self._process.kill()
        self._app = app
        self._steps = self._steps if steps is None else dict(steps)
        self._begin_process()
        await self.settle()

    # What a test sees

    @property
    def now(self) -> datetime:
        return moment(self._clock.now_ms())

    @property
    def runs(self) -> list[SandboxRun[Any]]:
        """All runs, child runs included, in the order in which they were accepted."""
        return [self._handle(run_id) for run_id in self.story.run_ids]

    async def sent_to(self, app: str) -> list[Event[Any]]:
        """The events that workflows have sent to another app, which nobody here works on."""
        topics = await self._running.journal.topics(app)
        commands = [
            decode_command(record.value or b"")
            for record in self._cluster.records(topics.inbox.name, PARTITION)
        ]
        return [
            Event(command.name, id=command.id or None, data=decode(command.payload))
            for command in commands
            if isinstance(command, c.Trigger)
        ]

    # For runs

    @property
    def story(self) -> Story:
        self._story.read_on()
        return self._story

    @property
    def now_ms(self) -> int:
        return self._clock.now_ms()

    def next_number(self) -> int:
        return next(self._numbers)

    async def settle(self) -> None:
        """Wait until nothing goes on any more. Raises SandboxError when that does not come."""
        loop = asyncio.get_running_loop()
        turns, seen, deadline = 0, -1, 0.0
        while True:
            process = self._running
            process.check()
            story = self.story
            if process.is_idle(self._held) and self._is_taken_in(story):
                return
            if seen != len(story.events):
                seen, deadline = len(story.events), loop.time() + PATIENCE_S
            if loop.time() > deadline:
                raise SandboxError(self._stuck(process))
            turns += 1
            await asyncio.sleep(0 if turns < EAGER_TURNS else LOOK_S)

    async def skip(self) -> bool:
        """Let time pass until something happens to a run; False when nothing is due."""
        before = self.story.run_events
        for _ in range(SKIPS_MAX):
            if self._clock.next_due_ms is None:
                return False
            self._clock.ring_next()
            await self.settle()
            if self.story.run_events > before:
                return True
        raise SandboxError(f"nothing happened to any run at {SKIPS_MAX} moments")

    async def command(self, command: c.Control) -> None:
        """Put a command on the control topic. Raises SandboxError when its run refuses it."""
        record = self._append(self._topics.control, encode_command(command))
        await self.settle()
        for _, event in self.story.events:
            if isinstance(event, e.IntakeRejected) and self._is_of(
                event, self._topics.control, record
            ):
                raise SandboxError(
                    f"the run did not take the {type(command).__name__.lower()}: {event.reason}"
                )

    # Inside

    @property
    def _running(self) -> Process:
        if self._process is None:
            raise SandboxError("the sandbox is not open: async with Sandbox(app) as sandbox:")
        return self._process

    @property
    def _held(self) -> int:
        holds = {id(hold): hold for hold in self._steps.values() if isinstance(hold, Hold)}
        return sum(hold.waiting for hold in holds.values())

    def _begin_process(self) -> None:
        app = self._app.with_stand_ins(self._steps)
        self._process = Process(app, self._cluster, self._clock, self._dice)

    def _handle(self, run_id: str) -> SandboxRun[Any]:
        definition = self._app.workflows.get(self.story.run(run_id).workflow)
        return SandboxRun(self, run_id, definition)

    async def _advance_to(self, target_ms: int) -> None:
        await self.settle()
        for _ in range(SKIPS_MAX):
            due_ms = self._clock.next_due_ms
            if due_ms is None or due_ms > target_ms:
                self._clock.move_to(target_ms)
                return
            self._clock.ring_next()
            await self.settle()
        raise SandboxError(
            f"more than {SKIPS_MAX} things were due until {moment(target_ms)}; it is {self.now}"
        )

    async def _trigger(
        self,
        name: str,
        data: bytes,
        workflow: str = "",
        *,
        id: str = "",  # noqa: A002 - the field's name
        key: str = "",
    ) -> list[str]:
        trigger = c.Trigger(
            name=name,
            id=id,
            workflow=workflow,
            payload=data,
            payload_encoding="json",
            key_id="",
            idempotency_key=key,
            sent_at=0,
        )
        record = self._append(self._topics.inbox, encode_command(trigger))
        await self.settle()
        topic = short_topic_id(self._topics.inbox.topic_id)
        first = run_id_of(PARTITION, topic, record.offset)
        for _, event in self.story.events:
            if isinstance(event, e.RunAccepted) and event.run_id == first:
                return [start.run_id for start in event.runs]
            if isinstance(event, e.RunDeduplicated) and event.run_id == first:
                return [event.existing_run_id]
            if isinstance(event, e.IntakeRejected) and self._is_of(
                event, self._topics.inbox, record
            ):
                raise SandboxError(f"the event was rejected: {event.reason}")
        return []

    def _append(self, topic: TopicFacts, value: bytes) -> LogRecord:
        self._running.check()
        return self._cluster.append(topic.name, PARTITION, b"", value, [])

    def _is_of(self, event: e.IntakeRejected, topic: TopicFacts, record: LogRecord) -> bool:
        source = event.source
        return (source.topic_id, source.offset) == (topic.topic_id, record.offset)

    def _is_taken_in(self, story: Story) -> bool:
        for topic in (self._topics.inbox, self._topics.control):
            taken = story.shard.intake.get((topic.topic_id, PARTITION))
            end = self._cluster.log(topic.name, PARTITION).end
            if end > 0 and (taken is None or taken.offset + 1 < end):
                return False
        return self._clock.is_quiet

    def _stuck(self, process: Process) -> str:
        if process.executor.running:
            attempts = [
                f"{name!r} of the run of {run.workflow!r}"
                for run in self.story.shard.runs.values()
                for name, step in run.steps.items()
                if step.status is StepStatus.OPEN
            ]
            return (
                f"nothing happened for {PATIENCE_S:g} s while these steps run: "
                f"{', '.join(attempts)}; give them stand-ins: Sandbox(app, steps={{...}}), or a "
                "Hold where the test is about what happens in the middle of a step"
            )
        return f"the engine did not settle within {PATIENCE_S:g} s; this is a fault of stepfold"
