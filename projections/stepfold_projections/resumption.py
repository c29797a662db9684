"""Asks the owners of runs that stopped moving to look at them again.

Acts by `Nudge` only: a nudge that is not needed changes nothing, so being wrong here is
harmless, and a projection that is behind can never harm a run.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from stepfold.core.commands import Nudge
from stepfold.core.errors import NotFoundError
from stepfold_projections.asyncstore import AsyncStore
from stepfold_projections.runs import RunRow
from stepfold_projections.stalled import STALLED_AFTER_MS, stalled_reason
from stepfold_projections.store import Due

logger = logging.getLogger(__name__)

LOOK_S = 5.0
RUNS_PER_LOOK_MAX = 1_000
"""Stalled runs looked at in one round; the next round goes on behind them, so that runs
which no nudge helps do not hide the others."""
NUDGE_AGAIN_FIRST_S = 15.0
NUDGE_AGAIN_MAX_S = 600.0
"""A run that does not move in spite of nudges is asked ever more rarely."""

Send = Callable[[RunRow, Nudge], Awaitable[None]]
IsFollowed = Callable[[str, int], bool]


@dataclass(slots=True)
class _Nudged:
    seq: int
    next_at: float
    delay_s: float


class Resumption:
    """send: appends the nudge to the control topic of the run's shard.

    is_followed: whether the rows of an app's partition are kept up to date here. What
    seems to be missing in others may be just what was not read.
    """

    def __init__(self, store: AsyncStore, send: Send, is_followed: IsFollowed) -> None:
        self._store = store
        self._send = send
        self._is_followed = is_followed
        self._nudged: dict[str, _Nudged] = {}
        self._behind: Due | None = None
        self._seen: set[str] = set()
        self.nudges_total = 0
        self.stalled = 0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look(_now_ms())
            except Exception as error:  # noqa: BLE001 - Kafka or the store is away: next time
                logger.warning("stalled runs were not nudged", extra={"reason": str(error)})

    async def look(self, now_ms: int) -> list[str]:
        """One round; the runs that were nudged in it."""
        rows = await self._store.read(
            self._store.store.due_before,
            now_ms - STALLED_AFTER_MS,
            RUNS_PER_LOOK_MAX,
            self._behind,
        )
        stalled = [row for row in rows if self._is_stalled(row, now_ms)]
        self._note(rows, stalled)
        done: list[str] = []
        for row in stalled:
            if self._is_due(row, now_ms / 1_000) and await self._nudge(row):
                done.append(row.run_id)
        return done

    def _is_stalled(self, row: RunRow, now_ms: int) -> bool:
        return self._is_followed(row.app, row.partition) and bool(stalled_reason(row, now_ms))

    def _note(self, rows: list[RunRow], stalled: list[RunRow]) -> None:
        """Count, round by round, until all that are due were seen once."""
        self._seen.update(row.run_id for row in stalled)
        self.stalled = max(self.stalled, len(self._seen))
        if len(rows) == RUNS_PER_LOOK_MAX:
            self._behind = Due(rows[-1].due_at or 0, rows[-1].run_id)
            return
        self._behind = None
        self.stalled = len(self._seen)
        self._nudged = {r: known for r, known in self._nudged.items() if r in self._seen}
        self._seen = set()

    async def _nudge(self, row: RunRow) -> bool:
        try:
            await self._send(row, _nudge_of(row))
        except NotFoundError as error:
            extra = {"app": row.app, "run_id": row.run_id, "reason": str(error)}
            logger.warning("a stalled run has no shard any more", extra=extra)
            return False
        self.nudges_total += 1
        return True

    def _is_due(self, row: RunRow, now_s: float) -> bool:
        known = self._nudged.get(row.run_id)
        if known is None or known.seq != row.last_seq:
            known = self._nudged[row.run_id] = _Nudged(row.last_seq, now_s, NUDGE_AGAIN_FIRST_S)
        if now_s < known.next_at:
            return False
        known.next_at = now_s + known.delay_s
        known.delay_s = min(known.delay_s * 2, NUDGE_AGAIN_MAX_S)
        return True


def _nudge_of(row: RunRow) -> Nudge:
    return Nudge(
        run_id=row.run_id,
        epoch_offset=row.last_epoch_offset,
        epoch_nonce=row.last_epoch_nonce,
        seq=row.last_seq,
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
