"""Writes the open runs and the shard anew from time to time, so that a fold may begin late.

Rule R22. Only runs whose last full record is far back are written, so that a run that
sleeps for long is written once per span of the log, not with every checkpoint; the span
grows with what is open, so that snapshots stay a bounded share of the log. Ordinary
events go on in between: each run's snapshot is taken as the run is when it is written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from stepfold.core import events as e
from stepfold.core.run import NO_BASE, Run
from stepfold.core.run_state import run_state
from stepfold.core.shard import Shard
from stepfold.core.shard_state import parts_of, shard_state
from stepfold.engine.guard import Guard
from stepfold.engine.history import ShardHistory

EVENTS_BETWEEN = 100_000
"""Events after which a checkpoint is due: it bounds what a new owner folds."""
EVENTS_PER_OPEN_RUN = 4
"""With many open runs it is due later, or they would be written all the time."""
SPANS_KEPT = 3
"""A run that stays open is written anew with every third checkpoint or so; what a new owner
folds is at most so many spans and one."""
ACTIVE_MS_BETWEEN = 5 * 60_000
EVENTS_WORTH_IT = 1_000
"""After that time, a checkpoint is due if there were so many events."""
RUNS_PER_SLICE = 200
"""Runs written before the loop gets its turn."""


class Checkpoints:
    """events_between: see EVENTS_BETWEEN. on_done: is told the mark once its record is proven."""

    def __init__(
        self,
        *,
        history: ShardHistory,
        guard: Guard,
        on_done: Callable[[int], None],
        events_between: int = EVENTS_BETWEEN,
    ) -> None:
        self._history = history
        self._guard = guard
        self._on_done = on_done
        self._events_between = events_between
        self._begun_ms = history.clock.now_ms()
        self._waiting: deque[str] | None = None
        self._runs = 0
        self._bytes = 0

    def begin_if_due(self) -> None:
        if self._waiting is not None or not self._history.is_certain:
            return
        shard = self._history.shard
        since = shard.chain.last_offset - shard.checkpoint_offset
        now = self._history.clock.now_ms()
        is_old = since >= EVENTS_WORTH_IT and now - self._begun_ms >= ACTIVE_MS_BETWEEN
        if is_old or since >= self._span(shard):
            self._begin(now)

    def _span(self, shard: Shard) -> int:
        return max(self._events_between, EVENTS_PER_OPEN_RUN * len(shard.runs))

    def _begin(self, now: int) -> None:
        shard = self._history.shard
        target = max(0, shard.chain.last_offset - SPANS_KEPT * self._span(shard))
        self._begun_ms, self._runs, self._bytes = now, 0, 0
        self._history.append(e.CheckpointBegin(lwm_target=target))
        self._waiting = deque(r.run_id for r in shard.runs.values() if r.base < target)
        self._go_on()

    def _go_on(self) -> None:
        waiting = self._waiting
        if waiting is None or not self._history.is_certain:
            return
        for _ in range(min(RUNS_PER_SLICE, len(waiting))):
            run = self._history.shard.runs.get(waiting.popleft())
            if run is not None:
                self._write_run(run)
        if waiting:
            clock = self._history.clock
            clock.call_at(clock.now_ms(), self._guard(self._go_on))
        else:
            self._end()

    def _write_run(self, run: Run) -> None:
        parts = parts_of(run_state(run))
        for part, state in enumerate(parts):
            snapshot = e.RunSnapshot(run_id=run.run_id, part=part, parts=len(parts), state=state)
            self._history.append(snapshot, tenant=run.tenant)
        self._note(parts)
        self._runs += 1

    def _end(self) -> None:
        self._waiting = None
        shard = self._history.shard
        for run in [run for run in shard.runs.values() if run.base == NO_BASE]:
            self._write_run(run)  # accepted since the beginning, after commands for it
        snapshot_offset = shard.chain.last_offset + 1
        parts = parts_of(shard_state(shard))
        for part, state in enumerate(parts):
            self._history.append(e.ShardSnapshot(part=part, parts=len(parts), state=state))
        self._note(parts)
        lwm = min((run.base for run in shard.runs.values()), default=snapshot_offset)
        lwm = min(lwm, snapshot_offset)
        end = e.CheckpointEnd(
            lwm=lwm,
            shard_snapshot_offset=snapshot_offset,
            runs_written=self._runs,
            state_bytes=self._bytes,
        )
        self._history.append(end, when_proven=lambda: self._on_done(lwm))

    def _note(self, parts: list[bytes]) -> None:
        self._bytes += sum(map(len, parts))
