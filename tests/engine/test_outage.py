"""Kafka is away, in one way or another: nothing begins, nothing is lost, nothing runs twice."""

from __future__ import annotations

import asyncio

import pytest

from stepfold.core import events as e
from stepfold.engine.shard_states import ShardState
from stepfold.engine.surroundings import Limits
from stepfold.journal import writer
from tests.engine.scenes import SOON_S, Calls, attempts_lost, join, play_calls
from tests.engine.stage import APP, Member, Stage

QUICKLY_DEGRADED = Limits(degraded_after_s=SOON_S)


async def running(there: Stage, calls: Calls, *names: str, workflow: str = "call") -> list[str]:
    """Runs whose step is being executed."""
    runs = [there.start(workflow, name) for name in names]
    first = {name if workflow == "call" else f"{name} 1" for name in names}
    await there.until(lambda: first <= calls.names)
    return runs


async def degraded(there: Stage, member: Member) -> None:
    """Cut off, with something unproven: until then nobody notices."""
    member.journal.appender.cut()
    there.signal(there.run_id(there.cluster.records(there.topics.inbox.name, 0)[0]), "none", 1)
    await there.until(lambda: member.state is ShardState.DEGRADED)


def test_shard_without_proofs_begins_nothing_and_records_what_ended_when_they_come_again() -> None:
    async def scene(there: Stage, calls: Calls) -> None:
        member = join(there, limits=QUICKLY_DEGRADED)
        runs = await running(there, calls, "old", workflow="twice")
        await degraded(there, member)
        calls.end("old 1", "old 2", "new")
        runs.append(there.start("call", "new"))
        await asyncio.sleep(2 * SOON_S)
        assert calls.names == {"old 1"}
        assert there.of(e.StepCompleted) == []

        member.journal.appender.mend()

        assert [await there.result_of(run) for run in runs] == ["old 1old 2", "new"]
        assert member.state is ShardState.LEADING
        assert set(calls.executed.values()) == {1}
        assert len(there.of(e.Claimed)) == 1
        assert attempts_lost(there) == []

    play_calls(scene)


def test_timers_that_are_due_without_proofs_fire_when_they_come_again() -> None:
    async def scene(there: Stage, calls: Calls) -> None:
        member = join(there, limits=QUICKLY_DEGRADED)
        run = there.start("nap", "well rested")
        await there.first(e.TimerSet, run)
        member.journal.appender.cut()
        there.signal(run, "none", 1)
        await there.until(lambda: member.state is ShardState.DEGRADED)
        await asyncio.sleep(2 * SOON_S)

        member.journal.appender.mend()

        assert await there.result_of(run) == "well rested"

    play_calls(scene)


def test_beyond_its_bound_a_shard_without_proofs_takes_nothing_in_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bound, triggers = 20, 60
    monkeypatch.setattr(writer, "UNPROVEN_EVENTS_MAX", bound)

    async def scene(there: Stage, calls: Calls) -> None:
        member = join(there, limits=QUICKLY_DEGRADED)
        runs = await running(there, calls, "old")
        await degraded(there, member)
        calls.end("old", *(str(number) for number in range(triggers)))
        runs += [there.start("call", str(number)) for number in range(triggers)]
        await asyncio.sleep(2 * SOON_S)
        (shard,) = member.worker.shards()
        assert bound < shard.unproven < triggers

        member.journal.appender.mend()

        names = [await there.result_of(run) for run in runs]
        assert names == ["old", *map(str, range(triggers))]
        assert set(calls.executed.values()) == {1}

    play_calls(scene)


def test_shard_that_nobody_has_is_in_limbo_and_its_results_are_kept() -> None:
    async def scene(there: Stage, calls: Calls) -> None:
        member = join(there)
        runs = await running(there, calls, "ends meanwhile", "ends later")
        membership = there.cluster.group(APP).members[member.name]

        there.cluster.fence(APP, member.name)
        await there.until(lambda: member.state is ShardState.LIMBO)
        calls.end("ends meanwhile")
        await there.until(lambda: member.worker.shards()[0].kept == 1)
        (shard,) = member.worker.shards()
        assert (shard.running, there.of(e.StepCompleted)) == (1, [])
        there.cluster.group(APP).join(membership)
        await there.first(e.StepCompleted)
        calls.end("ends later")

        assert [await there.result_of(run) for run in runs] == ["ends meanwhile", "ends later"]
        assert set(calls.executed.values()) == {1}
        assert attempts_lost(there) == []

    play_calls(scene)


def test_limbo_ends_when_another_process_claims_the_shard() -> None:
    async def scene(there: Stage, calls: Calls) -> None:
        member = join(there, "first")
        (run,) = await running(there, calls, "taken")

        there.cluster.fence(APP, member.name)
        other = join(there, "second")
        await there.until(lambda: calls.cancelled["taken"] == 1)
        assert member.worker.states() == {}
        await there.until(lambda: ("taken", 2) in calls.executed)
        calls.end("taken")

        assert await there.result_of(run) == "taken"
        assert other.state is ShardState.LEADING
        assert attempts_lost(there) == [1]

    play_calls(scene)


@pytest.mark.parametrize("lands", [True, False])
def test_result_whose_event_was_not_proven_is_recorded_and_the_step_not_repeated(
    lands: bool,
) -> None:
    async def scene(there: Stage, calls: Calls) -> None:
        member = join(there)
        (run,) = await running(there, calls, "paid for")

        member.journal.appender.fail_next("no answer", lands=lands)
        calls.end("paid for")

        assert await there.result_of(run) == "paid for"
        assert calls.executed == {("paid for", 1): 1}
        assert attempts_lost(there) == []
        assert len(there.of(e.StepCompleted)) == 1

    play_calls(scene)


@pytest.mark.parametrize("lands", [True, False])
def test_attempt_whose_start_was_not_proven_is_executed_once(lands: bool) -> None:
    async def scene(there: Stage, calls: Calls) -> None:
        member = join(there)
        (first,) = await running(there, calls, "before")
        appender = member.journal.appender

        appender.cut(lands=lands)
        run = there.start("call", "late")
        calls.end("before", "late")
        await asyncio.sleep(SOON_S)
        assert "late" not in calls.names
        there.cluster.lose_session(APP, member.name)
        appender.mend()

        assert [await there.result_of(each) for each in (first, run)] == ["before", "late"]
        assert set(calls.executed.values()) == {1}
        assert attempts_lost(there) == []

    play_calls(scene)
