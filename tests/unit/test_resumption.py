"""Which stalled runs are nudged, and when again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stepfold.core.commands import Nudge
from stepfold.core.errors import KafkaError, NotFoundError
from stepfold.core.ids import run_id_of
from stepfold_projections import resumption
from stepfold_projections.asyncstore import AsyncStore
from stepfold_projections.resumption import NUDGE_AGAIN_FIRST_S, NUDGE_AGAIN_MAX_S, Resumption
from stepfold_projections.runs import RunRow
from stepfold_projections.sqlstore import SqlStore
from stepfold_projections.stalled import STALLED_AFTER_MS
from stepfold_projections.store import Changes, ShardRow

AT = 1_700_000_000_000
LATE = AT + STALLED_AFTER_MS + 1_000


class Kafka:
    """Takes nudges, or refuses them as it is told to."""

    def __init__(self) -> None:
        self.nudged: list[str] = []
        self.refusals: dict[str, Exception] = {}

    async def send(self, row: RunRow, nudge: Nudge) -> None:
        if row.run_id in self.refusals:
            raise self.refusals[row.run_id]
        self.nudged.append(nudge.run_id)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AsyncStore]:
    opened = SqlStore(f"sqlite:///{tmp_path / 'traces.db'}")
    opened.open()
    background = AsyncStore(opened)
    yield background
    background.close()


def run_id(number: int) -> str:
    return run_id_of(0, "00000", number)


def put(store: AsyncStore, *numbers: int, app: str = "research", seq: int = 7) -> None:
    """Runs that have been due since AT, the first ones for the longest time."""
    runs = [
        RunRow(
            run_id=run_id(number),
            app=app,
            workflow="agent",
            partition=0,
            tenant="",
            def_hash="hash",
            event_name="agent/run",
            event_id="",
            idempotency_key="",
            accepted_at=AT,
            accepted_offset=number,
            status="sleeping",
            due_at=AT + number,
            last_seq=seq,
        )
        for number in numbers
    ]
    shard = store.store.join(ShardRow(app, 0, "history-id"))
    positions = {(app, 0): shard.next_offset}
    store.store.apply(Changes(events=(), runs=runs, shards=[replace(shard)], positions=positions))


def look(resumption: Resumption, *after_s: float) -> list[list[str]]:
    """What is nudged in the rounds at these times."""

    async def rounds() -> list[list[str]]:
        return [await resumption.look(LATE + round(s * 1_000)) for s in after_s]

    return asyncio.run(rounds())


def everywhere(app: str, partition: int) -> bool:
    return True


def test_stalled_run_is_nudged_ever_more_rarely_until_it_moves(store: AsyncStore) -> None:
    put(store, 1)
    asking = Resumption(store, Kafka().send, everywhere)
    second = NUDGE_AGAIN_FIRST_S
    third = second + 2 * NUDGE_AGAIN_FIRST_S
    times = (0.0, second - 1, second, third - 1, third)

    nudged = look(asking, *times)
    put(store, 1, seq=8)
    moved = look(asking, third + 1)

    assert [bool(runs) for runs in nudged] == [True, False, True, False, True]
    assert moved == [[run_id(1)]]
    assert asking.nudges_total == 4
    assert NUDGE_AGAIN_MAX_S >= 4 * NUDGE_AGAIN_FIRST_S


def test_runs_that_no_nudge_helps_do_not_hide_the_others(
    store: AsyncStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumption, "RUNS_PER_LOOK_MAX", 2)
    put(store, 1, 2, 3, 4, 5)
    asking = Resumption(store, Kafka().send, everywhere)

    nudged = look(asking, 0, 1, 2, 3)

    assert nudged == [[run_id(1), run_id(2)], [run_id(3), run_id(4)], [run_id(5)], []]
    assert asking.stalled == 5


def test_run_whose_shard_is_gone_does_not_keep_others_from_being_nudged(store: AsyncStore) -> None:
    put(store, 1, 2)
    kafka = Kafka()
    kafka.refusals[run_id(1)] = NotFoundError("no app has the run")
    asking = Resumption(store, kafka.send, everywhere)

    assert look(asking, 0) == [[run_id(2)]]
    assert kafka.nudged == [run_id(2)]
    assert asking.nudges_total == 1


def test_kafka_that_is_away_ends_the_round(store: AsyncStore) -> None:
    put(store, 1, 2)
    kafka = Kafka()
    kafka.refusals[run_id(1)] = KafkaError("no answer")
    asking = Resumption(store, kafka.send, everywhere)

    with pytest.raises(KafkaError):
        look(asking, 0)

    assert kafka.nudged == []
    assert asking.stalled == 2


def test_runs_that_are_not_read_on_here_are_let_alone(store: AsyncStore) -> None:
    put(store, 1)
    put(store, 2, app="audit")
    asking = Resumption(store, Kafka().send, lambda app, partition: app == "audit")

    assert look(asking, 0) == [[run_id(2)]]
    assert asking.stalled == 1


def test_run_that_is_not_due_any_more_is_counted_no_more(store: AsyncStore) -> None:
    put(store, 1)
    asking = Resumption(store, Kafka().send, everywhere)
    stalled_then = (look(asking, 0), asking.stalled)
    store.store.forget(["research"])

    assert look(asking, 1) == [[]]
    assert stalled_then == ([[run_id(1)]], 1)
    assert asking.stalled == 0
