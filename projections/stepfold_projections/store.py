"""What the projection keeps, as a protocol: rows, raw events, and how far it has read.

Rows and positions change in one transaction, so that a crash anywhere repeats a batch
from where the store is, and never half of it. Methods block: callers on an event loop
go through `AsyncStore`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from stepfold_projections.runs import RunRow, Status

STORE_VERSION = 1
"""Raised when tables or the meaning of rows change: an older store has to be rebuilt."""


@dataclass(slots=True)
class ShardRow:
    """Where the projection stands in one history partition.

    next_offset: of the record to read next. The chain (epoch, next_seq) decides which
    records count. inbox and control: the last source offset that the history dealt with.
    """

    app: str
    partition: int
    history_topic_id: str
    next_offset: int = 0
    epoch_offset: int = -1
    epoch_nonce: int = 0
    next_seq: int = 0
    last_offset: int = -1
    inbox_topic_id: str = ""
    control_topic_id: str = ""
    inbox_offset: int = -1
    control_offset: int = -1
    worker_id: str = ""
    is_drained: bool = False
    void_records: int = 0
    fault: str = ""


class StoredEvent(NamedTuple):
    """A record that counted, as the log holds it. `step` only where its first attempt starts."""

    app: str
    partition: int
    offset: int
    run_id: str
    kind: str
    at: int
    step: str | None
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """One transaction. `positions` has each shard's offset before it: the store's, or else."""

    events: Sequence[StoredEvent]
    runs: Collection[RunRow]
    shards: Collection[ShardRow]
    positions: Mapping[tuple[str, int], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """error is part of an error's type or message; times in milliseconds, `until` excluded."""

    app: str | None = None
    workflow: str | None = None
    statuses: tuple[Status, ...] = ()
    tenant: str | None = None
    step: str | None = None
    error: str | None = None
    since: int | None = None
    until: int | None = None


class Cursor(NamedTuple):
    """The last run of a page: runs are listed newest first."""

    accepted_at: int
    run_id: str


class Due(NamedTuple):
    """The last run of a page of runs that are due."""

    due_at: int
    run_id: str


class StoreConflictError(Exception):
    """The store is not where this projector left it: another one, or a rebuild, moved it."""


class TraceStore(Protocol):
    def open(self) -> None:
        """Create what is missing. Raises ConfigurationError for a store of another version."""
        ...

    def close(self) -> None: ...

    def clear(self) -> None:
        """Forget everything; the log still has it."""
        ...

    def forget(self, apps: Collection[str]) -> None:
        """Forget what belongs to these apps, and nothing else."""
        ...

    def join(self, shard: ShardRow) -> ShardRow:
        """What the store has of this partition; it is this very shard where it has nothing."""
        ...

    def shards(self) -> list[ShardRow]: ...

    def apply(self, changes: Changes) -> None:
        """Raises StoreConflictError when a shard is not where `positions` says."""
        ...

    def rows(self, run_ids: Collection[str]) -> dict[str, RunRow]: ...

    def early_events(self, run_ids: Collection[str]) -> list[StoredEvent]:
        """Events of runs that have no row yet, in the order of the log."""
        ...

    def list_runs(self, where: RunFilter, limit: int, after: Cursor | None) -> list[RunRow]: ...

    def events_of(self, row: RunRow, *, after: int, as_of: int, limit: int) -> list[StoredEvent]:
        """The run's events with after < offset <= as_of, its acceptance among them."""
        ...

    def due_before(self, at: int, limit: int, after: Due | None = None) -> list[RunRow]:
        """Runs of which something was due before `at`, the latest-due last."""
        ...

    def counts(self) -> dict[tuple[str, str, Status], int]:
        """How many runs by app, workflow and status."""
        ...
