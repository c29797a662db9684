"""What a new owner does with a history that another process left behind at a bad moment."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from stepfold import App, step
from stepfold.core import events as e
from stepfold.core.children import request_child
from stepfold.core.ids import NO_EPOCH, NO_POSITION, Epoch, Position, short_topic_id
from stepfold.core.run import accepted as run_state_of
from stepfold.core.shard import Shard
from stepfold.engine.clock import BrokerClock
from stepfold.journal.codec import encode_event, event_headers
from stepfold.journal.memory import MemoryAppender
from stepfold.journal.port import Headers, Report, ReportSink
from tests.engine.stage import Stage, nothing, play

AHEAD_S = 300.0
EPOCH = Epoch(0, 4711)


def leave(there: Stage, *events: e.Event) -> None:
    """Write what an owner had written before it was killed."""
    topics = there.topics
    opened = e.ShardOpened(
        app=there.app.name,
        history_topic_id=topics.history.topic_id,
        inbox_topic_id=topics.inbox.topic_id,
        control_topic_id=topics.control.topic_id,
        partitions=1,
        fold_version=e.FOLD_VERSION,
        created_by="dead",
    )
    claim = e.Claimed(
        prev_epoch_offset=NO_EPOCH.offset,
        prev_epoch_nonce=NO_EPOCH.nonce,
        nonce=EPOCH.nonce,
        worker_id="dead",
        host="",
        pid=0,
        build="",
        fold_version=e.FOLD_VERSION,
        closes_last_seq=-1,
        closes_last_offset=-1,
        unsafe=False,
    )
    at = int(time.time() * 1_000)
    write(there, claim, encode_event(claim, epoch=NO_EPOCH, seq=-1, at=at))
    for seq, event in enumerate((opened, *events)):
        write(there, event, encode_event(event, epoch=EPOCH, seq=seq, at=at))


def write(there: Stage, event: e.Event, value: bytes) -> None:
    headers = event_headers(event, EPOCH, 0)
    there.cluster.append(there.topics.history.name, 0, b"", value, headers)


def accepted(there: Stage, offset: int, workflow: str, deadline: int = 0) -> e.RunAccepted:
    """The acceptance of the trigger at this offset of the inbox."""
    run_id = there.run_id(there.cluster.records(there.topics.inbox.name, 0)[offset])
    return e.RunAccepted(
        source=Position(there.topics.inbox.topic_id, 0, offset, 0),
        run_id=run_id,
        app=there.app.name,
        event_name="",
        event_id="",
        payload=b"1",
        payload_encoding="json",
        key_id="",
        runs=(e.RunStart(run_id, workflow, "", "", "", deadline),),
    )


class LyingAppender(MemoryAppender):
    """Reports a claim at an offset that it has not: librdkafka does, in a batch with others."""

    def append(
        self,
        topic: str,
        partition: int,
        key: bytes,
        value: bytes,
        headers: Headers,
        on_report: ReportSink,
    ) -> None:
        def lie(report: Report) -> None:
            on_report(report._replace(offset=(report.offset or 0) + 2))

        is_claim = ("sf-kind", b"Claimed") in headers
        sink = lie if is_claim else on_report
        super().append(topic, partition, key, value, headers, sink)


def test_a_claim_reported_at_a_wrong_offset_is_found_in_the_log() -> None:
    async def scene(there: Stage) -> None:
        member = there.join()
        member.journal.appender = LyingAppender(there.cluster, asyncio.get_running_loop())

        await there.first(e.ShardOpened)

        assert len(there.of(e.Claimed)) == 1

    play(nothing, scene, join=False)


def test_a_clock_that_is_ahead_fires_no_timer_of_a_shard_taken_over() -> None:
    def naps(app: App) -> None:
        @app.workflow
        async def naps() -> None:  # pyright: ignore[reportUnusedFunction]
            await step.sleep("nap", "1m")

    async def scene(there: Stage) -> None:
        run = there.start("naps")
        await there.first(e.TimerSet, run)
        await there.members[0].kill()

        member = there.join("successor")
        clock = BrokerClock(asyncio.get_running_loop(), lambda: time.time() + AHEAD_S)
        member.worker.around = replace(member.worker.around, clock=clock)
        fresh = there.start("beside", 1)
        there.signal(fresh, "go", 2)
        await there.end_of(fresh)

        assert there.of(e.TimerFired) == []

    play(naps, scene)


def test_an_early_signal_of_the_wrong_type_is_refused_by_the_new_owner_as_well() -> None:
    def waits(app: App) -> None:
        @app.workflow
        async def waits(_: int) -> int | None:  # pyright: ignore[reportUnusedFunction]
            return await step.wait_for_signal("answer", int)

    async def scene(there: Stage) -> None:
        run = there.start("waits")
        early = e.SignalBuffered(
            source=Position(there.topics.control.topic_id, 0, 0, 0),
            run_id=run,
            signal_id="early",
            name="answer",
            payload=b'"no number"',
            payload_encoding="json",
            key_id="",
            ttl_at=0,
        )
        opened = e.WaitOpened(
            run_id=run, wait_id="answer", kind="signal", name="answer", expires_at=0
        )
        there.put_control(b"the early signal")
        leave(there, accepted(there, 0, "beside"), accepted(there, 1, "waits"), early, opened)
        there.join()
        await there.first(e.SignalExpired, run)
        there.signal(run, "answer", 42)

        assert await there.result_of(run) == 42

    play(waits, scene, join=False)


def test_a_child_that_was_given_up_is_not_started_again() -> None:
    def delegates(app: App) -> None:
        @app.workflow(timeout="1h")
        async def delegates(_: int) -> None:  # pyright: ignore[reportUnusedFunction]
            await step.invoke("delegate", "beside", 1)

    async def scene(there: Stage) -> None:
        run = there.start("delegates")
        started = accepted(there, 1, "delegates", int(time.time() * 1_000) + 100)
        requested = request_child(
            Shard(),
            run_state_of(started, started.runs[0], 0),
            "delegate",
            shard_name=f"{there.app.name}/0",
            app=there.app.name,
            workflow="beside",
            payload=b"1",
            topic=short_topic_id(there.topics.inbox.topic_id),
            partitions=1,
            is_awaited=True,
            expires_at=0,
        )
        given_up = e.ChildResolved(
            source=NO_POSITION,
            run_id=run,
            step="delegate",
            outcome="abandoned",
            payload=b"",
            payload_encoding="none",
            key_id="",
            error_type="",
            error_message="",
        )
        leave(there, accepted(there, 0, "beside"), started, requested, given_up)
        there.join()
        failure = await there.failure_of(run)

        assert failure.error_type == "RunTimeout"
        assert len(there.of(e.ChildRequested)) == 1

    play(delegates, scene, join=False)
