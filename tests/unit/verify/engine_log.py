"""A log that the engine itself writes, in memory: runs of all sorts, and workers that die.

    python -m tests.unit.verify.engine_log FOLDER

records it in files; the ones beside this module were made so, by the version that is
named in their folder.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from stepfold import App, Event, Retry, StepFailed, current_run, event, step
from stepfold.core import commands as c
from stepfold.core import events as e
from stepfold.core.ids import parse_run_id, run_id_of, short_topic_id
from stepfold.engine.worker import Worker
from stepfold.journal.codec import decode_event, encode_command, encode_event
from stepfold.journal.memory import MemoryCluster, MemoryJournal
from stepfold.journal.memory_scan import MemoryScan
from stepfold.journal.port import LogRecord
from stepfold.verify.app import verify_app
from stepfold.verify.export import export
from tests.unit.verify.logs import APP, CONTROL, HISTORY, INBOX, trigger_bytes

PARTITIONS = 2
RUNS = 6
EVENTS_BETWEEN_CHECKPOINTS = 40
WAIT_S = 20.0


@step
async def work(number: int) -> int:
    await asyncio.sleep(0.01)
    return number + 1


@step
async def flaky(number: int) -> int:
    if current_run().attempt < 3:
        raise ConnectionError("the first attempts fail")
    return number + 1


@step(timeout="20ms", retry=Retry(attempts=2, min_delay="5ms"))
async def slow() -> None:
    if current_run().attempt == 1:
        await asyncio.sleep(10)


async def chain(data: dict[str, Any]) -> int:
    value = await work(data["number"])
    first, second = await asyncio.gather(work(value), flaky(value))
    async with asyncio.timeout(3600):
        await step.sleep("nap", "20ms")
    await asyncio.sleep(0.02)
    await slow()
    for _ in range(4):
        value = await work(first + second)
    return value


async def approved(data: dict[str, Any]) -> str:
    early = await step.wait_for_signal("early", str, timeout="1h")
    await work(1)
    assert await step.wait_for_signal("never", str, timeout="30ms") is None
    said = await step.wait_for_signal("approval", str, timeout="1h")
    again = await step.wait_for_signal("approval", str, timeout="1h")
    await work(2)
    return f"{early} {said} {again}"


async def fails(data: None) -> None:
    raise ValueError("no such city")


async def waits(data: None) -> None:
    await asyncio.gather(step.sleep("long", "1h"), step.run("endless", asyncio.sleep, 3600))


async def double(number: int) -> int:
    return await work(number) * 2


async def endless(data: None) -> None:
    await asyncio.sleep(3600)


async def parent(data: None) -> list[int]:
    """Children in all partitions, of which one takes too long and one is given up."""
    await step.start("beside", "double", 7)
    await step.send_event("tell", Event("test/go", id=step.uuid().hex, data={"number": 9}))
    with suppress(StepFailed):
        await step.invoke("slow", "endless", timeout="30ms")
    with suppress(TimeoutError):
        async with asyncio.timeout(0.03):
            await step.invoke("hopeless", "endless")
    found: list[int] = await asyncio.gather(
        *(step.invoke("double", "double", number) for number in range(6))
    )
    return found


async def late(data: None) -> None:
    await work(0)


def make_app(*, has_all: bool) -> App:
    """has_all: with the workflow `late`, which the first workers do not have yet."""
    app = App(APP, retry=Retry(attempts=3, min_delay="10ms", jitter=0))
    app.workflow(on=event("test/go"))(chain)
    app.workflow(on=event("test/go", if_="event.data.number == 1"))(approved)
    for function in (fails, waits, double, endless, parent, *((late,) if has_all else ())):
        app.workflow(function)
    return app


class Engine:
    """A cluster in memory, its workers, and what users send."""

    def __init__(self) -> None:
        self.cluster = MemoryCluster()
        self.topics = self.cluster.create_app(APP, PARTITIONS)
        self._workers = 0
        self._grown = asyncio.Event()
        for partition in range(PARTITIONS):
            self.cluster.log(HISTORY, partition).watchers.add(self._grown.set)

    @asynccontextmanager
    async def worker(self, *, dies: bool, has_all: bool = True) -> AsyncGenerator[MemoryJournal]:
        """dies: as by kill -9, with what it had under way lost; else it drains."""
        self._workers += 1
        name = f"worker-{self._workers}"
        journal = MemoryJournal(self.cluster, name)
        worker = Worker(
            journal,
            [make_app(has_all=has_all)],
            worker_id=name,
            events_between_checkpoints=EVENTS_BETWEEN_CHECKPOINTS,
        )
        stopping = asyncio.Event()
        running = asyncio.create_task(worker.run(ready=lambda: None, stopping=stopping))
        try:
            yield journal
        finally:
            if dies:
                journal.kill(lands=self._workers % 2 == 0)
                running.cancel()
                await asyncio.wait((running,))
            else:
                stopping.set()
                await running

    def send(self, partition: int, value: bytes) -> str:
        """The id of the run that it starts, if it starts one."""
        record = self.cluster.append(INBOX, partition, None, value, [])
        topic = short_topic_id(self.topics.inbox.topic_id)
        return run_id_of(partition, topic, record.offset)

    def command(self, partition: int, command: c.Control) -> None:
        self.cluster.append(CONTROL, partition, None, encode_command(command), [])

    def signal(self, partition: int, run_id: str, name: str, number: int = 0) -> None:
        command = c.Signal(
            run_id=run_id,
            signal_id=f"{run_id}-{name}-{number}",
            name=name,
            payload=b'"yes"',
            payload_encoding="json",
            key_id="",
        )
        self.command(partition, command)

    def events(self) -> list[e.Event]:
        found: list[e.Event] = []
        for partition in range(PARTITIONS):
            records = self.cluster.records(HISTORY, partition)
            found += [decode_event(r.value or b"", r.offset).event for r in records]
        return found

    def count(self, kind: type[e.Event]) -> int:
        return sum(isinstance(each, kind) for each in self.events())

    def runs_of(self, workflow: str) -> list[str]:
        return [
            start.run_id
            for each in self.events()
            if isinstance(each, e.RunAccepted)
            for start in each.runs
            if start.workflow == workflow
        ]

    def is_over(self) -> bool:
        """Whether all runs have ended, and everything between shards has arrived."""
        report = verify_app(MemoryScan(self.cluster), APP, processes=1).report
        ended = report.runs["completed"] + report.runs["failed"] + report.runs["cancelled"]
        under_way = report.deliveries["decided"] - report.deliveries["taken"]
        return ended == report.runs.total() and not report.source_pending and not under_way

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Looks again whenever a history has grown."""
        async with asyncio.timeout(WAIT_S):
            while not is_so():
                self._grown.clear()
                await self._grown.wait()


async def eventful_log() -> Engine:
    """All sorts of runs, while workers die, freeze and come back."""
    engine = Engine()
    for partition in range(PARTITIONS):
        _send_all(engine, partition)
    async with engine.worker(dies=True, has_all=False):
        await engine.until(lambda: engine.count(e.StepCompleted) >= 2 * RUNS)
    async with engine.worker(dies=True, has_all=False):
        await engine.until(lambda: engine.count(e.TimerFired) >= RUNS)
        await engine.until(lambda: engine.count(e.CheckpointEnd) >= PARTITIONS)
    async with engine.worker(dies=True) as frozen:
        await engine.until(lambda: engine.count(e.Claimed) >= 3 * PARTITIONS)
        await engine.until(lambda: len(engine.runs_of("waits")) == PARTITIONS)
        for run_id in engine.runs_of("waits"):
            partition = parse_run_id(run_id).partition
            engine.command(partition, c.Cancel(run_id=run_id, by="test", reason="too long"))
            engine.send(partition, trigger_bytes("fails", "key-2"))
        # What it has under way lands behind the claims of the next one.
        frozen.appender.cut()
        engine.cluster.fence(APP, frozen.member, told=False)
        async with engine.worker(dies=False):
            await engine.until(lambda: engine.count(e.Claimed) >= 4 * PARTITIONS)
            frozen.appender.mend()
            await engine.until(engine.is_over)
    return engine


def _send_all(engine: Engine, partition: int) -> None:
    engine.send(partition, b"deleted before anybody read it")
    engine.cluster.delete_records(INBOX, partition, 1)
    go = b'{"name": "test/go", "id": "event-%d", "data": {"number": %d}}'
    for number in range(RUNS):
        run_id = engine.send(partition, go % (number, number))
        if number == 1:
            second = f"{run_id[:-2]}01"
            engine.signal(partition, second, "early")
            engine.signal(partition, second, "approval", 1)
            engine.signal(partition, second, "approval", 2)
    engine.send(partition, go % (0, 0))
    engine.send(partition, b'{"name": "test/nobody"}')
    engine.send(partition, b'{"name": "test/nobody"}')
    engine.send(partition, b"\xff neither JSON nor Avro")
    engine.send(partition, trigger_bytes("fails", "key-1"))
    again = engine.send(partition, trigger_bytes("fails", "key-1"))
    engine.command(partition, c.Cancel(run_id=again, by="test", reason="too late"))
    engine.send(partition, trigger_bytes("late"))
    engine.send(partition, trigger_bytes("parent"))
    waiting = engine.send(partition, trigger_bytes("waits"))
    engine.command(partition, c.Pause(run_id=waiting, by="test", reason="first"))
    engine.command(partition, c.Resume(run_id=waiting, by="test", reason="second"))
    engine.command(partition, c.Nudge(run_id=waiting, epoch_offset=0, epoch_nonce=0, seq=0))
    engine.cluster.append(CONTROL, partition, None, b"no command", [])


def main() -> None:
    engine = asyncio.run(eventful_log())
    for partition in range(PARTITIONS):
        log = engine.cluster.log(HISTORY, partition)
        log.records = [record._replace(value=_impersonal(record)) for record in log.records]
    for path in export(MemoryScan(engine.cluster), APP, Path(sys.argv[1])):
        sys.stdout.write(f"{path}\n")


def _impersonal(record: LogRecord) -> bytes:
    """Without what tells of the machine that it was recorded on: its name, paths in stacks."""
    recorded = decode_event(record.value or b"", record.offset)
    event = recorded.event
    if isinstance(event, e.Claimed):
        event = dataclasses.replace(event, host="host")
    elif isinstance(event, e.AttemptFailed | e.RunFailed):
        event = dataclasses.replace(event, error_stack="stack")
    return encode_event(event, epoch=recorded.epoch, seq=recorded.seq, at=recorded.at)


if __name__ == "__main__":
    main()
