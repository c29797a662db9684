"""Steps whose process died: suspects come back slowly, convicts alone, and in order is no crime."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import pytest

from stepfold import App, step
from stepfold.core import events as e
from stepfold.core.decide import MAX_LOST
from stepfold.engine import worker
from stepfold.engine.clock import BrokerClock
from stepfold.engine.isolation import Isolation
from stepfold.engine.shard_states import ShardState
from stepfold.engine.surroundings import Limits
from tests.engine.scenes import SOON_S, Calls, attempts_lost, join, play_calls, staged
from tests.engine.stage import APP, QUICK, Stage

ROOT = Path(__file__).parents[2]
TARGET = "tests.engine.test_suspects:suspicious"
SUSPECTS = 8
CORRECTED_BY_MS = 1_000
"""The broker's time turns out to be behind what was believed when the attempts were lost."""
PID_VARIABLE = "STEPFOLD_TEST_WORKER_PID"

suspicious = App(APP, retry=QUICK)


async def _hang_in_worker(alone: str) -> str:
    """In the worker it runs until that is killed; alone it does what it is told."""
    if str(os.getpid()) == os.environ[PID_VARIABLE]:
        await asyncio.Event().wait()
    if alone == "die":
        os._exit(7)
    if alone == "fail":
        raise ValueError("failed alone")
    return alone


@suspicious.workflow
async def hang(alone: str) -> str:
    return await step.run("hang", _hang_in_worker, alone)


@suspicious.workflow
async def honest(name: str) -> str:
    return await step.run("say", str.upper, name)


def isolation() -> Isolation:
    return Isolation({APP: TARGET}, ROOT)


def play_killed(alone: str, deaths: int, limits: Limits | None = None) -> list[e.Event]:
    """The events of a run whose worker is killed so often while its step runs there."""

    async def main() -> list[e.Event]:
        async with staged(suspicious) as there:
            run = there.start("hang", alone)
            for number in range(deaths):
                member = join(there, isolation=isolation(), limits=limits)
                await there.until(lambda: len(there.of(e.AttemptStarted, run)) == number + 1)  # noqa: B023 - awaited at once
                await member.kill()
            last = join(there, isolation=isolation(), limits=limits)
            await there.end_of(run)
            assert await there.result_of(there.start("honest", "well")) == "WELL"
            assert last.state is ShardState.LEADING
            return [r.event for r in there.history if getattr(r.event, "run_id", "") == run]

    return asyncio.run(main())


@pytest.fixture(autouse=True)
def _is_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PID_VARIABLE, str(os.getpid()))


def test_innocent_whose_process_died_twice_completes_alone() -> None:
    events = play_killed("done", deaths=2)

    started = [event for event in events if isinstance(event, e.AttemptStarted)]
    assert [event.isolated for event in started] == [False, False, True]
    assert [event.lost for event in events if isinstance(event, e.AttemptLost)] == [1, 2]
    assert isinstance(events[-1], e.RunCompleted)
    assert events[-1].payload == b'"done"'


def test_convict_is_parked_with_evidence_and_its_worker_goes_on() -> None:
    events = play_killed("die", deaths=2)

    lost = [event.lost for event in events if isinstance(event, e.AttemptLost)]
    parked = events[-1]
    assert lost == list(range(1, MAX_LOST + 1))
    assert isinstance(parked, e.RunParked)
    assert (parked.reason, parked.step, parked.lost) == ("poison", "hang", MAX_LOST)
    assert "exit code 7" in parked.message


def test_failure_of_an_isolated_attempt_is_a_failure_and_its_retries_are_isolated() -> None:
    events = play_killed("fail", deaths=2)

    failed = [event for event in events if isinstance(event, e.AttemptFailed)]
    started = [event for event in events if isinstance(event, e.AttemptStarted)]
    assert [event.error_message for event in failed] == ["failed alone"] * QUICK.attempts
    assert [event.isolated for event in started[2:]] == [True] * QUICK.attempts
    assert isinstance(events[-1], e.RunFailed)


def test_number_of_attempts_that_may_be_lost_is_a_setting() -> None:
    events = play_killed("die", deaths=1, limits=Limits(max_lost=2))

    started = [event for event in events if isinstance(event, e.AttemptStarted)]
    assert [event.isolated for event in started] == [False, True]
    assert isinstance(events[-1], e.RunParked)
    assert events[-1].lost == 2


def test_number_out_of_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="max_lost must be 2 to 25, got 1"):
        Limits(max_lost=1)


def test_suspects_start_one_after_the_other() -> None:
    names = [f"call {number}" for number in range(SUSPECTS)]

    async def scene(there: Stage, calls: Calls) -> None:
        member = join(there)
        runs = [there.start("call", name) for name in names]
        await there.until(lambda: set(names) <= calls.names)

        await member.kill()
        join(there)
        await there.until(lambda: again(calls))
        await asyncio.sleep(SOON_S)
        assert len(again(calls)) == 1
        calls.end(*again(calls))
        await there.until(lambda: len(again(calls)) == 1 + 2)
        calls.end(*names)

        assert [await there.result_of(run) for run in runs] == names
        assert attempts_lost(there) == [1] * SUSPECTS

    def again(calls: Calls) -> set[str]:
        return {name for name, attempt in calls.executed if attempt == 2}

    play_calls(scene)


def test_suspect_that_finds_room_before_its_time_starts_when_that_comes() -> None:
    names = ["first", "second"]

    async def scene(there: Stage, calls: Calls) -> None:
        member = join(there)
        runs = [there.start("call", name) for name in names]
        await there.until(lambda: set(names) <= calls.names)

        await member.kill()
        clock = join(there).worker.around.clock
        await there.until(lambda: len(attempts_lost(there)) == len(names))
        assert isinstance(clock, BrokerClock)
        clock.offset_ms = -CORRECTED_BY_MS
        calls.end(*names)

        assert [await there.result_of(run) for run in runs] == names

    play_calls(scene)


def test_attempts_of_an_owner_that_went_in_order_are_not_held_against_their_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "REVOKE_GRACE_S", SOON_S)

    async def scene(there: Stage, calls: Calls) -> None:
        join(there, "first")
        run = there.start("call", "moved")
        await there.until(lambda: calls.names)

        join(there, "second")
        there.cluster.move(APP, 0, "second")
        await there.until(lambda: ("moved", 2) in calls.executed)
        calls.end("moved")

        assert await there.result_of(run) == "moved"
        assert len(there.of(e.Drained)) == 1
        assert attempts_lost(there) == [0]

    play_calls(scene)


def test_app_without_a_known_target_shares_its_process_with_suspects_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scene(there: Stage, calls: Calls) -> None:
        run = there.start("call", "unlucky")
        for attempt in (1, 2, 3):
            member = join(there)
            await there.until(lambda: ("unlucky", attempt) in calls.executed)  # noqa: B023 - awaited at once
            await member.kill()
        join(there)
        calls.end("unlucky")

        assert await there.result_of(run) == "unlucky"
        assert not any(event.isolated for event in there.of(e.AttemptStarted, run))

    with caplog.at_level(logging.WARNING):
        play_calls(scene)

    said = [record for record in caplog.records if "is not isolated" in record.message]
    assert len(said) == 2, "once for each of the workers that would have isolated it"
