"""A whole app is checked, by one process or several, and what it comes to is counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from stepfold.core.errors import ConfigurationError, NotFoundError
from stepfold.journal.codec import encode_event
from stepfold.verify.app import verify_app
from stepfold.verify.export import ExportedLog
from stepfold.verify.report import VIOLATIONS_KEPT_MAX, facts, text
from tests.unit.verify.logs import (
    APP,
    HISTORY,
    Log,
    completed,
    failed,
    lost,
    run_completed,
    started,
    timer_set,
    wait_opened,
)
from tests.unit.verify.plants_links import (
    checkpoint_end,
    child_accepted,
    requested,
    run_snapshot,
    shard_snapshot,
)
from tests.unit.verify.test_mutations import RECORDED


def test_processes_find_together_what_one_finds_alone() -> None:
    scan = ExportedLog(APP, [RECORDED])

    alone = verify_app(scan, APP, processes=1)
    together = verify_app(scan, APP, processes=2)

    assert (alone.processes, together.processes) == (1, 2)
    assert together.report == alone.report


def test_error_in_a_process_is_the_error_of_the_check(tmp_path: Path) -> None:
    for path in RECORDED.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    damaged = tmp_path / f"{HISTORY}-1.records"
    damaged.write_bytes(damaged.read_bytes()[:-50])

    with pytest.raises(ConfigurationError, match="it ends in the middle"):
        verify_app(ExportedLog(APP, [tmp_path]), APP, processes=2)


def test_app_without_a_history_is_not_found() -> None:
    with pytest.raises(NotFoundError, match="there is no history of app 'other'"):
        verify_app(Log().scan, "other")


def test_report_counts_what_the_log_comes_to() -> None:
    log = Log().open()
    runs = [log.accept() for _ in range(5)]
    for run in runs[:3]:
        log.append(started(run, "plan"))
    log.append(failed(runs[1], "plan", next_at=log.now))
    former, seq = log.epoch, log.seq
    log.claim("worker-2")
    log.append(lost(runs[2], "plan", 1, former))
    log.append(wait_opened(runs[3]))
    log.append(timer_set(runs[4], "nap", log.now))
    log.append(lost(runs[0], "plan", 1, former))
    log.append(started(runs[0], "plan", 2))
    log.append(completed(runs[0], "plan", 2))
    log.append(run_completed(runs[0]))
    log.reject()
    log.trigger()
    log.write(completed(runs[0], "plan"), epoch=former, seq=seq)

    found = facts(log.check(), seconds=0.5, processes=1)

    assert found["runs"] == {"backoff": 2, "completed": 1, "sleeping": 1, "waiting": 1}
    assert (found["attempts"], found["failures"], found["lost"]) == (4, 1, 2)
    assert (found["claims"], found["void"]) == (2, {"fenced": 1})
    triggers = {"accepted": 5, "deduplicated": 0, "rejected": 1, "gaps": 0}
    assert found["triggers"] == triggers
    assert found["sources"] == {"checked": 6, "pending": 1, "copies_unchecked": 0}
    assert found["records_per_s"] == 2 * found["records"]
    assert found["violated"] == 0


def test_kind_that_nobody_checks_is_counted_and_named() -> None:
    log = Log().open()
    run = log.accept()
    value = encode_event(started(run, "plan"), epoch=log.epoch, seq=log.seq, at=log.now)
    log.write_bytes(value[:2] + b"\x00" * 8 + value[10:])
    log.seq += 1
    log.append(started(run, "search"))
    report = log.check()

    assert report.violations == []
    assert report.unchecked == {"unknown schema 0000000000000000": 1}
    assert "not checked   1 unknown schema" in text(report, seconds=1.0, processes=1)


def test_violation_is_told_with_its_place_its_run_and_a_sentence() -> None:
    log = Log().open()
    run = log.accept()
    offset = log.append(completed(run, "plan"))

    lines = text(log.check(), seconds=1.0, processes=1).splitlines()

    assert lines[0] == (f"I4 end-of-an-attempt-follows-its-start  {HISTORY}/0/{offset}  {run} plan")
    assert lines[1] == "    StepCompleted of attempt 1, which never started"
    assert lines[-1] == "1 violations"


def test_of_very_many_violations_some_are_told_and_all_are_counted() -> None:
    log = Log().open()
    run = log.accept()
    many = VIOLATIONS_KEPT_MAX + 5
    for number in range(many):
        log.append(completed(run, f"s{number}"))

    report = log.check()

    assert (report.violated, len(report.violations)) == (many, VIOLATIONS_KEPT_MAX)
    assert "… and 5 more" in text(report, seconds=1.0, processes=1)


def test_history_that_was_cut_at_a_checkpoint_is_checked_from_there() -> None:
    log = Log().open()
    run = log.accept()
    log.append(started(run, "plan"))
    base = log.append(run_snapshot(run, {"steps": {"plan": [1, 1, 0, 1, 0, 0, 0, 0, 0]}}))
    snapshot = log.append(shard_snapshot(log, mark=0))
    log.append(checkpoint_end(base, snapshot))
    log.append(completed(run, "plan"))
    log.append(run_completed(run))
    log.cluster.delete_records(HISTORY, 0, base)

    assert log.violations() == []

    second = log.append(run_completed(run))
    assert log.broken() == [("nothing-of-a-run-follows-its-end", second)]


def test_delivery_that_is_not_taken_yet_is_under_way_and_not_missing() -> None:
    log = Log().open()
    run = log.accept()
    log.append(requested(log, run, "one", n=1))
    log.append(requested(log, run, "two", n=2))
    log.append(child_accepted(log, run, "one", n=1))

    report = log.check()

    assert report.violations == []
    assert report.deliveries == {"decided": 2, "taken": 1}
    assert "2 decided, 1 taken" in text(report, seconds=1.0, processes=1)
