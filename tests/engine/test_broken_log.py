"""A log that lost records, gained some that nobody of ours wrote, or does not answer.

What a shard must not do is to go on as if nothing had happened: it says so, and stands.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from stepfold.core import events as e
from stepfold.core.ids import Epoch
from stepfold.engine import claiming, owner, topics_watch
from stepfold.engine.leader import Leader
from stepfold.engine.shard_states import ShardState
from stepfold.journal.codec import encode_event
from tests.engine.stage import APP, Member, Stage, nothing, play


async def until_faulted(there: Stage, member: Member) -> str:
    await there.until(lambda: member.state is ShardState.FAULTED)
    return member.fault


def test_history_that_is_gone_altogether_is_not_begun_anew() -> None:
    async def scene(there: Stage) -> None:
        (worker,) = there.members
        await there.first(e.WaitOpened)
        await worker.kill()
        history = there.topics.history.name
        there.cluster.delete_records(history, 0, there.cluster.log(history, 0).end)
        fault = await until_faulted(there, there.join("next"))

        assert "records were deleted that were needed" in fault
        assert there.cluster.records(history, 0) == [], "it would take every trigger a second time"

    play(nothing, scene, ends_led=False)


def test_history_without_its_beginning_is_not_led() -> None:
    async def scene(there: Stage) -> None:
        (worker,) = there.members
        await there.first(e.WaitOpened)
        await worker.kill()
        there.cluster.delete_records(there.topics.history.name, 0, 3)
        fault = await until_faulted(there, there.join("next"))

        assert "begins at 3" in fault
        assert "restore the topic" in fault

    play(nothing, scene, ends_led=False)


def test_history_that_loses_its_beginning_under_way_is_led_on() -> None:
    async def scene(there: Stage) -> None:
        await there.first(e.WaitOpened)
        there.cluster.delete_records(there.topics.history.name, 0, 3)

    play(nothing, scene)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "too short"),
        (b"nonsense from somebody else", "not an Avro single object"),
        (b"\xc3\x01\x01\x02\x03\x04\x05\x06\x07\x08", "unknown schema fingerprint"),
    ],
)
def test_record_in_a_history_that_is_no_event_faults_the_shard_and_tells_the_place(
    value: bytes | None, reason: str
) -> None:
    async def scene(there: Stage) -> None:
        await there.first(e.WaitOpened)
        history = there.topics.history.name
        planted = there.cluster.append(history, 0, b"", value, [])
        there.start("beside", 5)
        fault = await until_faulted(there, there.members[0])

        assert reason in fault
        assert f"{history}/0 holds at offset {planted.offset}" in fault

    play(nothing, scene, ends_led=False)


def test_events_of_somebody_else_are_void_and_cost_a_new_claim() -> None:
    async def scene(there: Stage) -> None:
        await there.first(e.WaitOpened)
        forged = encode_event(
            e.Drained(reason="forged", open_attempts=0), epoch=Epoch(4711, 1), seq=0, at=0
        )
        there.cluster.append(there.topics.history.name, 0, b"", forged, [])
        run_id = there.start("beside", 5)
        await there.first(e.WaitOpened, run_id)

        assert there.of(e.Drained) == []
        assert len(there.of(e.Claimed)) == 2

    play(nothing, scene)


def test_claim_of_a_worker_that_leads_nothing_costs_a_new_claim() -> None:
    """As one that was frozen after its claim left: it is valid, and nobody acts on it."""

    async def scene(there: Stage) -> None:
        await there.first(e.WaitOpened)
        (claim,) = there.of(e.Claimed)
        rival = replace(
            claim,
            prev_epoch_offset=0,
            prev_epoch_nonce=claim.nonce,
            nonce=4711,
            worker_id="frozen",
        )
        value = encode_event(rival, epoch=Epoch(-1, 0), seq=-1, at=0)
        there.cluster.append(there.topics.history.name, 0, b"", value, [])
        run_id = there.start("beside", 5)
        await there.first(e.WaitOpened, run_id)

        assert [claimed.worker_id for claimed in there.of(e.Claimed)] == [
            "worker",
            "frozen",
            "worker",
        ]

    play(nothing, scene)


def test_triggers_that_are_deleted_before_they_are_taken_are_told_of() -> None:
    async def scene(there: Stage) -> None:
        (worker,) = there.members
        await there.first(e.WaitOpened)
        await worker.kill()
        lost = [there.start("beside", number) for number in range(3)]
        inbox = there.topics.inbox.name
        there.cluster.delete_records(inbox, 0, there.cluster.log(inbox, 0).end)
        there.join("next")
        gap = await there.first(e.IntakeGap)

        assert (gap.topic, gap.from_offset, gap.to_offset) == (inbox, 1, 3)
        assert all(there.kinds(run_id) == [] for run_id in lost)

    play(nothing, scene)


def test_claim_that_is_never_answered_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claiming, "REPORT_TIMEOUT_S", 0.05)

    async def scene(there: Stage) -> None:
        worker = there.join()
        worker.journal.appender.cut(lands=True)
        await there.until(lambda: len(there.decoded) == 2)
        worker.journal.appender.mend()
        await there.first(e.WaitOpened)

    play(nothing, scene, join=False)


@pytest.mark.parametrize("shift", [-1, 1_000])
def test_claim_counts_where_the_log_has_it_wherever_it_is_reported(shift: int) -> None:
    async def scene(there: Stage) -> None:
        worker = there.join()
        worker.journal.appender.misreport_next(shift)
        await there.first(e.WaitOpened)

        assert len(there.of(e.Claimed)) == 1

    play(nothing, scene, join=False)


def test_event_that_is_reported_elsewhere_costs_a_new_claim_and_nothing_else() -> None:
    async def scene(there: Stage) -> None:
        await there.first(e.WaitOpened)
        there.members[0].journal.appender.misreport_next(-1)
        run_id = there.start("beside", 5)
        await there.first(e.WaitOpened, run_id)

        assert len(there.of(e.Claimed)) == 2
        assert there.kinds(run_id)[-2:] == ["StepCompleted", "WaitOpened"]

    play(nothing, scene)


@pytest.mark.parametrize("lands", [True, False], ids=["landed", "gone"])
def test_client_that_fails_fatally_under_load_loses_no_run(lands: bool) -> None:
    async def scene(there: Stage) -> None:
        await there.first(e.WaitOpened)
        appender = there.members[0].journal.appender
        runs: list[str] = []
        for number in range(30):
            runs.append(there.start("beside", number))
            there.signal(runs[-1], "go", 0)
            if number % 10 == 5:
                await asyncio.sleep(0.005)
                appender.fail_client(lands=lands)
        results = [await there.result_of(run_id) for run_id in runs]

        assert results == [number + 1 for number in range(30)]
        assert all(len(there.of(e.StepCompleted, run_id)) == 1 for run_id in runs)

    play(nothing, scene)


@pytest.mark.parametrize("source", ["inbox", "control"])
def test_source_that_cannot_be_read_faults_the_shard_and_is_tried_again(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "UNREADABLE_RETRY_S", 0.05)

    async def scene(there: Stage) -> None:
        (worker,) = there.members
        await there.first(e.WaitOpened)
        worker.journal.reader.break_off(f"{APP}.{source}", 0, "not authorised")
        fault = await until_faulted(there, worker)

        assert f"{APP}.{source}/0 cannot be read at" in fault
        assert "not authorised" in fault
        await there.until(lambda: worker.state is ShardState.LEADING)
        assert worker.worker.faults() == {}

    play(nothing, scene)


def test_history_that_cannot_be_read_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "UNREADABLE_RETRY_S", 0.05)

    async def scene(there: Stage) -> None:
        worker = there.join()
        worker.journal.appender.cut()
        await there.until(lambda: worker.state is ShardState.CLAIMING)
        worker.journal.reader.break_off(there.topics.history.name, 0, "no such topic")
        worker.journal.appender.mend()
        fault = await until_faulted(there, worker)

        assert f"{APP}.history/0 cannot be read at 0: no such topic" in fault
        await there.first(e.WaitOpened)

    play(nothing, scene, join=False)


@pytest.mark.parametrize("topic", ["inbox", "control", "history"])
def test_topic_that_is_made_again_under_way_faults_the_shard(
    topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics_watch, "CHECK_INTERVAL_S", 0.05)

    async def scene(there: Stage) -> None:
        await there.first(e.WaitOpened)
        there.cluster.create_topic(f"{APP}.{topic}", 1)
        fault = await until_faulted(there, there.members[0])

        assert f"topic {APP}.{topic} is not the one that this worker began with" in fault

    play(nothing, scene, ends_led=False)


def test_history_that_is_made_again_is_not_taken_for_a_new_one() -> None:
    """The watch has not seen it yet: a claim asks first."""

    async def scene(there: Stage) -> None:
        (worker,) = there.members
        await there.first(e.WaitOpened)
        appender = worker.journal.appender
        appender.cut()
        there.start("beside", 5)
        await asyncio.sleep(0.01)
        there.cluster.create_topic(there.topics.history.name, 1)
        appender.fail_client("no such topic")
        appender.mend()
        fault = await until_faulted(there, worker)

        assert f"topic {APP}.history is not the one" in fault
        assert there.cluster.records(there.topics.history.name, 0) == []

    play(nothing, scene, ends_led=False)


def test_history_that_does_not_answer_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(owner, "PROOF_OVERDUE_S", 0.05)
    monkeypatch.setattr(owner, "RELIEF_INTERVAL_S", 0.01)

    def told() -> list[int]:
        records = [r for r in caplog.records if r.getMessage() == "history does not answer"]
        return [record.__dict__["unproven"] for record in records]

    async def scene(there: Stage) -> None:
        await there.first(e.WaitOpened)
        appender = there.members[0].journal.appender
        appender.cut()
        there.start("beside", 5)
        await there.until(told)
        await asyncio.sleep(0.1)
        appender.mend()

        assert told() == [2], "the acceptance, and the start of an attempt"

    play(nothing, scene)


@pytest.mark.parametrize("work", ["start", "relieve"])
def test_what_breaks_outside_of_a_run_faults_its_shard_and_not_the_worker(
    work: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(leader: Leader) -> None:
        raise KeyError("unforeseen")

    async def scene(there: Stage) -> None:
        monkeypatch.setattr(Leader, work, breaks)
        worker = there.join()
        fault = await until_faulted(there, worker)

        assert "KeyError: 'unforeseen'" in fault
        assert "report it" in fault
        assert not worker.working.done()

    play(nothing, scene, join=False, ends_led=False)
