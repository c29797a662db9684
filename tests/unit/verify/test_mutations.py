"""A log that the engine recorded is right; each change of it is reported, and by which rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest

from stepfold.core import events as e
from stepfold.core.ids import Epoch
from stepfold.journal.codec import decode_event, encode_event
from stepfold.journal.port import LogRecord
from stepfold.verify.app import verify_app
from stepfold.verify.export import ExportedLog, write_partition
from stepfold.verify.report import Report
from tests.unit.verify.logs import APP, DLQ, HISTORY, HOUR_MS, INBOX

RECORDED = Path(__file__).parent / "recorded" / "0.1.0"

Records: TypeAlias = list[LogRecord]


def event_of(record: LogRecord) -> e.Recorded:
    return decode_event(record.value or b"", record.offset)


def changed(record: LogRecord, event: e.Event | None = None, **envelope: Any) -> LogRecord:
    """The record with another event, or with another epoch or number."""
    was = event_of(record)
    value = encode_event(
        event or was.event,
        epoch=envelope.get("epoch", was.epoch),
        seq=envelope.get("seq", was.seq),
        at=was.at,
    )
    return record._replace(value=value)


class Found(NamedTuple):
    place: int
    """In the list of records."""
    record: LogRecord
    event: Any


def find(records: Records, kind: type[e.Event], number: int = 0, **fields: object) -> Found:
    """The record of the number-th event of this kind, with these fields, that counts."""
    return found_all(records, kind, fields)[number]


def after(records: Records, place: int, kind: type[e.Event], **fields: object) -> Found:
    """The first one behind this place."""
    return next(found for found in found_all(records, kind, fields) if found.place > place)


def found_all(records: Records, kind: type[e.Event], fields: Mapping[str, object]) -> list[Found]:
    return [
        found
        for found in counting(records)
        if isinstance(found.event, kind)
        and all(getattr(found.event, name) == value for name, value in fields.items())
    ]


def counting(records: Records) -> Iterator[Found]:
    """What counts; every claim that was recorded does."""
    epoch = Epoch(-1, 0)
    for place, record in enumerate(records):
        recorded = event_of(record)
        if isinstance(recorded.event, e.Claimed):
            epoch = Epoch(record.offset, recorded.event.nonce)
        elif recorded.epoch != epoch:
            continue
        yield Found(place, record, recorded.event)


# The changes: each returns the offset at which something has to be reported.


def drop_one(records: Records) -> int:
    place = find(records, e.StepCompleted).place
    del records[place]
    return records[place].offset


def drop_one_and_close_the_gap(records: Records) -> int:
    """The following claims do not lie any more where their epochs say."""
    place = find(records, e.StepCompleted).place
    del records[place]
    for later in range(place, len(records)):
        records[later] = records[later]._replace(offset=later)
    return find(records, e.Claimed, 1).record.offset


def swap_two(records: Records) -> int:
    place = find(records, e.StepCompleted).place
    one, two = records[place : place + 2]
    records[place : place + 2] = [
        two._replace(offset=one.offset),
        one._replace(offset=two.offset),
    ]
    return find(records, e.Claimed, 1).record.offset


def change_a_number(records: Records) -> int:
    place, record, _ = find(records, e.StepCompleted)
    records[place] = changed(record, seq=event_of(record).seq + 1_000)
    return find(records, e.Claimed, 1).record.offset


def change_an_epoch(records: Records) -> int:
    place, record, _ = find(records, e.StepCompleted)
    records[place] = changed(record, epoch=Epoch(3, 4711))
    return record.offset


def change_the_predecessor_of_a_claim(records: Records) -> int:
    place, record, claim = find(records, e.Claimed, 2)
    epoch = Epoch(record.offset, claim.nonce)
    records[place] = changed(record, dataclasses.replace(claim, prev_epoch_nonce=4711))
    return next(r.offset for r in records if event_of(r).epoch == epoch)


def forge_a_second_completion(records: Records) -> int:
    """In the place of the next attempt of the same run."""
    first = find(records, e.StepCompleted)
    run_id = first.event.run_id
    place, record, _ = after(records, first.place, e.AttemptStarted, run_id=run_id)
    records[place] = changed(record, first.event)
    return record.offset


def forge_an_attempt_after_the_completion(records: Records) -> int:
    first = find(records, e.StepCompleted)
    place, record, later = after(records, first.place, e.AttemptStarted)
    forged = dataclasses.replace(
        later, run_id=first.event.run_id, step=first.event.step, attempt=first.event.attempt + 1
    )
    records[place] = changed(record, forged)
    return record.offset


def give_an_attempt_another_number(records: Records) -> int:
    place, record, event = find(records, e.AttemptStarted, attempt=2)
    records[place] = changed(record, dataclasses.replace(event, attempt=5))
    return record.offset


def lose_the_start_of_an_attempt(records: Records) -> int:
    """It becomes the start of another step, and its end has none."""
    place, record, event = find(records, e.AttemptStarted)
    records[place] = changed(record, dataclasses.replace(event, step="another"))
    return after(records, place, e.StepCompleted, run_id=event.run_id, step=event.step)[1].offset


def let_a_lost_attempt_complete(records: Records) -> int:
    gone = find(records, e.AttemptLost)
    place, record, event = after(records, gone.place, e.StepCompleted)
    forged = dataclasses.replace(
        event, run_id=gone.event.run_id, step=gone.event.step, attempt=gone.event.attempt
    )
    records[place] = changed(record, forged)
    return record.offset


def count_a_loss_twice(records: Records) -> int:
    place, record, event = find(records, e.AttemptLost)
    records[place] = changed(record, dataclasses.replace(event, lost=event.lost + 1))
    return record.offset


def bring_a_retry_forward(records: Records) -> int:
    """The failure before it named a time an hour later."""
    place, record, event = find(records, e.AttemptFailed)
    records[place] = changed(record, dataclasses.replace(event, next_at=record.timestamp + HOUR_MS))
    same = {"run_id": event.run_id, "step": event.step, "attempt": event.attempt + 1}
    return find(records, e.AttemptStarted, **same).record.offset


def let_a_timer_fire_early(records: Records) -> int:
    place, record, _ = find(records, e.TimerFired)
    records[place] = record._replace(timestamp=record.timestamp - HOUR_MS)
    return record.offset


def resolve_a_wait_twice(records: Records) -> int:
    place, record, event = find(records, e.WaitExpired)
    first = find(records, e.WaitResolved, run_id=event.run_id)
    records[place] = changed(record, dataclasses.replace(first.event, signal_id="another"))
    return record.offset


def deliver_a_signal_twice(records: Records) -> int:
    one = find(records, e.WaitResolved, 0, wait_id="early")
    place, record, event = find(records, e.WaitResolved, wait_id="approval")
    records[place] = changed(record, dataclasses.replace(event, signal_id=one.event.signal_id))
    return record.offset


def end_a_run_twice(records: Records) -> int:
    first = find(records, e.RunCompleted)
    place, record, event = find(records, e.RunCompleted, 1)
    records[place] = changed(record, dataclasses.replace(event, run_id=first.event.run_id))
    return record.offset


def accept_a_trigger_twice(records: Records) -> int:
    first = find(records, e.RunAccepted)
    place, record, _ = find(records, e.RunAccepted, 1)
    records[place] = changed(record, first.event)
    return record.offset


def give_a_run_another_id(records: Records) -> int:
    place, record, event = find(records, e.RunAccepted)
    other = f"{event.run_id[:-2]}07"
    starts = (event.runs[0]._replace(run_id=other), *event.runs[1:])
    records[place] = changed(record, dataclasses.replace(event, run_id=other, runs=starts))
    return record.offset


def start_while_paused(records: Records) -> int:
    """The resumption is gone: it becomes a second request to pause."""
    place, record, event = find(records, e.RunResumed)
    paused = e.RunPaused(source=event.source, run_id=event.run_id, by="test", reason="")
    records[place] = changed(record, paused)
    return find(records, e.AttemptStarted, run_id=event.run_id).record.offset


def encode_a_result_in_an_unknown_way(records: Records) -> int:
    place, record, event = find(records, e.StepCompleted)
    records[place] = changed(record, dataclasses.replace(event, payload_encoding="pickle"))
    return record.offset


def damage_a_record(records: Records) -> int:
    place, record, _ = find(records, e.RunCompleted)
    records[place] = record._replace(value=(record.value or b"")[:-2])
    return record.offset


def close_with_another_number(records: Records) -> int:
    place, record, claim = find(records, e.Claimed, 3)
    records[place] = changed(record, dataclasses.replace(claim, closes_last_seq=4_711))
    return record.offset


def forget_a_step_in_a_snapshot(records: Records) -> int:
    place, record, event = find(records, e.RunSnapshot)
    records[place] = changed(record, dataclasses.replace(event, state=b"{}"))
    return record.offset


def put_the_mark_too_late(records: Records) -> int:
    place, record, event = find(records, e.CheckpointEnd)
    late = dataclasses.replace(event, lwm=event.shard_snapshot_offset)
    records[place] = changed(record, late)
    return record.offset


def forget_an_open_attempt_in_leaving(records: Records) -> int:
    place, record, event = find(records, e.Drained)
    records[place] = changed(record, dataclasses.replace(event, open_attempts=3))
    return record.offset


MUTATIONS: tuple[tuple[Callable[[Records], int], str], ...] = (
    (drop_one, "offsets-have-no-holes"),
    (drop_one_and_close_the_gap, "claim-closes-what-counted"),
    (swap_two, "claim-closes-what-counted"),
    (change_a_number, "claim-closes-what-counted"),
    (change_an_epoch, "only-owners-write"),
    (change_the_predecessor_of_a_claim, "only-owners-write"),
    (forge_a_second_completion, "step-completes-once"),
    (forge_an_attempt_after_the_completion, "nothing-of-a-step-follows-its-end"),
    (give_an_attempt_another_number, "attempts-are-numbered-without-gaps"),
    (lose_the_start_of_an_attempt, "end-of-an-attempt-follows-its-start"),
    (let_a_lost_attempt_complete, "attempt-ends-once"),
    (count_a_loss_twice, "losses-are-counted-one-by-one"),
    (bring_a_retry_forward, "retry-waits-for-its-time"),
    (let_a_timer_fire_early, "timer-waits-for-its-time"),
    (resolve_a_wait_twice, "wait-ends-once"),
    (deliver_a_signal_twice, "signal-is-delivered-once"),
    (end_a_run_twice, "nothing-of-a-run-follows-its-end"),
    (accept_a_trigger_twice, "run-is-accepted-once"),
    (accept_a_trigger_twice, "source-is-taken-once"),
    (give_a_run_another_id, "run-id-names-its-trigger"),
    (start_while_paused, "paused-run-starts-no-attempt"),
    (encode_a_result_in_an_unknown_way, "payload-encoding-is-known"),
    (damage_a_record, "record-is-readable"),
    (close_with_another_number, "claim-closes-what-counted"),
    (forget_a_step_in_a_snapshot, "run-snapshot-is-what-the-log-shows"),
    (put_the_mark_too_late, "mark-is-not-behind-what-is-open"),
    (forget_an_open_attempt_in_leaving, "drained-owner-counts-open-attempts"),
)


def check(folder: Path, topic: str, mutate: Callable[[Records], object]) -> tuple[Report, object]:
    """The recorded log, partition 0 of one topic changed; what mutate returned comes second."""
    whole = ExportedLog(APP, [RECORDED])
    extent = whole.extent(topic, 0)
    batches = whole.read(topic, 0, extent.first, extent.end, with_headers=True)
    records = [record for batch in batches for record in batch]
    returned = mutate(records)
    path = folder / "changed.records"
    end = records[-1].offset + 1
    write_partition(path, topic, 0, extent._replace(end=end, settled=end), [records])
    others = [p for p in RECORDED.iterdir() if p.name != f"{topic}-0.records"]
    return verify_app(ExportedLog(APP, [path, *others]), APP, processes=1).report, returned


@pytest.mark.parametrize(
    ("mutate", "rule"), MUTATIONS, ids=lambda value: getattr(value, "__name__", value)
)
def test_change_of_the_history_is_reported(
    tmp_path: Path, mutate: Callable[[Records], int], rule: str
) -> None:
    report, offset = check(tmp_path, HISTORY, mutate)

    assert (rule, offset) in [(v.rule, v.offset) for v in report.violations]
    elsewhere = {v.rule for v in report.violations if v.partition != 0}
    assert elsewhere <= {"what-is-taken-was-delivered"}


def test_what_was_recorded_breaks_no_rule() -> None:
    report = verify_app(ExportedLog(APP, [RECORDED]), APP, processes=1).report

    assert report.violations == []
    assert report.unchecked == {}
    assert report.runs == {"completed": 34, "failed": 4, "cancelled": 6}
    assert report.void.total() > 0


def repeat_some_late(records: Records) -> None:
    """As Kafka's client may do: after a takeover, they are fenced, or duplicates."""
    for number in range(3):
        copy = find(records, e.StepCompleted, number).record
        records.append(copy._replace(offset=records[-1].offset + 1))


def cut_the_end_off(records: Records) -> None:
    del records[-40:]


@pytest.mark.parametrize("mutate", [repeat_some_late, cut_the_end_off])
def test_what_may_happen_is_not_reported(tmp_path: Path, mutate: Callable[[Records], None]) -> None:
    report, _ = check(tmp_path, HISTORY, mutate)

    assert report.violations == []


def test_trigger_that_is_gone_from_the_end_of_the_inbox_is_reported(tmp_path: Path) -> None:
    report, _ = check(tmp_path, INBOX, lambda records: records.pop())

    assert {v.rule for v in report.violations} == {"fates-are-of-records-that-came"}


def test_copy_that_differs_is_reported(tmp_path: Path) -> None:
    def change(records: Records) -> None:
        records[0] = records[0]._replace(value=b"something else")

    report, _ = check(tmp_path, DLQ, change)

    assert {v.rule for v in report.violations} == {"rejected-records-are-in-the-dlq"}
