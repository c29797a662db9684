"""The engine's own fold, run over a history once more: what a leader knows must be this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stepfold.core.run import Run, Step
from stepfold.core.shard import Shard, begin_at, fold
from stepfold.journal.codec import decode_event
from stepfold.journal.port import LogRecord

COMPARED = (
    "opened", "unsafe", "intake", "known", "aliases", "early", "early_order", "outbox", "inbound",
    "lwm", "checkpoint_offset",
)  # fmt: skip


def folded_from(records: Sequence[LogRecord], start: int) -> Shard:
    """The records are those from offset 0 on."""
    shard = Shard()
    for record in records[start:]:
        recorded = decode_event(record.value or b"", record.offset)
        if record.offset == start > 0:
            begin_at(shard, recorded)
        fold(shard, recorded)
    return shard


def difference_of(state: Shard, folded: Shard) -> str:
    """The names of the fields that differ, with their values; empty when none does."""
    found = [
        f"{name}: {getattr(state, name)} / {getattr(folded, name)}"
        for name in COMPARED
        if getattr(state, name) != getattr(folded, name)
    ]
    if state.runs.keys() != folded.runs.keys():
        found.append(f"runs: {sorted(state.runs)} / {sorted(folded.runs)}")
    for run_id in state.runs.keys() & folded.runs.keys():
        mine, theirs = state.runs[run_id], folded.runs[run_id]
        _share_owners(mine.steps, theirs.steps)
        if mine != theirs:
            found.append(_run_difference(mine, theirs))
    return "; ".join(found)


def _run_difference(mine: Run, theirs: Run) -> str:
    names = [name for name in Run.__slots__ if getattr(mine, name) != getattr(theirs, name)]
    told = ", ".join(f"{name}: {getattr(mine, name)} / {getattr(theirs, name)}" for name in names)
    return f"run {mine.run_id}: {told}"


def _share_owners(mine: Mapping[str, Step], folded: Mapping[str, Step]) -> None:
    """An attempt that outlived its epoch is adopted without an event: its epoch may differ."""
    for step_id, step in mine.items():
        if step_id in folded:
            folded[step_id].epoch = step.epoch
