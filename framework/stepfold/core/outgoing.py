"""What a shard has for others, by target, until Kafka has it (rule R18)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from stepfold.core import events as e


@dataclass(slots=True)
class Outgoing:
    """Deliveries to one target: the number of the last one, and those Kafka may not have yet."""

    last: int = 0
    unacked: dict[int, e.Out] = field(default_factory=dict[int, e.Out])


OutgoingByTarget: TypeAlias = dict[str, Outgoing]


def note_out(outbox: OutgoingByTarget, out: e.Out) -> None:
    outgoing = outbox.setdefault(out.target, Outgoing())
    outgoing.last = out.n
    outgoing.unacked[out.n] = out


def note_acked(outbox: OutgoingByTarget, event: e.OutboxAcked) -> None:
    outgoing = outbox.get(event.target)
    if outgoing is None:  # its intents were before the beginning of this fold
        return
    first = outgoing.last - len(outgoing.unacked) + 1  # they are numbered without gaps
    for n in range(first, event.upto + 1):
        outgoing.unacked.pop(n, None)
