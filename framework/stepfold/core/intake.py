"""Which events a record of the inbox or of control becomes.

A command may come before its run: then it waits for it, because the run id tells that
the trigger is still to be taken in. A start that turns out to be a repetition passes on
what waited for it, and what comes later, to the first run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeAlias, TypeVar

from stepfold.core import commands as c
from stepfold.core import events as e
from stepfold.core.decide import wait_for
from stepfold.core.ids import NO_POSITION, RUN_ID_WIDTH, Position, parse_run_id, short_topic_id
from stepfold.core.run import Run, RunStatus
from stepfold.core.shard import Shard, dedup_key, passed_on

EARLY_TTL_MS = 24 * 3_600_000
"""How long a command is kept for a run that is not accepted yet."""
SIGNALS_WAITING_MAX = 1_000
"""Signals of one run that nobody waits for; further ones are rejected, visibly."""
EARLY_RUNS_MAX = 10_000
"""Runs of one shard for which commands came before their trigger."""
REASON_MAX = 2_000
"""Characters of a reason: a report on bad data may be larger than the data, and than an event."""

Request: TypeAlias = c.Signal | c.Cancel | c.Pause | c.Resume


def control(shard: Shard, command: c.Control, source: Position, now: int) -> tuple[e.Event, ...]:
    """The one event that a control record becomes; () where only its position matters."""
    if isinstance(command, c.Nudge):
        return ()
    if isinstance(command, c.Deliver):
        return _deliver(shard, command, source)
    first = shard.aliases.get(command.run_id)
    if first is not None:
        command = replace(command, run_id=first.run_id)
    run = shard.runs.get(command.run_id)
    if run is None:
        return (_for_unknown_run(shard, command, source, now),)
    return _for_run(run, command, source)


def _for_run(run: Run, command: Request, source: Position) -> tuple[e.Event, ...]:
    match command:
        case c.Signal():
            return (_signal(run, command, source),)
        case c.Cancel():
            if run.cancel_reason is not None:
                return ()
            return (_asked(e.CancelRequested, command, source),)
        case c.Pause():
            return () if run.paused else (_asked(e.RunPaused, command, source),)
        case c.Resume():
            if not run.paused and run.status is not RunStatus.PARKED:
                return ()
            return (_asked(e.RunResumed, command, source),)


def is_next(shard: Shard, delivery: c.Deliver) -> bool:
    """Whether it is the next one of its shard (rule R17).

    An earlier one was taken before; for a later one, its shard goes back and sends what is
    missing first, and then this one again.
    """
    return delivery.n == shard.inbound.get(delivery.from_shard, 0) + 1


def _deliver(shard: Shard, delivery: c.Deliver, source: Position) -> tuple[e.Event, ...]:
    """Every delivery that is next becomes an event, for the count's sake."""
    if not is_next(shard, delivery):
        return ()
    origin = e.Origin(delivery.from_shard, delivery.n)
    match delivery.body:
        case c.ResolveChild() as end:
            return (_child_resolved(end, source, origin),)
        case c.Cancel() as cancel:
            run = shard.runs.get(cancel.run_id)
            if run is None or run.cancel_reason is not None:
                reason = "the run is over, or cancelled already"
                return (rejected(source, reason, run_id=cancel.run_id, origin=origin),)
            return (replace(_asked(e.CancelRequested, cancel, source), origin=origin),)
        case c.StartChild() as start:
            reason = f"a start of workflow {start.workflow!r} is for `accept_child`"
            raise ValueError(reason)


def _child_resolved(end: c.ResolveChild, source: Position, origin: e.Origin) -> e.ChildResolved:
    return e.ChildResolved(
        source=source,
        run_id=end.run_id,
        step=end.step,
        outcome=end.outcome,
        payload=end.payload,
        payload_encoding=end.payload_encoding,
        key_id=end.key_id,
        error_type=end.error_type,
        error_message=end.error_message,
        origin=origin,
    )


def accept_child(
    shard: Shard, app: str, delivery: c.Deliver, source: Position, start: e.RunStart
) -> tuple[e.RunAccepted, ...]:
    """What the delivery of a StartChild becomes; `start` is the run that it starts."""
    child = delivery.body
    if not isinstance(child, c.StartChild) or not is_next(shard, delivery):
        return ()
    return (
        e.RunAccepted(
            source=source,
            run_id=child.run_id,
            app=app,
            event_name=child.workflow,
            event_id="",
            payload=child.payload,
            payload_encoding=child.payload_encoding,
            key_id=child.key_id,
            runs=(start,),
            origin=e.Origin(delivery.from_shard, delivery.n),
            parent=e.Parent(child.parent_shard, child.parent_run_id, child.parent_step),
        ),
    )


Asked = TypeVar("Asked", e.CancelRequested, e.RunPaused, e.RunResumed)


def _asked(kind: type[Asked], command: c.Cancel | c.Pause | c.Resume, source: Position) -> Asked:
    return kind(
        source=source, run_id=command.run_id, by=_short(command.by), reason=_short(command.reason)
    )


def _signal(run: Run, command: c.Signal, source: Position) -> e.Event:
    wait_id = wait_for(run, command.name)
    if wait_id is not None:
        return e.WaitResolved(
            source=source,
            run_id=run.run_id,
            wait_id=wait_id,
            signal_id=_signal_id(command, source),
            payload=command.payload,
            payload_encoding=command.payload_encoding,
            key_id=command.key_id,
        )
    if len(run.signals) >= SIGNALS_WAITING_MAX:
        reason = f"{len(run.signals)} signals wait in this run already, none more is kept"
        return rejected(source, reason, run_id=run.run_id)
    return _buffer(command, source, ttl_at=0)


def _buffer(command: c.Signal, source: Position, ttl_at: int) -> e.SignalBuffered:
    return e.SignalBuffered(
        source=source,
        run_id=command.run_id,
        signal_id=_signal_id(command, source),
        name=command.name,
        payload=command.payload,
        payload_encoding=command.payload_encoding,
        key_id=command.key_id,
        ttl_at=ttl_at,
    )


def _signal_id(command: c.Signal, source: Position) -> str:
    """A signal without an id has its place for one: those of one id count once."""
    return command.signal_id or f"control/{source.partition}/{source.offset}"


def _for_unknown_run(shard: Shard, command: Request, source: Position, now: int) -> e.Event:
    """A run that is not open: over already, or not accepted yet (then the command waits for it).

    The run id tells which: it holds the offset of its trigger, and intake is in order.
    """
    try:
        address = parse_run_id(command.run_id)
    except ValueError as error:
        return rejected(source, str(error), run_id=command.run_id)
    if shard.opened is None or address.topic != short_topic_id(shard.opened.inbox_topic_id):
        return rejected(source, "the run id is of another inbox topic", run_id=command.run_id)
    if address.partition != source.partition:
        reason = f"the run is at home in partition {address.partition}, not {source.partition}"
        return rejected(source, reason, run_id=command.run_id)
    taken = shard.intake.get((shard.opened.inbox_topic_id, address.partition))
    if taken is not None and address.offset <= taken.offset:
        return rejected(source, "the run is over, or never was", run_id=command.run_id)
    waiting = len(shard.early.get(command.run_id, ()))
    if waiting >= SIGNALS_WAITING_MAX:
        reason = f"{waiting} commands wait for this run already, none more is kept"
        return rejected(source, reason, run_id=command.run_id)
    if len(shard.early) >= EARLY_RUNS_MAX:
        reason = f"commands for {len(shard.early)} runs that are not accepted yet wait already"
        return rejected(source, reason, run_id=command.run_id)
    return _kept_until_accepted(command, source, now)


def _kept_until_accepted(command: Request, source: Position, now: int) -> e.Event:
    match command:
        case c.Signal():
            return _buffer(command, source, ttl_at=now + EARLY_TTL_MS)
        case c.Cancel():
            return _asked(e.CancelRequested, command, source)
        case c.Pause():
            return _asked(e.RunPaused, command, source)
        case c.Resume():
            return _asked(e.RunResumed, command, source)


def rejected(
    source: Position,
    reason: str,
    *,
    run_id: str = "",
    dlq: tuple[str, int, int] = ("", -1, -1),
    sha256: str = "",
    origin: e.Origin = e.NOWHERE,
) -> e.IntakeRejected:
    """dlq: the topic, partition and offset of the copy; empty when the record was readable.

    What is too long for a run id is none, and would be written three times over.
    """
    topic, partition, offset = dlq
    return e.IntakeRejected(
        source=source,
        run_id=run_id if len(run_id) <= RUN_ID_WIDTH else "",
        reason=_short(reason),
        dlq_topic=topic,
        dlq_partition=partition,
        dlq_offset=offset,
        sha256=sha256,
        origin=origin,
    )


def _short(text: str) -> str:
    return text if len(text) <= REASON_MAX else f"{text[:REASON_MAX]}…"


def accept(
    shard: Shard, app: str, trigger: c.Trigger, source: Position, runs: tuple[e.RunStart, ...]
) -> tuple[e.Event, ...]:
    """What a trigger becomes that starts these runs; () when it starts none.

    Of a repetition, what waited for its run goes to the first one, before the record counts as
    taken in: if the events after some of these are lost, the rest is passed on once more.
    """
    if not runs:
        return ()
    first = runs[0]
    key = trigger.idempotency_key or ("" if trigger.workflow else trigger.id)
    known = shard.known.get(dedup_key(trigger.workflow, key)) if key else None
    if known is not None:
        repetition = e.RunDeduplicated(
            source=source,
            run_id=first.run_id,
            idempotency_key=key,
            existing_run_id=known.run_id,
        )
        return (*_passed_on(shard, first.run_id, known.run_id), repetition)
    return (
        e.RunAccepted(
            source=source,
            run_id=first.run_id,
            app=app,
            event_name=trigger.name,
            event_id="" if trigger.workflow else trigger.id,
            payload=trigger.payload,
            payload_encoding=trigger.payload_encoding,
            key_id=trigger.key_id,
            runs=runs,
        ),
    )


def _passed_on(shard: Shard, run_id: str, first_id: str) -> Iterator[e.Event]:
    """The commands that came early for a repetition, as events of the first run."""
    run = shard.runs.get(first_id)
    for early in shard.early.get(run_id, ()):
        if run is None:
            reason = f"{run_id} is a repetition of run {first_id}, which is over"
            yield rejected(NO_POSITION, reason, run_id=run_id)
        else:
            yield passed_on(early.event, first_id)


def overdue(shard: Shard, now: int) -> tuple[e.IntakeRejected, ...]:
    """Of early commands whose run did not come: its trigger was another, or the time is over."""
    if not shard.early:
        return ()
    passed = shard.early_before_intake()
    reason = "the record that the run id names started no such run"
    expired = [
        run_id
        for run_id, early in shard.early.items()
        if early[0].at <= now - EARLY_TTL_MS and run_id not in passed
    ]
    why = f"no such run was accepted within {EARLY_TTL_MS // 3_600_000} hours"
    return (
        *(rejected(NO_POSITION, reason, run_id=run_id) for run_id in passed),
        *(rejected(NO_POSITION, why, run_id=run_id) for run_id in expired),
    )
