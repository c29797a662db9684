"""Planted violations of what owners may write, and of what intake makes of its sources."""

from __future__ import annotations

import dataclasses

from stepfold.core import events as e
from stepfold.core.ids import Epoch, Position
from stepfold.journal.port import LogRecord
from tests.unit.verify.logs import (
    APP,
    DLQ,
    INBOX,
    Log,
    run_completed,
    started,
    wait_opened,
    wait_resolved,
)
from tests.unit.verify.plants import plant

# Owners


@plant("claim-closes-what-counted")
def a_claim_that_closes_more_than_there_is(log: Log) -> int:
    log.accept()
    return log.claim("worker-2", closes=(log.seq + 5, log.end + 5))


@plant("claim-closes-what-counted")
def a_claim_that_misplaces_the_last_event(log: Log) -> int:
    log.accept()
    return log.claim("worker-2", closes=(log.seq - 1, log.end - 2))


@plant("writer-stops-at-what-it-cannot-prove")
def an_owner_that_writes_on_behind_a_foreign_record(log: Log) -> int:
    run = log.accept()
    log.write(run_completed(run), epoch=log.epoch, seq=0)
    for number in range(32):
        log.append(started(run, f"s{number}"))
        log.append(completed_later(run, f"s{number}"))
    return log.append(started(run, "one too many"))


def completed_later(run: str, step: str) -> e.AttemptFailed:
    """An end that needs no execution, so that only what follows it is wrong."""
    return e.AttemptFailed(
        run_id=run,
        step=step,
        attempt=1,
        error_type="PayloadError",
        error_message="",
        error_stack="",
        retryable=False,
        next_at=0,
        took_ms=0,
    )


@plant("writer-stops-at-what-it-cannot-prove")
def a_former_owner_that_writes_on_and_on(log: Log) -> int:
    run = log.accept()
    former, seq = log.epoch, log.seq
    log.claim("worker-2")
    for number in range(64):
        log.write(started(run, f"s{number}"), epoch=former, seq=seq + number)
    return log.write(started(run, "one too many"), epoch=former, seq=seq + 64)


@plant("only-owners-write")
def an_event_of_an_epoch_that_never_was(log: Log) -> int:
    run = log.accept()
    return log.write(started(run, "plan"), epoch=Epoch(1, 4711), seq=0)


@plant("shard-opens-once")
def a_second_opening(log: Log) -> int:
    return log.append(opening(log))


def opening(log: Log) -> e.ShardOpened:
    return e.ShardOpened(
        app=APP,
        history_topic_id=log.topics.history.topic_id,
        inbox_topic_id=log.topics.inbox.topic_id,
        control_topic_id=log.topics.control.topic_id,
        partitions=1,
        fold_version=1,
        created_by="test",
    )


@plant("drained-owner-counts-open-attempts")
def an_owner_that_forgets_an_attempt_as_it_leaves(log: Log) -> int:
    run = log.accept()
    log.append(started(run, "plan"))
    return log.append(e.Drained(reason="release", open_attempts=0))


@plant("record-is-readable")
def a_record_of_somebody_else(log: Log) -> int:
    return log.write_bytes(b"not ours")


@plant("record-is-readable", also=("writer-stops-at-what-it-cannot-prove",))
def a_record_that_is_cut_off(log: Log) -> int:
    run = log.accept()
    log.append(started(run, "plan"))
    record = log.records[-1]
    value = record.value or b""
    log.records[-1] = record._replace(value=value[:-3])
    for number in range(65):
        log.append(started(run, f"s{number}"))
    return record.offset


@plant("offsets-have-no-holes")
def a_void_record_that_is_missing(log: Log) -> int:
    run = log.accept()
    former, seq = log.epoch, log.seq
    log.claim("worker-2")
    void = log.write(started(run, "plan"), epoch=former, seq=seq)
    log.append(started(run, "plan"))
    log.append(started(run, "search"))
    del log.records[void]
    return void + 1


# Intake


@plant("source-opens-once")
def a_second_beginning_of_intake(log: Log) -> int:
    inbox = log.topics.inbox
    return log.append(
        e.IntakeOpened(topic=INBOX, topic_id=inbox.topic_id, partition=0, start_offset=0)
    )


@plant("source-is-one-of-this-shard", also=("run-id-names-its-trigger",))
def a_trigger_of_another_partition(log: Log) -> int:
    event = log.accepted(log.trigger())
    return log.append(dataclasses.replace(event, source=event.source._replace(partition=3)))


@plant("source-is-one-of-this-shard")
def a_source_whose_intake_was_never_opened(log: Log) -> int:
    source = Position("another-topic", 0, 0, 0)
    return log.append(e.IntakeUnmatched(source=source, from_offset=0))


@plant("source-is-the-topic-of-its-kind")
def a_signal_that_comes_from_the_inbox(log: Log) -> int:
    run = log.accept()
    log.append(wait_opened(run))
    return log.append(wait_resolved(run, source=log.trigger()))


@plant("source-is-taken-once")
def a_control_record_that_is_taken_twice(log: Log) -> int:
    run = log.accept()
    source = log.command()
    log.append(e.RunPaused(source=source, run_id=run, by="test", reason=""))
    return log.append(e.RunResumed(source=source, run_id=run, by="test", reason=""))


@plant("source-is-taken-once")
def a_range_that_reaches_back(log: Log) -> int:
    log.accept()
    log.accept()
    return log.append(e.IntakeUnmatched(source=log.trigger(), from_offset=1))


@plant("source-is-taken-once", also=("source-records-have-a-fate",))
def a_range_that_is_turned_round(log: Log) -> int:
    source = log.trigger()
    return log.append(e.IntakeUnmatched(source=source, from_offset=source.offset + 1))


@plant(
    "gap-begins-where-intake-stands",
    also=("source-records-have-a-fate", "gaps-are-of-deleted-records"),
)
def a_gap_that_leaves_a_record_out(log: Log) -> int:
    log.accept()
    log.trigger()
    log.trigger()
    return log.append(gap(log, 2, 2))


def gap(log: Log, first: int, last: int) -> e.IntakeGap:
    topic_id = log.topics.inbox.topic_id
    return e.IntakeGap(
        topic=INBOX, topic_id=topic_id, partition=0, from_offset=first, to_offset=last
    )


@plant(
    "rejection-names-its-copy",
    also=("rejected-records-are-in-the-dlq", "rejections-name-their-record"),
)
def a_rejection_without_its_check_sum(log: Log) -> int:
    source = log.trigger(b"\xff")
    log.cluster.append(DLQ, 0, None, b"\xff", [])
    return log.append(rejected(source, sha256=""))


def rejected(source: Position, *, sha256: str) -> e.IntakeRejected:
    return e.IntakeRejected(
        source=source,
        run_id="",
        reason="unreadable",
        dlq_topic=DLQ,
        dlq_partition=0,
        dlq_offset=0,
        sha256=sha256,
    )


# Beside the sources


@plant("source-records-have-a-fate")
def a_trigger_that_is_passed_over(log: Log) -> int:
    log.accept()
    lost = log.trigger()
    log.accept()
    return lost.offset


@plant("source-records-have-a-fate")
def a_command_that_is_passed_over(log: Log) -> int:
    run = log.accept()
    lost = log.command()
    log.append(e.RunPaused(source=log.command(), run_id=run, by="test", reason=""))
    return lost.offset


@plant("fates-are-of-records-that-came")
def a_trigger_that_nobody_sent(log: Log) -> int:
    log.accept()
    source = Position(log.topics.inbox.topic_id, 0, 1, 0)
    return log.append(log.accepted(source))


@plant("gaps-are-of-deleted-records")
def a_gap_over_a_record_that_is_there(log: Log) -> int:
    log.accept()
    source = log.trigger()
    log.append(gap(log, 1, 1))
    return source.offset


@plant("rejected-records-are-in-the-dlq")
def a_rejection_whose_copy_is_missing(log: Log) -> int:
    offset = log.reject()
    log.cluster.log(DLQ, 0).records.clear()
    return offset


@plant("rejected-records-are-in-the-dlq")
def a_copy_that_was_changed(log: Log) -> int:
    offset = log.reject()
    copies = log.cluster.log(DLQ, 0).records
    copies[0] = copies[0]._replace(value=b"something else")
    return offset


@plant("rejections-name-their-record")
def a_rejected_record_that_was_changed(log: Log) -> int:
    log.reject()
    records: list[LogRecord] = log.cluster.log(INBOX, 0).records
    records[0] = records[0]._replace(value=b"something else")
    return 0
