"""Killed anywhere, the store shows what it would have shown without: no event lost, none twice."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from stepfold.journal.port import LogRecord
from stepfold_projections import tables
from stepfold_projections.projection import Piece, Projection
from stepfold_projections.sqlstore import SqlStore
from stepfold_projections.store import Changes
from tests.unit.history_samples import (
    APP,
    HISTORY,
    HistoryMaker,
    accepted,
    random_history,
)

SEEDS = 60
CRASHES_PER_HISTORY = 8


class CrashError(Exception):
    """The process is gone."""


class CrashingStore(SqlStore):
    """Crashes before or after a commit, when it is told to."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.crash: str | None = None

    def apply(self, changes: Changes) -> None:
        if self.crash == "before":
            raise CrashError
        super().apply(changes)
        if self.crash == "after":
            raise CrashError


def opened(path: Path) -> CrashingStore:
    store = CrashingStore(f"sqlite:///{path}")
    store.open()
    return store


def begun(store: SqlStore) -> tuple[Projection, int]:
    """A projection as a new process has it, and where it reads on."""
    projection = Projection(store)
    return projection, projection.join(APP, HISTORY, 0).next_offset


def contents(store: SqlStore) -> list[list[dict[str, Any]]]:
    with store._engine.connect() as connection:  # pyright: ignore[reportPrivateUsage]
        return [
            sorted(
                (dict(row) for row in connection.execute(select(table)).mappings()),
                key=lambda row: str(sorted(row.items(), key=lambda item: item[0])),
            )
            for table in (tables.runs, tables.events, tables.shards)
        ]


def project_at_once(path: Path, records: list[LogRecord]) -> CrashingStore:
    store = opened(path)
    projection, _ = begun(store)
    projection.take([Piece(APP, 0, records)])
    return store


def project_with_crashes(path: Path, records: list[LogRecord], seed: int) -> CrashingStore:
    choose = random.Random(seed)
    store = opened(path)
    projection, position = begun(store)
    crashes = CRASHES_PER_HISTORY
    while position < len(records):
        size = choose.randint(1, 20)
        store.crash = choose.choice(["before", "after", None]) if crashes else None
        try:
            projection.take([Piece(APP, 0, records[position : position + size])])
        except CrashError:
            crashes -= 1
            store.crash = None
            projection, position = begun(store)
        else:
            position += size
    return store


@pytest.mark.parametrize("seed", range(SEEDS))
def test_crashes_at_any_batch_change_nothing(seed: int, tmp_path: Path) -> None:
    records = random_history(seed)

    whole = project_at_once(tmp_path / "whole.db", records)
    broken = project_with_crashes(tmp_path / "broken.db", records, seed)

    assert contents(broken) == contents(whole)
    assert len(contents(whole)[0]) > 3


def test_failed_transaction_is_taken_again_by_the_same_process(tmp_path: Path) -> None:
    records = random_history(7)
    whole = project_at_once(tmp_path / "whole.db", records)
    store = opened(tmp_path / "retried.db")
    projection, _ = begun(store)

    store.crash = "before"
    with pytest.raises(CrashError):
        projection.take([Piece(APP, 0, records)])
    store.crash = None
    projection.take([Piece(APP, 0, records)])
    again = projection.take([Piece(APP, 0, records)])

    assert contents(store) == contents(whole)
    assert again.records == 0


def test_record_that_cannot_be_read_stops_its_partition_visibly() -> None:
    log = HistoryMaker()
    log.claim(1)
    log.append(accepted(log.next_inbox()))
    log.append_bytes(b"\xc3\x01garbage!")
    log.append(accepted(log.next_inbox()))
    store = SqlStore("sqlite://")
    store.open()
    projection, _ = begun(store)

    (shard,) = projection.take([Piece(APP, 0, log.records)]).shards

    assert shard.fault.startswith("offset 2 cannot be read")
    assert shard.next_offset == 2
    assert len(store.counts()) == 1
