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
from stepfold_projections.projector import AsyncStore
from stepfold_projections.runs import RunRow
from stepfold_projections.stalled import STALLED_AFTER_MS, stalled_reason

logger = logging.getLogger(__name__)

LOOK_S = 5.0
RUNS_PER_LOOK_MAX = 200
NUDGE_AGAIN_FIRST_S = 15.0
NUDGE_AGAIN_MAX_S = 600.0
"""A run that does not move in spite of nudges is asked ever more rarely."""

Send = Callable[[RunRow, Nudge], Awaitable[None]]


@dataclass(slots=True)
class _Nudged:
    seq: int
    next_at: float
    delay_s: float


class Resumption:
    """send: appends the nudge to the control topic of the run's shard."""

    def __init__(self, store: AsyncStore, send: Send, is_caught_up: Callable[[], bool]) -> None:
        self._store = store
        self._send = send
        self._is_caught_up = is_caught_up
        self._nudged: dict[str, _Nudged] = {}
        self.nudges_total = 0
        self.stalled = 0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            # What the projection has not read yet may be just what seems to be missing.
            if not self._is_caught_up():
                continue
            try:
                await self.look(_now_ms())
            except Exception as error:  # noqa: BLE001 - Kafka or the store is away: next time
                logger.warning("stalled runs were not nudged", extra={"reason": str(error)})

    async def look(self, now_ms: int) -> list[str]:
        """One round; the runs that were nudged in it."""
        rows = await self._store.read(
            self._store.store.due_before, now_ms - STALLED_AFTER_MS, RUNS_PER_LOOK_MAX
        )
        stalled = [row for row in rows if stalled_reason(row, now_ms) is not None]
        self.stalled = len(stalled)
        self._nudged = {
            r.run_id: self._nudged[r.run_id] for r in stalled if r.run_id in self._nudged
        }
        done: list[str] = []
        for row in stalled:
            if self._is_due(row, now_ms / 1_000):
                await self._send(row, _nudge_of(row))
                self.nudges_total += 1
                done.append(row.run_id)
        return done

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
