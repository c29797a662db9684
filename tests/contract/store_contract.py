"""What every trace store promises, whatever database is behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from stepfold.core.ids import run_id_of
from stepfold_projections.runs import OpenWait, RunRow, Status
from stepfold_projections.store import (
    Changes,
    Cursor,
    Due,
    RunFilter,
    ShardRow,
    StoreConflictError,
    StoredEvent,
    TraceStore,
)

OpenStore = Callable[[], TraceStore]

SHARD = ShardRow("research", 0, "history-id")
AT = 1_700_000_000_000


def row(
    number: int, *, status: Status = "running", at: int | None = None, **more: object
) -> RunRow:
    made = RunRow(
        run_id=run_id_of(0, "00000", number),
        app="research",
        workflow="agent",
        partition=0,
        tenant="acme",
        def_hash="hash",
        event_name="agent/run",
        event_id="",
        idempotency_key="",
        accepted_at=AT + number if at is None else at,
        accepted_offset=number * 10,
        status=status,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def stored(offset: int, run: RunRow, *, step: str | None = None) -> StoredEvent:
    return StoredEvent("research", 0, offset, run.run_id, "AttemptStarted", AT, step, b"\x00raw")


def write(
    store: TraceStore,
    *,
    runs: Iterable[RunRow] = (),
    events: Iterable[StoredEvent] = (),
    shard: ShardRow = SHARD,
    expected: int | None = None,
) -> None:
    """expected: where the shard is in the store; by default that is asked first."""
    if expected is None:
        expected = store.join(replace(shard, next_offset=0)).next_offset
    positions = {(shard.app, shard.partition): expected}
    store.apply(Changes(events=list(events), runs=list(runs), shards=[shard], positions=positions))


def ids(rows: Iterable[RunRow]) -> list[str]:
    return [found.run_id for found in rows]


class StoreContract:
    """Subclasses give the fixture `open_store`: the same database at each call."""

    def test_rows_and_positions_survive_reopening(self, open_store: OpenStore) -> None:
        run = row(
            1,
            status="waiting",
            due_at=AT + 5,
            open_attempts={"plan": 2},
            backoffs={"search": AT},
            timers={"nap": AT + 9},
            waits={"approval": OpenWait("signal", "approval", AT + 5)},
        )
        shard = replace(SHARD, next_offset=12, epoch_offset=3, epoch_nonce=2**62, fault="none")
        first = open_store()
        write(first, runs=[run], shard=shard)
        first.close()

        second = open_store()

        assert second.rows([run.run_id, "unknown"]) == {run.run_id: run}
        assert second.shards() == [shard]

    def test_transaction_that_fails_leaves_nothing(self, open_store: OpenStore) -> None:
        store = open_store()
        write(store, runs=[row(1)], events=[stored(5, row(1))])
        moved = replace(SHARD, next_offset=9)

        with pytest.raises(Exception, match=r"(?i)unique"):
            write(store, runs=[row(2)], events=[stored(5, row(1))], shard=moved, expected=0)

        assert store.rows([row(2).run_id]) == {}
        assert store.shards() == [SHARD]

    def test_shard_that_somebody_else_moved_on_is_not_written(self, open_store: OpenStore) -> None:
        store = open_store()
        write(store, shard=replace(SHARD, next_offset=7))

        with pytest.raises(StoreConflictError):
            write(store, runs=[row(1)], shard=replace(SHARD, next_offset=9), expected=3)

        assert store.rows([row(1).run_id]) == {}
        assert store.shards()[0].next_offset == 7

    def test_shard_that_the_store_does_not_have_is_not_written(self, open_store: OpenStore) -> None:
        store = open_store()

        with pytest.raises(StoreConflictError, match=r"research\.history/0 is not at offset 0"):
            write(store, runs=[row(1)], expected=0)

        assert store.shards() == []

    def test_who_joins_a_shard_second_gets_what_the_first_made_of_it(
        self, open_store: OpenStore
    ) -> None:
        store = open_store()
        joined = store.join(SHARD)
        moved = replace(SHARD, next_offset=7, fault="offset 7 cannot be read")
        write(store, shard=moved)

        assert joined == SHARD
        assert store.join(SHARD) == moved
        assert store.shards() == [moved]

    def test_apps_are_forgotten_one_by_one(self, open_store: OpenStore) -> None:
        store = open_store()
        write(store, runs=[row(1), row(2, app="audit")], events=[stored(5, row(1), step="plan")])
        write(store, shard=replace(SHARD, app="audit"), events=[])

        store.forget(["research", "nobody"])

        assert ids(store.list_runs(RunFilter(), 10, None)) == [row(2).run_id]
        assert [shard.app for shard in store.shards()] == ["audit"]
        assert store.early_events([row(1).run_id]) == []

    def test_runs_are_listed_newest_first_and_each_once_over_pages(
        self, open_store: OpenStore
    ) -> None:
        store = open_store()
        write(store, runs=[row(number, at=AT + number // 3) for number in range(20)])

        found: list[RunRow] = []
        cursor: Cursor | None = None
        while page := store.list_runs(RunFilter(), 3, cursor):
            found += page
            cursor = Cursor(page[-1].accepted_at, page[-1].run_id)

        assert ids(found) == ids(row(number) for number in reversed(range(20)))

    @pytest.mark.parametrize(
        ("where", "numbers"),
        [
            (RunFilter(), [4, 3, 2, 1]),
            (RunFilter(app="other"), [4]),
            (RunFilter(workflow="audit"), [3]),
            (RunFilter(statuses=("failed",)), [2]),
            (RunFilter(statuses=("failed", "running")), [4, 3, 2, 1]),
            (RunFilter(statuses=("failed",), workflow="audit"), []),
            (RunFilter(tenant="umbrella"), [1]),
            (RunFilter(step="search"), [1]),
            (RunFilter(error="100%_sure"), [2]),
            (RunFilter(error="100x_sure"), []),
            (RunFilter(error="valueerror"), [2]),
            (RunFilter(since=AT + 2, until=AT + 4), [3, 2]),
            (RunFilter(app="nobody"), []),
        ],
    )
    def test_each_filter_leaves_out_what_it_says(
        self, open_store: OpenStore, where: RunFilter, numbers: list[int]
    ) -> None:
        store = open_store()
        failed = row(
            2, status="failed", error_type="ValueError", error_message="I am 100%_sure of it"
        )
        runs = [row(1, tenant="umbrella"), failed, row(3, workflow="audit"), row(4, app="other")]
        write(store, runs=runs, events=[stored(5, row(1), step="search"), stored(6, row(2))])

        assert ids(store.list_runs(where, 10, None)) == [row(n).run_id for n in numbers]

    def test_events_of_each_run_of_a_trigger_begin_with_their_common_acceptance(
        self, open_store: OpenStore
    ) -> None:
        store = open_store()
        first, second = row(1, accepted_offset=10), row(2, accepted_offset=10)
        accepted = stored(10, first)._replace(kind="RunAccepted")
        write(
            store,
            runs=[first, second],
            events=[accepted, stored(11, first), stored(12, second), stored(13, second)],
        )

        def offsets(run: RunRow, after: int = -1, as_of: int = 99, limit: int = 9) -> list[int]:
            found = store.events_of(run, after=after, as_of=as_of, limit=limit)
            return [event.offset for event in found]

        assert offsets(first) == [10, 11]
        assert offsets(second) == [10, 12, 13]
        assert offsets(second, as_of=12) == [10, 12]
        assert offsets(second, after=10) == [12, 13]
        assert offsets(second, limit=2) == [10, 12]

    def test_early_events_come_in_the_order_of_the_log(self, open_store: OpenStore) -> None:
        store = open_store()
        write(store, events=[stored(8, row(1)), stored(3, row(1)), stored(4, row(2))])

        assert [event.offset for event in store.early_events([row(1).run_id])] == [3, 8]

    def test_due_runs_are_those_whose_time_has_come(self, open_store: OpenStore) -> None:
        store = open_store()
        runs = [row(1, due_at=AT + 5), row(2, due_at=AT + 1), row(3), row(4, due_at=AT + 10)]
        write(store, runs=runs)

        assert ids(store.due_before(AT + 6, 10)) == [row(2).run_id, row(1).run_id]
        assert ids(store.due_before(AT + 6, 1)) == [row(2).run_id]

    def test_runs_due_at_one_moment_come_each_once_over_pages(self, open_store: OpenStore) -> None:
        store = open_store()
        write(store, runs=[row(number, due_at=AT + number // 3) for number in range(9)])

        found: list[RunRow] = []
        after: Due | None = None
        while page := store.due_before(AT + 9, 2, after):
            found += page
            after = Due(page[-1].due_at or 0, page[-1].run_id)

        assert ids(found) == ids(row(number) for number in range(9))

    def test_counts_are_by_app_workflow_and_status(self, open_store: OpenStore) -> None:
        store = open_store()
        write(store, runs=[row(1), row(2), row(3, status="failed"), row(4, app="other")])

        assert store.counts() == {
            ("research", "agent", "running"): 2,
            ("research", "agent", "failed"): 1,
            ("other", "agent", "running"): 1,
        }

    def test_cleared_store_is_empty(self, open_store: OpenStore) -> None:
        store = open_store()
        write(store, runs=[row(1)], events=[stored(5, row(1))])

        store.clear()

        assert (store.shards(), store.counts()) == ([], {})
