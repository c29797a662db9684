"""What a shard knows besides its runs, as JSON, and back."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from stepfold.core import commands as c
from stepfold.core import events as e
from stepfold.core.ids import Epoch, Position
from stepfold.core.outgoing import Outgoing
from stepfold.core.run_state import Plain, dumped, plain, unplain
from stepfold.core.shard import Accepted, Early, Known, Shard

PART_BYTES_MAX = 512 * 1024
"""A part of a snapshot: with what wraps it, it has to fit into one record."""


def shard_state(shard: Shard) -> bytes:
    return dumped(
        {
            "opened": None if shard.opened is None else _record_state(shard.opened),
            "unsafe": shard.unsafe,
            "intake": [[*place, *taken] for place, taken in shard.intake.items()],
            "known": [[key, *first] for key, first in shard.known.items()],
            "aliases": [[key, *first] for key, first in shard.aliases.items()],
            "inbound": shard.inbound,
            "outbox": {
                target: [
                    outgoing.last,
                    [[out.n, _record_state(out.body)] for out in outgoing.unacked.values()],
                ]
                for target, outgoing in shard.outbox.items()
            },
            "early": {
                run_id: [[_record_state(each.event), each.at, each.epoch] for each in early]
                for run_id, early in shard.early.items()
            },
        }
    )


def restore_shard(shard: Shard, state: bytes) -> None:
    """Put everything but the runs and the chain into the state that was written."""
    loaded: dict[str, Plain] = json.loads(state)
    shard.opened = None if loaded["opened"] is None else _record_of(loaded["opened"])
    shard.unsafe = loaded["unsafe"]
    shard.intake = {(t, p): Accepted(offset, epoch) for t, p, offset, epoch in loaded["intake"]}
    shard.known = {key: Known(run_id, at) for key, run_id, at in loaded["known"]}
    shard.aliases = {key: Known(run_id, at) for key, run_id, at in loaded["aliases"]}
    shard.inbound = loaded["inbound"]
    shard.outbox = {
        target: Outgoing(last, {n: e.Out(target, n, _record_of(body)) for n, body in unacked})
        for target, (last, unacked) in loaded["outbox"].items()
    }
    shard.early = {
        run_id: [Early(_record_of(event), at, Epoch(*epoch)) for event, at, epoch in early]
        for run_id, early in loaded["early"].items()
    }
    shard.early_order = sorted(shard.early)


def parts_of(state: bytes) -> list[bytes]:
    return [state[i : i + PART_BYTES_MAX] for i in range(0, len(state), PART_BYTES_MAX)]


_RECORDS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        e.ShardOpened,
        e.SignalBuffered,
        e.CancelRequested,
        e.RunPaused,
        e.RunResumed,
        *c.DELIVERED_TYPES,
        c.Trigger,
    )
}
"""Facts and commands that a shard keeps whole."""
_TUPLES: dict[str, Any] = {"source": Position, "origin": e.Origin}


def _record_state(record: Any) -> Plain:
    values = {field.name: plain(getattr(record, field.name)) for field in fields(record)}
    return [type(record).__name__, values]


def _record_of(state: Plain) -> Any:
    name, values = state
    return _RECORDS[name](**{key: _value(key, value) for key, value in values.items()})


def _value(name: str, value: Plain) -> Any:
    kind = _TUPLES.get(name)
    return unplain(value) if kind is None else kind(*value)
