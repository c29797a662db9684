"""Two workers for one shard, of which one was not told, and workers that lose it for a while."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from stepfold import App, Retry, StepFailed, current_run, step
from stepfold.core import events as e
from stepfold.engine.shard_states import ShardState
from stepfold.engine.surroundings import Limits
from tests.engine.scenes import SOON_S, join
from tests.engine.stage import APP, Stage, nothing, play

RUNS = 20


@dataclass
class Gate:
    """Steps wait at it, and leave a note of each execution."""

    is_open: asyncio.Event = field(default_factory=asyncio.Event)
    executed: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    cancelled: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])

    async def step(self) -> str:
        run = current_run()
        who = (run.idempotency_key, run.attempt)
        self.executed.append(who)
        try:
            await self.is_open.wait()
        except asyncio.CancelledError:
            self.cancelled.append(who)
            raise
        return f"attempt {run.attempt}"


def gated(gate: Gate, retry: Retry | None = None) -> Callable[[App], None]:
    def declare(app: App) -> None:
        @app.workflow
        async def waits() -> str:  # pyright: ignore[reportUnusedFunction]
            return await step.run("gate", gate.step, retry=retry)

    return declare


async def started(there: Stage, gate: Gate, count: int = 1) -> None:
    await there.until(lambda: len(gate.executed) >= count)


def test_session_that_is_lost_and_regained_adopts_what_runs() -> None:
    gate = Gate()

    async def scene(there: Stage) -> None:
        run_id = there.start("waits")
        await started(there, gate)
        there.cluster.lose_session(APP, "worker")
        await there.until(lambda: len(there.of(e.Claimed)) == 2)
        gate.is_open.set()

        assert await there.result_of(run_id) == "attempt 1"
        assert there.kinds(run_id) == ["AttemptStarted", "StepCompleted", "RunCompleted"]
        assert len(gate.executed) == 1

    play(gated(gate), scene)


def test_result_that_comes_while_the_shard_is_lost_is_kept_for_its_return() -> None:
    gate = Gate()

    async def scene(there: Stage) -> None:
        (worker,) = there.members
        run_id = there.start("waits")
        await started(there, gate)
        there.cluster.fence(APP, "worker")
        await there.until(lambda: worker.state is ShardState.LIMBO)
        gate.is_open.set()
        await there.until(lambda: worker.worker.around.executor.running == 0)
        worker.rejoin()

        assert await there.result_of(run_id) == "attempt 1"
        assert there.of(e.AttemptLost) == []

    play(gated(gate), scene)


def test_failure_that_comes_while_the_shard_is_lost_is_retried_as_its_step_says() -> None:
    async def fails() -> None:
        tries.append(current_run().attempt)
        await let_fail.wait()
        raise ValueError("no")

    tries: list[int] = []
    let_fail = asyncio.Event()

    def declare(app: App) -> None:
        @app.workflow
        async def once() -> str:  # pyright: ignore[reportUnusedFunction]
            try:
                await step.run("once", fails, retry=Retry(attempts=1))
            except StepFailed as failure:
                return f"{failure.attempts}"
            return "none"

    async def scene(there: Stage) -> None:
        (worker,) = there.members
        run_id = there.start("once")
        await there.until(lambda: tries)
        there.cluster.fence(APP, "worker")
        await there.until(lambda: worker.state is ShardState.LIMBO)
        let_fail.set()
        await there.until(lambda: worker.worker.around.executor.running == 0)
        worker.rejoin()

        assert await there.result_of(run_id) == "1"
        assert tries == [1]

    play(declare, scene)


def test_attempt_that_another_owner_lost_is_ended_when_the_shard_comes_back() -> None:
    gate = Gate()

    async def scene(there: Stage) -> None:
        (worker,) = there.members
        run_id = there.start("waits")
        await started(there, gate)
        there.cluster.fence(APP, "worker")
        other = there.join("other")
        await started(there, gate, 2)
        await other.kill()
        worker.rejoin()
        await started(there, gate, 3)

        assert {attempt for _, attempt in gate.cancelled} == {1, 2}
        gate.is_open.set()
        assert await there.result_of(run_id) == "attempt 3"
        assert [lost.attempt for lost in there.of(e.AttemptLost, run_id)] == [1, 2]

    play(gated(gate), scene)


def test_attempts_of_a_shard_that_stays_lost_are_ended() -> None:
    gate = Gate()

    async def scene(there: Stage) -> None:
        member = join(there, limits=Limits(limbo_max_s=0.05))
        run_id = there.start("waits")
        await started(there, gate)
        there.cluster.fence(APP, "worker")
        await there.until(lambda: gate.cancelled)
        assert member.worker.states() == {}
        there.join("other")
        await started(there, gate, 2)
        gate.is_open.set()

        assert await there.result_of(run_id) == "attempt 2"

    play(gated(gate), scene, join=False)


def test_worker_that_was_not_told_is_deposed_by_the_log_and_completes_nothing_twice() -> None:
    gate = Gate()
    gate.is_open.set()

    async def scene(there: Stage) -> None:
        await there.first(e.WaitOpened)
        there.cluster.fence(APP, "worker", told=False)
        there.join("other")
        await there.until(lambda: len(there.of(e.Claimed)) == 2)
        runs = [there.start("waits") for _ in range(RUNS)]
        results = [await there.result_of(run_id) for run_id in runs]

        # Its last appends cost the other one its proofs, and so a claim and an attempt each.
        assert set(results) <= {"attempt 1", "attempt 2"}
        assert all(len(there.of(e.StepCompleted, run_id)) == 1 for run_id in runs)
        assert max(Counter(gate.executed).values()) == 1
        await there.until(lambda: there.members[0].state is not ShardState.LEADING)

    play(gated(gate), scene)


@pytest.mark.parametrize("lands", [True, False], ids=["at once", "late"])
def test_ghosts_of_a_worker_that_is_gone_are_void(lands: bool) -> None:
    """Its appends land when another leads; nobody hears of them, and no run is in them twice."""
    gate = Gate()
    gate.is_open.set()

    async def scene(there: Stage) -> None:
        (worker,) = there.members
        await there.first(e.WaitOpened)
        worker.journal.appender.cut(lands=lands)
        runs = [there.start("waits") for _ in range(RUNS)]
        await asyncio.sleep(0.02)
        there.cluster.fence(APP, "worker", told=False)
        there.join("other")
        await there.until(lambda: len(there.of(e.RunCompleted)) == RUNS)
        worker.journal.appender.mend()
        await there.until(lambda: worker.state is not ShardState.LEADING)

        assert all(len(there.of(e.RunCompleted, run_id)) == 1 for run_id in runs)
        assert max(Counter(gate.executed).values()) == 1
        if not lands:
            assert len(there.decoded) > len(there.history), "the ghosts are in the log, and void"

    play(gated(gate), scene)


def test_shard_that_is_lost_and_regained_at_once_while_it_is_claimed_is_led() -> None:
    async def scene(there: Stage) -> None:
        worker = there.join()
        worker.journal.appender.cut()
        await there.until(lambda: worker.state is ShardState.CLAIMING)
        there.cluster.lose_session(APP, "worker")
        await there.until(lambda: worker.state is ShardState.CLAIMING)
        worker.journal.appender.mend()
        await there.first(e.WaitOpened)

    play(nothing, scene, join=False)


def test_shard_that_comes_back_while_it_is_drained_is_led_once_it_was_released() -> None:
    gate = Gate()

    async def scene(there: Stage) -> None:
        worker = there.members[0]
        run_id = there.start("waits")
        await started(there, gate)
        group = there.cluster.group(APP)
        there.join("other")
        group.pin(0, "other")
        await there.until(lambda: worker.state is ShardState.DRAINING)

        group.pin(0, "worker")
        there.cluster.lose_session(APP, "worker")
        await asyncio.sleep(SOON_S)
        assert len(there.of(e.Claimed)) == 1, "the former owner still waits for its attempt"
        gate.is_open.set()

        assert await there.result_of(run_id) == "attempt 1"
        assert there.of(e.Drained)[0].open_attempts == 0

    play(gated(gate), scene)


def test_shard_that_is_revoked_and_assigned_in_one_moment_is_led() -> None:
    async def scene(there: Stage) -> None:
        await there.first(e.WaitOpened)
        (membership,) = there.members[0].journal.memberships
        assert membership.listener is not None
        membership.listener.revoked([0], lambda: None)
        membership.listener.assigned([0])

        await there.until(lambda: len(there.of(e.Claimed)) == 2)
        assert len(there.of(e.Drained)) == 1

    play(nothing, scene)


def test_run_goes_on_when_no_answer_came_for_a_while() -> None:
    gate = Gate()

    async def scene(there: Stage) -> None:
        appender = there.members[0].journal.appender
        await there.first(e.WaitOpened)
        appender.cut()
        run_id = there.start("waits")
        await asyncio.sleep(0.1)
        assert gate.executed == [], "no attempt begins before its start is proven"
        appender.mend()
        gate.is_open.set()

        assert await there.result_of(run_id) == "attempt 1"

    play(gated(gate), scene)
