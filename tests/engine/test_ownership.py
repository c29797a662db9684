"""How often a shard is claimed, and what becomes of one whose appends get nowhere."""

from __future__ import annotations

import asyncio

import pytest

from stepfold import App, step
from stepfold.core import events as e
from stepfold.core.shard import Chain
from stepfold.engine import takeover
from stepfold.engine.shard_states import ShardState
from stepfold.engine.surroundings import Limits
from stepfold.engine.takeover import CLAIMS_MAX, CLAIMS_WITHIN_S, ClaimPace
from stepfold.engine.worker import Worker
from stepfold.journal.codec import decode_event
from stepfold.journal.memory import MemoryCluster, MemoryJournal
from stepfold.journal.port import ShardId
from tests.contract.journal_contract import until
from tests.engine.scenes import SOON_S, Calls, join, play_calls
from tests.engine.stage import Stage

APP = "two"
SHARDS = 2


def test_five_claims_may_follow_at_once_and_the_sixth_a_minute_after_the_first() -> None:
    pace = ClaimPace()
    delays: list[float] = []

    for number in range(CLAIMS_MAX):
        delays.append(pace.delay_s(10.0 + number))
        pace.note(10.0 + number)

    assert delays == [0.0] * CLAIMS_MAX
    assert pace.delay_s(20.0) == 10.0 + CLAIMS_WITHIN_S - 20.0
    assert pace.delay_s(10.0 + CLAIMS_WITHIN_S) == 0.0


def test_shard_that_fails_again_and_again_is_claimed_five_times_in_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    within_s = 6.0
    monkeypatch.setattr(takeover, "CLAIMS_WITHIN_S", within_s)
    monkeypatch.setattr("stepfold.engine.owner.CLAIM_BACKOFF_MIN_S", 0.01)

    async def scene(there: Stage, calls: Calls) -> None:
        loop = asyncio.get_running_loop()
        member = join(there)
        first_at = loop.time()
        for claims in range(1, CLAIMS_MAX + 1):
            await there.until(lambda: len(there.of(e.Claimed)) == claims)  # noqa: B023 - awaited at once
            await there.until(lambda: member.state is ShardState.LEADING)
            member.journal.appender.fail_next("broken")
            there.start("call", "unheard")
            await there.until(lambda: member.state is not ShardState.LEADING)
        assert loop.time() - first_at < within_s

        await there.until(lambda: len(there.of(e.Claimed)) > CLAIMS_MAX)

        assert loop.time() - first_at >= within_s - SOON_S
        await there.until(lambda: member.state is ShardState.LEADING)

    play_calls(scene)


def test_claims_are_counted_over_lost_sessions() -> None:
    async def scene(there: Stage, calls: Calls) -> None:
        member = join(there)
        for claims in range(1, CLAIMS_MAX + 1):
            await there.until(lambda: member.state is ShardState.LEADING)
            assert len(there.of(e.Claimed)) == claims
            there.cluster.lose_session("stage", member.name)
            await there.until(lambda: member.state is not ShardState.LEADING)

        await asyncio.sleep(SOON_S)

        assert member.state is ShardState.FOLDING
        assert len(there.of(e.Claimed)) == CLAIMS_MAX

    play_calls(scene)


def test_client_is_replaced_when_one_shard_gets_nowhere_while_others_progress() -> None:
    async def main() -> None:
        cluster = MemoryCluster()
        topics = cluster.create_app(APP, SHARDS)
        app = App(APP)

        @app.workflow
        async def shout(name: str) -> str:  # pyright: ignore[reportUnusedFunction]
            return await step.run("shout", str.upper, name)

        journal = MemoryJournal(cluster, "worker")
        limits = Limits(degraded_after_s=SOON_S, renew_after_s=4 * SOON_S)
        worker = Worker(journal, [app], worker_id="worker", limits=limits)
        working = asyncio.create_task(worker.run(ready=lambda: None, stopping=asyncio.Event()))

        def trigger(partition: int) -> None:
            value = b'{"name": "shout", "data": "x"}'
            cluster.append(topics.inbox.name, partition, b"", value, [])

        def claims(partition: int) -> int:
            records = cluster.records(topics.history.name, partition)
            decoded = [decode_event(record.value or b"", record.offset) for record in records]
            chain = Chain()
            return sum(isinstance(r.event, e.Claimed) for r in decoded if chain.admit(r))

        def state(partition: int) -> ShardState:
            return worker.states()[ShardId(APP, partition)]

        await until(lambda: set(worker.states().values()) == {ShardState.LEADING})
        await until(lambda: len(worker.states()) == SHARDS)
        journal.appender.stall(topics.history.name, 0)
        trigger(0)
        await until(lambda: state(0) is ShardState.DEGRADED)
        assert claims(0) == 1

        trigger(1)
        await until(lambda: claims(0) == 2)
        await until(lambda: state(0) is ShardState.LEADING)

        working.cancel()
        await asyncio.wait((working,))

    asyncio.run(main())
