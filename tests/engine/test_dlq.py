"""A dlq that takes no copies: the shard says so, reads no further than it can hold, and waits."""

from __future__ import annotations

import asyncio

import pytest

from stepfold.core import events as e
from stepfold.engine import intake
from tests.engine.stage import Stage, nothing, play

BEHIND = 8_000
BATCH_RECORDS_MAX = 500


def test_copy_that_fails_is_made_again_and_what_follows_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(intake, "DLQ_RETRY_MS", 10)

    async def scene(there: Stage) -> None:
        (worker,) = there.members
        await there.first(e.WaitOpened)
        for _ in range(3):
            worker.journal.appender.fail_next("no such topic")
        there.put(b"nonsense")
        run_id = there.start("beside", 5)
        await there.first(e.WaitOpened, run_id)

        rejected = await there.first(e.IntakeRejected)
        assert len(there.dlq) == 1
        assert rejected.dlq_offset == 0
        warnings = [r for r in caplog.records if r.getMessage() == "the dlq takes no copy"]
        assert [w.__dict__["reason"] for w in warnings] == ["no such topic"] * 3

    play(nothing, scene)


def test_records_behind_one_that_its_dlq_does_not_take_are_not_read_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(intake, "DLQ_RETRY_MS", 10_000)

    async def scene(there: Stage) -> None:
        (worker,) = there.members
        await there.first(e.WaitOpened)
        (owner,) = worker.worker.owners()
        worker.journal.appender.fail_next("no such topic")
        there.put(b"nonsense")
        for _ in range(BEHIND):
            there.send("nobody")
        await there.until(lambda: owner.records_held > intake.RECORDS_HELD_MAX)
        await asyncio.sleep(0.05)
        assert owner.records_held <= intake.RECORDS_HELD_MAX + BATCH_RECORDS_MAX

        monkeypatch.setattr(intake, "DLQ_RETRY_MS", 10)
        worker.journal.appender.fail_next("broken")  # the claim is made again, and so is the copy
        there.signal("nobody", "x")
        await there.first(e.IntakeRejected)
        await there.until(lambda: owner.records_held == 0)

    play(nothing, scene)
