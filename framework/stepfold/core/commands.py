"""What may be asked of a run from outside: the records of the control and inbox topics.

These are requests, so they carry no epoch: the owner of the shard decides about them,
and what it decided becomes an event.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """A record of an inbox: an event, or the start of one workflow by name.

    `workflow` is empty for an event; the payload is the event's `data` as JSON.
    """

    name: str
    id: str
    workflow: str
    payload: bytes
    payload_encoding: str
    key_id: str
    idempotency_key: str
    sent_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    run_id: str
    signal_id: str
    name: str
    payload: bytes
    payload_encoding: str
    key_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    run_id: str
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    run_id: str
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    run_id: str
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Nudge:
    """Asks the owner to look at a run again; harmless when it is not needed.

    epoch and seq are those of the last event the sender saw of the run.
    """

    run_id: str
    epoch_offset: int
    epoch_nonce: int
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StartChild:
    """Starts a run that another run asked for; parent_step is empty where nobody waits."""

    run_id: str
    workflow: str
    payload: bytes
    payload_encoding: str
    key_id: str
    parent_shard: str
    parent_run_id: str
    parent_step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveChild:
    """Tells a run how its child ended."""

    run_id: str
    step: str
    outcome: str  # completed | failed | cancelled
    payload: bytes
    payload_encoding: str
    key_id: str
    error_type: str
    error_message: str


Delivered: TypeAlias = StartChild | ResolveChild | Cancel


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliver:
    """A command from another shard (rules R17 and R18); n counts that shard's deliveries here."""

    from_shard: str
    n: int
    run_id: str
    body: Delivered


Control: TypeAlias = Signal | Cancel | Pause | Resume | Nudge | Deliver
CONTROL_TYPES: tuple[type[Control], ...] = (Signal, Cancel, Pause, Resume, Nudge, Deliver)
DELIVERED_TYPES: tuple[type[Delivered], ...] = (StartChild, ResolveChild, Cancel)
Command: TypeAlias = Control | Delivered | Trigger
COMMAND_TYPES: tuple[type[Command], ...] = (*CONTROL_TYPES, StartChild, ResolveChild, Trigger)
