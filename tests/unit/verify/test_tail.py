"""Records are told to people, whatever they are, and those that do not count with the reason."""

from __future__ import annotations

import dataclasses

import pytest

from stepfold.core import events as e
from stepfold.core.errors import NotFoundError
from stepfold.journal.codec import encode_event
from stepfold.journal.memory import MemoryCluster
from stepfold.journal.memory_scan import MemoryScan
from stepfold.verify.succession import Void
from stepfold.verify.tail import Tail
from stepfold.verify.telling import Told
from tests.unit.codec_samples import AT, EPOCH, sample_events
from tests.unit.verify.logs import (
    APP,
    HISTORY,
    Log,
    completed,
    failed,
    run_completed,
    started,
    timer_set,
)


def told(log: Log, *, lines: int | None = None, run_id: str | None = None) -> list[Told]:
    return list(Tail(log.scan, APP, lines=lines, run_id=run_id).told())


def last_line(log: Log) -> str:
    return told(log)[-1].line()


def test_line_says_where_when_what_and_about_which_attempt() -> None:
    log = Log().open()
    run = log.accept()
    log.append(started(run, "plan"))
    offset = log.append(failed(run, "plan", next_at=1_700_000_000_000))

    assert last_line(log) == (
        f"       0/{offset}  2023-11-14T22:13:20.070Z  AttemptFailed  {run} plan#1"
        "  error_type=ConnectionError error_message=503, attempt 1 error_stack=stack"
        " retryable=true next_at=2023-11-14T22:13:20.000Z took_ms=7"
    )


def test_line_shows_payloads_and_the_workflows_that_a_trigger_starts() -> None:
    log = Log().open()
    log.accept(("agent", "audit"), event_id="event-1")

    line = last_line(log)

    assert 'payload={"q": 1}' in line
    assert "runs=agent,audit" in line
    assert "source=0/0" in line


def test_long_values_are_cut_in_lines_and_whole_in_json() -> None:
    log = Log().open()
    run = log.accept()
    log.append(started(run, "plan"))
    log.append(dataclasses.replace(failed(run, "plan"), error_message="long " * 100))

    (line, facts) = (last_line(log), told(log)[-1].as_json())

    assert f"error_message={'long ' * 12}…" in line
    assert facts["fields"]["error_message"] == "long " * 100
    assert (facts["kind"], facts["run_id"], facts["attempt"]) == ("AttemptFailed", run, 1)


def test_records_that_do_not_count_are_told_with_the_reason() -> None:
    log = Log().open()
    run = log.accept()
    former, seq = log.epoch, log.seq
    log.claim("worker-2")
    log.claim("worker-3", predecessor=former)
    log.write(started(run, "plan"), epoch=former, seq=seq)
    log.append(started(run, "plan"))
    log.write(started(run, "plan"), epoch=log.epoch, seq=0)
    log.write(started(run, "plan"), epoch=log.epoch, seq=9)

    voids = [each.void for each in told(log)[-5:]]

    assert voids == [Void.CLAIM, Void.FENCED, None, Void.DUPLICATE, Void.GAP]
    assert last_line(log).endswith("VOID (gap)")


def test_reason_is_known_as_well_where_the_history_is_entered_late() -> None:
    log = Log().open()
    run = log.accept()
    former = log.epoch
    log.claim("worker-2")
    for number in range(700):
        log.append(timer_set(run, f"t{number}", log.now))
    log.write(started(run, "plan"), epoch=former, seq=5)
    log.append(started(run, "plan"))
    log.write(started(run, "plan"), epoch=log.epoch, seq=0)

    found = told(log, lines=4)

    assert [each.void for each in found] == [None, Void.FENCED, None, Void.DUPLICATE]
    assert found[-1].offset == log.end - 1


def test_records_that_cannot_be_read_are_told_as_what_they_are() -> None:
    log = Log().open()
    log.write_bytes(b"\x01\x02 not ours " * 10)
    run = log.accept()

    unreadable, after = told(log)[-2:]

    assert "UNREADABLE" in unreadable.line()
    assert "bytes=0102206e6f74206f757273200102206e6f74206f75727320" in unreadable.line()
    assert "not an Avro single object" in unreadable.line()
    assert unreadable.as_json()["kind"] is None
    assert after.run_id == run


def test_kind_that_is_not_known_is_named_by_its_headers_or_its_schema() -> None:
    log = Log().open()
    run = log.accept()
    value = encode_event(started(run, "plan"), epoch=log.epoch, seq=log.seq, at=log.now)
    strange = value[:2] + b"\x00" * 8 + value[10:]
    log.write_bytes(strange)
    log.cluster.append(HISTORY, 0, None, strange, [("sf-kind", b"FutureKind")])

    nameless, named = told(log)[-2:]

    assert (nameless.kind, named.kind) == ("unknown schema 0000000000000000", "FutureKind")
    assert (nameless.run_id, nameless.void) == (run, None)


def test_every_kind_can_be_told() -> None:
    cluster = MemoryCluster()
    cluster.create_app(APP, 1)
    for event in sample_events():
        cluster.append(HISTORY, 0, None, encode_event(event, epoch=EPOCH, seq=0, at=AT), [])

    found = list(Tail(MemoryScan(cluster), APP, lines=None).told())

    assert [each.kind for each in found] == [kind.__name__ for kind in e.EVENT_TYPES]
    assert all(each.line() and each.as_json() for each in found)


def test_only_the_last_records_are_told_unless_all_are_asked_for() -> None:
    log = Log().open()
    runs = [log.accept() for _ in range(30)]

    assert len(told(log)) == log.end
    assert [each.run_id for each in told(log, lines=3)] == runs[-3:]
    assert told(log, lines=0) == []


def test_one_run_is_told_from_its_beginning() -> None:
    log = Log().open()
    first = log.accept(("agent", "audit"))
    second = f"{first[:-2]}01"
    other = log.accept()
    log.append(started(second, "plan"))
    log.append(started(other, "plan"))
    log.append(completed(second, "plan"))
    log.append(run_completed(second))

    kinds = [each.kind for each in told(log, run_id=second)]

    assert kinds == ["RunAccepted", "AttemptStarted", "StepCompleted", "RunCompleted"]


def test_partitions_are_told_in_the_order_of_time() -> None:
    now = [AT]
    cluster = MemoryCluster(lambda: now[0])
    cluster.create_app(APP, 3)
    for number in range(9):
        now[0] = AT + number
        cluster.append(HISTORY, (2 * number) % 3, None, b"unreadable", [])

    everywhere = Tail(MemoryScan(cluster), APP, lines=None)
    one = Tail(MemoryScan(cluster), APP, lines=None, partition=2)

    assert [each.timestamp for each in everywhere.told()] == [AT + n for n in range(9)]
    assert [each.partition for each in one.told()] == [2, 2, 2]
    assert everywhere.positions == {0: 3, 1: 3, 2: 3}


def test_partition_or_run_that_is_not_there_is_not_found() -> None:
    log = Log().open()
    run = log.accept()

    with pytest.raises(NotFoundError, match="there is no partition 7"):
        Tail(log.scan, APP, lines=None, partition=7)
    with pytest.raises(NotFoundError, match="is at home in partition 0, not in 7"):
        Tail(log.scan, APP, lines=None, partition=7, run_id=run)
    with pytest.raises(NotFoundError, match="no history of app 'other'"):
        Tail(log.scan, "other", lines=None)
    with pytest.raises(ValueError, match="not a run id"):
        Tail(log.scan, APP, lines=None, run_id="x")
