"""Reading: runs, one run, its events, and what there is at all."""

from __future__ import annotations

import base64
import binascii
import time
from collections import defaultdict
from datetime import datetime

from stepfold.core import events as e
from stepfold.core.ids import parse_run_id
from stepfold.journal.codec import decode_event
from stepfold_projections.asyncstore import AsyncStore
from stepfold_projections.http import models as m
from stepfold_projections.http.problems import ProblemError
from stepfold_projections.http.render import detail_of, event_of, summary_of
from stepfold_projections.http.routes import Call, Route
from stepfold_projections.projector import LogPosition, Projector
from stepfold_projections.resumption import Resumption
from stepfold_projections.runs import RunRow, Status
from stepfold_projections.store import Cursor, RunFilter, StoredEvent
from stepfold_projections.trace import trace_of

OFFSET_MAX = 2**62
RUN_EVENTS_MAX = 200_000
"""Events of one run that a trace is folded from; a run has at most 10,000 steps."""


class RunsApi:
    def __init__(self, store: AsyncStore, projector: Projector, resumption: Resumption) -> None:
        self._store = store
        self._projector = projector
        self._resumption = resumption

    def routes(self) -> list[Route]:
        return [
            Route(
                method="GET",
                path="/api/v1/runs",
                summary="Runs, newest first.",
                handler=self.list_runs,
                query=m.RunsQuery,
                response=m.RunList,
                errors=(400, 404, 501, 503, 504),
            ),
            Route(
                method="GET",
                path="/api/v1/runs/{id}",
                summary="A run with its steps, attempts, waits, inputs, outputs and errors.",
                handler=self.run,
                query=m.RunQuery,
                response=m.RunDetail,
                errors=(400, 404, 503, 504),
            ),
            Route(
                method="GET",
                path="/api/v1/runs/{id}/events",
                summary="The events of a run, as the log holds them.",
                handler=self.events,
                query=m.EventsQuery,
                response=m.EventList,
                errors=(400, 404, 503, 504),
            ),
            Route(
                method="GET",
                path="/api/v1/apps",
                summary="The apps whose histories are projected.",
                handler=self.apps,
                response=m.AppList,
            ),
            Route(
                method="GET",
                path="/api/v1/workflows",
                summary="Workflows that have runs, with how many in which status.",
                handler=self.workflows,
                response=m.WorkflowList,
            ),
            Route(
                method="GET",
                path="/api/v1/stats",
                summary="Counts over everything.",
                handler=self.stats,
                response=m.Stats,
            ),
        ]

    async def list_runs(self, call: Call) -> m.RunList:
        query: m.RunsQuery = call.query
        if query.q is not None:
            raise ProblemError(501, "q (CEL over event data and output) is not in this version")
        where = RunFilter(
            app=query.app,
            workflow=query.workflow,
            statuses=tuple(query.status or ()),
            tenant=query.tenant,
            step=query.step,
            error=query.error,
            since=_milliseconds(query.since, "from"),
            until=_milliseconds(query.until, "to"),
        )
        after = None if query.cursor is None else _cursor(query.cursor)
        await self._wait_passed(query)
        rows = await self._store.read(self._store.store.list_runs, where, query.limit + 1, after)
        more = len(rows) > query.limit
        rows = rows[: query.limit]
        now = _now_ms()
        return m.RunList(
            runs=[summary_of(row, now) for row in rows],
            next_cursor=_cursor_text(rows[-1]) if more else None,
        )

    async def run(self, call: Call) -> m.RunDetail:
        query: m.RunQuery = call.query
        row = await self._row(call.path["id"], query)
        as_of = OFFSET_MAX if query.as_of is None else query.as_of
        stored = await self._events(row, -1, as_of, RUN_EVENTS_MAX)
        trace = await self._store.read(_folded, row.run_id, stored, row.partition)
        if trace is None:
            raise ProblemError(
                404,
                f"run {row.run_id} was not accepted yet at offset {as_of} of its history; "
                f"it was at {row.accepted_offset}",
            )
        return trace

    async def events(self, call: Call) -> m.EventList:
        query: m.EventsQuery = call.query
        row = await self._row(call.path["id"], query)
        as_of = OFFSET_MAX if query.as_of is None else query.as_of
        after = -1 if query.cursor is None else query.cursor
        stored = await self._events(row, after, as_of, query.limit + 1)
        page = stored[: query.limit]
        return m.EventList(
            topic=f"{row.app}.history",
            partition=row.partition,
            events=[event_of(decode_event(event.value, event.offset)) for event in page],
            next_cursor=page[-1].offset if len(stored) > query.limit else None,
        )

    async def apps(self, call: Call) -> m.AppList:
        faults: defaultdict[str, list[str]] = defaultdict(list)
        counts: defaultdict[str, int] = defaultdict(int)
        for shard in self._projector.shards:
            counts[shard.app] += 1
            if shard.fault:
                faults[shard.app].append(f"partition {shard.partition}: {shard.fault}")
        return m.AppList(
            apps=[
                m.AppModel(name=app, partitions=counts[app], faults=faults[app])
                for app in sorted(counts)
            ]
        )

    async def workflows(self, call: Call) -> m.WorkflowList:
        counts = await self._store.read(self._store.store.counts)
        found: defaultdict[tuple[str, str], dict[Status, int]] = defaultdict(dict)
        for (app, workflow, status), count in counts.items():
            found[app, workflow][status] = count
        return m.WorkflowList(
            workflows=[
                m.WorkflowModel(app=app, workflow=workflow, runs=runs)
                for (app, workflow), runs in sorted(found.items())
            ]
        )

    async def stats(self, call: Call) -> m.Stats:
        counts = await self._store.read(self._store.store.counts)
        by_status: defaultdict[Status, int] = defaultdict(int)
        for (_, _, status), count in counts.items():
            by_status[status] += count
        return m.Stats(
            runs=dict(by_status),
            stalled=self._resumption.stalled,
            nudges=self._resumption.nudges_total,
            records_projected=self._projector.records_total,
            is_caught_up=self._projector.is_caught_up,
        )

    async def _row(self, run_id: str, query: m.ReadQuery) -> RunRow:
        _check_run_id(run_id)
        await self._wait_passed(query)
        row = (await self._store.read(self._store.store.rows, [run_id])).get(run_id)
        if row is None:
            raise await self._no_run(run_id)
        return row

    async def _no_run(self, run_id: str) -> ProblemError:
        """Says what the log knows of a run id that has no run."""
        for stored in await self._store.read(self._store.store.early_events, [run_id]):
            event = decode_event(stored.value, stored.offset).event
            if isinstance(event, e.RunDeduplicated):
                return ProblemError(
                    404,
                    f"the start {run_id} was a repetition (idempotency key or event id "
                    f"{event.idempotency_key!r}); its run is {event.existing_run_id}",
                    existing_run_id=event.existing_run_id,
                )
        return ProblemError(
            404,
            f"there is no run {run_id} in this projection; if it was started a moment ago, ask "
            "with ?after= and the position that the start gave",
        )

    async def _events(self, row: RunRow, after: int, as_of: int, limit: int) -> list[StoredEvent]:
        def read() -> list[StoredEvent]:
            return self._store.store.events_of(row, after=after, as_of=as_of, limit=limit)

        return await self._store.read(read)

    async def _wait_passed(self, query: m.ReadQuery) -> None:
        if query.after is None:
            return
        try:
            position = LogPosition.parse(query.after)
        except ValueError as error:
            raise ProblemError(400, str(error)) from error
        app, partition = position.app, position.partition
        if not self._projector.is_served(app):
            raise ProblemError(404, f"app {app!r} is not projected here; see /api/v1/apps")
        if await self._projector.wait_passed(position, query.timeout):
            return
        fault = self._projector.fault_of(app, partition)
        if fault:
            raise ProblemError(503, f"{app}, partition {partition} is not projected on: {fault}")
        raise ProblemError(
            504,
            f"the projection did not pass {query.after} within {query.timeout:g} s; "
            "is there a worker that takes the app's inbox and control?",
        )


def _folded(run_id: str, stored: list[StoredEvent], partition: int) -> m.RunDetail | None:
    records = [decode_event(event.value, event.offset) for event in stored]
    trace = trace_of(run_id, records, partition)
    return None if trace is None else detail_of(trace, _now_ms())


def _check_run_id(run_id: str) -> None:
    try:
        parse_run_id(run_id)
    except ValueError as error:
        raise ProblemError(404, str(error)) from error


def _cursor_text(row: RunRow) -> str:
    return base64.urlsafe_b64encode(f"{row.accepted_at}:{row.run_id}".encode()).decode()


def _cursor(text: str) -> Cursor:
    try:
        at, _, run_id = base64.urlsafe_b64decode(text.encode()).decode().partition(":")
        parse_run_id(run_id)
        return Cursor(int(at), run_id)
    except (ValueError, binascii.Error) as error:
        raise ProblemError(
            400, f"not a cursor: {text!r}; take `next_cursor` of the page before"
        ) from error


def _milliseconds(moment: datetime | None, name: str) -> int | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ProblemError(422, f"{name}: {moment} has no time zone; append Z for UTC")
    return round(moment.timestamp() * 1_000)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
