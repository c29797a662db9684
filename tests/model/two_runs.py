"""What may happen in a shard of two runs, as the engine decides it.

A signal for the second run is the first record of the control topic, so that it may well come
before its run; then one for the first run follows.
"""

from __future__ import annotations

from functools import cache

from stepfold.core import commands as c
from stepfold.core import events as e
from stepfold.core import intake
from stepfold.core.ids import Position, run_id_of
from stepfold.core.shard import Shard
from tests.model.pen import NOW_MS
from tests.model.samples import CONTROL, INBOX, TOPIC_SHORT, WORKFLOW

RUNS = tuple(run_id_of(0, TOPIC_SHORT, offset) for offset in range(2))
SIGNALS = (RUNS[1], RUNS[0])

ACCEPT = "the next trigger"
SIGNAL = "the next signal"
ENDS = tuple(f"the end of run {number}" for number in range(len(RUNS)))
DOINGS = (ACCEPT, SIGNAL, *ENDS)


def events_of(shard: Shard, doing: str) -> tuple[e.Event, ...]:
    """() where there is nothing to do."""
    if doing == ACCEPT:
        return _accepted(shard, _position(shard, INBOX))
    if doing == SIGNAL:
        return _signalled(shard, _position(shard, CONTROL))
    run_id = RUNS[ENDS.index(doing)]
    if run_id not in shard.runs:
        return ()
    return (e.RunCompleted(run_id=run_id, payload=b"", payload_encoding="none", key_id=""),)


def _accepted(shard: Shard, offset: int) -> tuple[e.Event, ...]:
    if offset == len(RUNS):
        return ()
    start = e.RunStart(RUNS[offset], WORKFLOW, "", "", "", 0)
    return intake.accept(shard, "a", _trigger(), Position(INBOX, 0, offset, 0), (start,))


def _signalled(shard: Shard, offset: int) -> tuple[e.Event, ...]:
    if offset == len(SIGNALS):
        return ()
    signal = c.Signal(
        run_id=SIGNALS[offset],
        signal_id=f"signal {offset}",
        name="s",
        payload=b"",
        payload_encoding="none",
        key_id="",
    )
    return intake.control(shard, signal, Position(CONTROL, 0, offset, 0), NOW_MS)


def _position(shard: Shard, topic_id: str) -> int:
    taken = shard.intake.get((topic_id, 0))
    return 0 if taken is None else taken.offset + 1


@cache
def _trigger() -> c.Trigger:
    return c.Trigger(
        name="",
        id="",
        workflow=WORKFLOW,
        payload=b"",
        payload_encoding="none",
        key_id="",
        idempotency_key="",
        sent_at=0,
    )
