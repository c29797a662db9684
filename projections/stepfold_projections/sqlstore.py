"""The trace store in SQL: SQLite in WAL mode by default.

One connection writes; readers have their own and see the last committed state. Only
plain SQLAlchemy Core is used, so that another database needs a URL and a driver.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Generator, Iterable
from pathlib import Path
from typing import Any, cast

from sqlalchemy import (
    Connection,
    Engine,
    Table,
    create_engine,
    delete,
    event,
    func,
    insert,
    inspect,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.engine import RowMapping, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from stepfold.core.errors import ConfigurationError
from stepfold_projections import tables
from stepfold_projections.runs import OpenWait, RunRow, Status
from stepfold_projections.store import (
    STORE_VERSION,
    Changes,
    Cursor,
    Due,
    RunFilter,
    ShardRow,
    StoreConflictError,
    StoredEvent,
)

PARAMETERS_MAX = 500
"""Ids in one `IN`: some databases bound the number of parameters."""
BUSY_TIMEOUT_S = 10.0
BACKENDS = ("sqlite", "postgresql")
"""Those whose `ON CONFLICT` is known here."""
VERSION = "version"

_RUN_FIELDS = tuple(field.name for field in dataclasses.fields(RunRow))


class SqlStore:
    """A TraceStore. url: as SQLAlchemy takes it, such as `sqlite:///.stepfold/traces.db`."""

    def __init__(self, url: str) -> None:
        try:
            self._engine = _engine(url)
        except (ArgumentError, NoSuchModuleError, ImportError, OSError) as error:
            raise ConfigurationError(
                f"--store {_shown(url)!r} is no database that can be opened ({error}); "
                "use sqlite:///path/to/file.db, or postgresql+psycopg://… with stepfold[postgres]"
            ) from error
        self._name = self._engine.url.render_as_string(hide_password=True)
        self._upsert_run = _upsert(self._engine, tables.runs)
        self._insert_shard = _dialect_insert(self._engine, tables.shards).on_conflict_do_nothing()
        self._insert_event = insert(tables.events)

    def open(self) -> None:
        with self._opening() as connection:
            found = _version(connection)
            if found is None:
                self._create(connection)
        if found is not None and found != str(STORE_VERSION):
            raise ConfigurationError(
                f"the trace store {self._name!r} is of version {found}, this is {STORE_VERSION}; "
                "fill it anew from the log with: stepfold projections rebuild"
            )

    def close(self) -> None:
        self._engine.dispose()

    def clear(self) -> None:
        """Also of a store of another version, whose tables may be different ones."""
        with self._opening() as connection:
            tables.metadata.drop_all(connection)
            self._create(connection)

    @contextlib.contextmanager
    def _opening(self) -> Generator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except DBAPIError as error:
            raise ConfigurationError(
                f"the trace store {self._name!r} cannot be opened: {error.orig}; check the path, "
                "its permissions and the free space, or name another one with --store"
            ) from error

    def _create(self, connection: Connection) -> None:
        tables.metadata.create_all(connection)
        connection.execute(insert(tables.meta).values(name=VERSION, value=str(STORE_VERSION)))

    def forget(self, apps: Collection[str]) -> None:
        with self._engine.begin() as connection:
            for table in (tables.events, tables.runs, tables.shards):
                connection.execute(delete(table).where(table.c.app.in_(apps)))

    def join(self, shard: ShardRow) -> ShardRow:
        shards = tables.shards
        with self._engine.begin() as connection:
            connection.execute(self._insert_shard, [dataclasses.asdict(shard)])
            found = connection.execute(
                select(shards).where(
                    shards.c.app == shard.app, shards.c.partition == shard.partition
                )
            )
            return ShardRow(**found.mappings().one())

    def shards(self) -> list[ShardRow]:
        return [ShardRow(**row) for row in self._all(select(tables.shards))]

    def apply(self, changes: Changes) -> None:
        with self._engine.begin() as connection:
            for shard in changes.shards:
                self._move(connection, shard, changes.positions[shard.app, shard.partition])
            if changes.events:
                connection.execute(self._insert_event, [e._asdict() for e in changes.events])
            if changes.runs:
                connection.execute(self._upsert_run, [_run_fields(row) for row in changes.runs])

    def _move(self, connection: Connection, shard: ShardRow, expected: int) -> None:
        shards = tables.shards
        moved = connection.execute(
            update(shards)
            .where(
                shards.c.app == shard.app,
                shards.c.partition == shard.partition,
                shards.c.next_offset == expected,
            )
            .values(dataclasses.asdict(shard))
        )
        if moved.rowcount != 1:
            raise StoreConflictError(
                f"{shard.app}.history/{shard.partition} is not at offset {expected} in the store "
                "any more: another projector, or a rebuild, works on it"
            )

    def rows(self, run_ids: Collection[str]) -> dict[str, RunRow]:
        runs = tables.runs
        found = self._in_parts(run_ids, lambda ids: select(runs).where(runs.c.run_id.in_(ids)))
        return {row["run_id"]: _run_row(row) for row in found}

    def early_events(self, run_ids: Collection[str]) -> list[StoredEvent]:
        events = tables.events
        found = self._in_parts(run_ids, lambda ids: select(events).where(events.c.run_id.in_(ids)))
        return sorted(StoredEvent(**row) for row in found)

    def list_runs(self, where: RunFilter, limit: int, after: Cursor | None) -> list[RunRow]:
        runs = tables.runs
        query = select(runs).order_by(runs.c.accepted_at.desc(), runs.c.run_id.desc()).limit(limit)
        for condition in _conditions(where):
            query = query.where(condition)
        if after is not None:
            query = query.where(tuple_(runs.c.accepted_at, runs.c.run_id) < tuple_(*after))
        return [_run_row(row) for row in self._all(query)]

    def events_of(self, row: RunRow, *, after: int, as_of: int, limit: int) -> list[StoredEvent]:
        events = tables.events
        in_bounds = (events.c.offset > after, events.c.offset <= as_of)
        own = select(events).where(events.c.run_id == row.run_id, *in_bounds)
        # The acceptance is one event of all runs of its trigger, and bears the first one's id.
        accepted = select(events).where(
            events.c.app == row.app,
            events.c.partition == row.partition,
            events.c.offset == row.accepted_offset,
            *in_bounds,
        )
        both = own.union(accepted).subquery()
        return [
            StoredEvent(**found)
            for found in self._all(select(both).order_by(both.c.offset).limit(limit))
        ]

    def due_before(self, at: int, limit: int, after: Due | None = None) -> list[RunRow]:
        runs = tables.runs
        order = (runs.c.due_at, runs.c.run_id)
        query = select(runs).where(runs.c.due_at < at).order_by(*order).limit(limit)
        if after is not None:
            query = query.where(tuple_(*order) > tuple_(*after))
        return [_run_row(row) for row in self._all(query)]

    def counts(self) -> dict[tuple[str, str, Status], int]:
        runs = tables.runs
        key = (runs.c.app, runs.c.workflow, runs.c.status)
        query = select(*key, func.count().label("count")).group_by(*key)
        return {
            (row["app"], row["workflow"], row["status"]): row["count"] for row in self._all(query)
        }

    def _in_parts(
        self, ids: Collection[str], query_of: Callable[[list[str]], Any]
    ) -> Iterable[RowMapping]:
        every = list(ids)
        for start in range(0, len(every), PARAMETERS_MAX):
            yield from self._all(query_of(every[start : start + PARAMETERS_MAX]))

    def _all(self, query: Any) -> list[RowMapping]:
        with self._engine.connect() as connection:
            return list(connection.execute(query).mappings().all())


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    if backend not in BACKENDS:
        raise ArgumentError(f"{backend} is not one of {', '.join(BACKENDS)}")
    if backend != "sqlite":
        return create_engine(parsed)
    if parsed.database and parsed.database != ":memory:":
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        parsed, connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False}
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:  # pyright: ignore[reportUnusedFunction]
        # WAL: readers go on while a batch is written. NORMAL: after a power cut the last
        # batches may be gone together with their positions, and are read again.
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL"):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _shown(url: str) -> str:
    """Without its password, where it can be told apart."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table(tables.meta.name):
        return None
    return connection.scalar(select(tables.meta.c.value).where(tables.meta.c.name == VERSION))


def _upsert(engine: Engine, table: Table) -> Any:
    """Insert, or replace what the key has."""
    statement = _dialect_insert(engine, table)
    keys = [column.name for column in table.primary_key]
    rest = {c.name: statement.excluded[c.name] for c in table.columns if c.name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=rest)


def _dialect_insert(engine: Engine, table: Table) -> Any:
    """`ON CONFLICT` is no standard SQL: each dialect has an insert of its own for it."""
    if engine.dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as dialect_insert
    else:
        from sqlalchemy.dialects.postgresql import insert as dialect_insert  # type: ignore[assignment]
    return dialect_insert(table)


def _conditions(where: RunFilter) -> Iterable[Any]:
    runs, events = tables.runs, tables.events
    for name in ("app", "workflow", "tenant"):
        wanted = getattr(where, name)
        if wanted is not None:
            yield runs.c[name] == wanted
    if where.statuses:
        yield runs.c.status.in_(where.statuses)
    if where.step is not None:
        yield runs.c.run_id.in_(select(events.c.run_id).where(events.c.step == where.step))
    if where.error is not None:
        yield or_(
            runs.c.error_message.icontains(where.error, autoescape=True),
            runs.c.error_type.icontains(where.error, autoescape=True),
        )
    if where.since is not None:
        yield runs.c.accepted_at >= where.since
    if where.until is not None:
        yield runs.c.accepted_at < where.until


def _run_fields(row: RunRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in _RUN_FIELDS}


def _run_row(fields: RowMapping) -> RunRow:
    known = dict(fields)
    known["waits"] = {key: OpenWait(*wait) for key, wait in known["waits"].items()}
    return RunRow(**cast("dict[str, Any]", known))
