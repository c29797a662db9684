"""Runs that start runs, and send events: what is decided, and what has to be delivered for it.

A delivery rides inside the event that decides it (rule R18), numbered per target: it is
sent if and only if the event counts, and the target takes each number once.
"""

from __future__ import annotations

from collections.abc import Iterator

from stepfold.core import commands as c
from stepfold.core import events as e
from stepfold.core.ids import NO_POSITION, child_run_id_of
from stepfold.core.routing import partition_for
from stepfold.core.run import Run, RunStatus
from stepfold.core.shard import Shard


def control_of(shard_name: str) -> str:
    """The target of commands for a shard, which is named `<app>/<partition>`."""
    app, _, partition = shard_name.rpartition("/")
    return f"{app}.control/{partition}"


def request_child(
    shard: Shard,
    run: Run,
    step: str,
    *,
    shard_name: str,
    app: str,
    workflow: str,
    payload: bytes,
    topic: str,
    partitions: int,
    is_awaited: bool,
    expires_at: int,
) -> e.ChildRequested:
    """topic: the short id of the child's inbox topic. Where the child lives, its id decides."""
    partition = partition_for(f"{run.run_id}:{step}", partitions)
    child_run_id = child_run_id_of(partition, topic, run.run_id, step)
    encoding = "json" if payload else "none"
    start = c.StartChild(
        run_id=child_run_id,
        workflow=workflow,
        payload=payload,
        payload_encoding=encoding,
        key_id="",
        parent_shard=shard_name,
        parent_run_id=run.run_id,
        parent_step=step if is_awaited else "",
    )
    return e.ChildRequested(
        run_id=run.run_id,
        step=step,
        child_run_id=child_run_id,
        app=app,
        workflow=workflow,
        # The input is in the delivery, which is part of this event: once is enough.
        payload=b"",
        payload_encoding="none",
        key_id="",
        is_awaited=is_awaited,
        expires_at=expires_at,
        out=(_out(shard, f"{app}.control/{partition}", start),),
    )


def send_event(
    shard: Shard,
    run: Run,
    step: str,
    *,
    app: str,
    name: str,
    payload: bytes,
    event_id: str,
    key: str,
    partitions: int,
) -> e.EventSent:
    """event_id: empty for one of this step's own; a repetition of it starts nothing twice."""
    event_id = event_id or f"{run.run_id}:{step}"
    trigger = c.Trigger(
        name=name,
        id=event_id,
        workflow="",
        payload=payload,
        payload_encoding="json",
        key_id="",
        idempotency_key="",
        sent_at=0,
    )
    partition = partition_for(key or event_id, partitions)
    return e.EventSent(
        run_id=run.run_id,
        step=step,
        app=app,
        event_name=name,
        event_id=event_id,
        out=(_out(shard, f"{app}.inbox/{partition}", trigger),),
    )


def refuse_call(run: Run, step: str, error: tuple[str, str]) -> e.ChildResolved:
    """A child or event that cannot be asked for: its step fails. error: type, message."""
    return _resolved(run, step, "failed", error)


def give_up_child(shard: Shard, run: Run, step: str, reason: str) -> e.ChildResolved:
    """The code waits for the child no more; the child is cancelled."""
    return _resolved(run, step, "abandoned", ("", ""), _cancel(shard, run, step, reason))


def time_out_child(shard: Shard, run: Run, step: str) -> e.ChildResolved:
    message = f"child run {run.children[step].run_id} did not end in time, it is cancelled"
    out = _cancel(shard, run, step, "its parent waited long enough")
    return _resolved(run, step, "timed_out", ("TimeoutError", message), out)


def resolution(
    shard: Shard, run: Run, outcome: str, *, payload: bytes = b"", error: tuple[str, str] = ("", "")
) -> tuple[e.Out, ...]:
    """What the end of a run delivers: its outcome, to a parent that waits for it."""
    parent = run.parent
    if not parent.step:
        return ()
    command = c.ResolveChild(
        run_id=parent.run_id,
        step=parent.step,
        outcome=outcome,
        payload=payload,
        payload_encoding="json" if payload else "none",
        key_id="",
        error_type=error[0],
        error_message=error[1],
    )
    return (_out(shard, control_of(parent.shard), command),)


def due_children(shard: Shard, run: Run, now: int) -> Iterator[e.ChildResolved]:
    """The children that are waited for too long; each event is to be appended before the next."""
    if run.status is not RunStatus.OPEN:
        return
    for step, child in list(run.children.items()):
        if 0 < child.expires_at <= now:
            yield time_out_child(shard, run, step)


def _cancel(shard: Shard, run: Run, step: str, reason: str) -> tuple[e.Out, ...]:
    child = run.children.get(step)
    if child is None:
        return ()
    command = c.Cancel(run_id=child.run_id, by=f"run {run.run_id}", reason=reason)
    return (_out(shard, child.target, command),)


def _out(shard: Shard, target: str, body: c.Delivered | c.Trigger) -> e.Out:
    outgoing = shard.outbox.get(target)
    return e.Out(target, 1 if outgoing is None else outgoing.last + 1, body)


def _resolved(
    run: Run, step: str, outcome: str, error: tuple[str, str], out: tuple[e.Out, ...] = ()
) -> e.ChildResolved:
    return e.ChildResolved(
        source=NO_POSITION,
        run_id=run.run_id,
        step=step,
        outcome=outcome,
        payload=b"",
        payload_encoding="none",
        key_id="",
        error_type=error[0],
        error_message=error[1],
        out=out,
    )
