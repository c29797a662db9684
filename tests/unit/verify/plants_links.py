"""Planted violations of what shards deliver to one another, and of checkpoints."""

from __future__ import annotations

import dataclasses
import json

from stepfold.core import events as e
from stepfold.core.commands import Cancel, Delivered, StartChild
from stepfold.core.events import Origin, Out
from stepfold.core.ids import child_run_id_of, run_id_of, short_topic_id
from tests.unit.verify.logs import APP, NOWHERE, Log, completed, run_completed, started
from tests.unit.verify.plants import plant

SHARD = f"{APP}/0"
TARGET = f"{APP}.control/0"
OTHER_APP = "other.control/0"


def child_id(log: Log, parent: str, step: str = "child") -> str:
    return child_run_id_of(0, short_topic_id(log.topics.inbox.topic_id), parent, step)


def start_of(log: Log, parent: str, step: str = "child") -> StartChild:
    return StartChild(
        run_id=child_id(log, parent, step),
        workflow="agent",
        payload=b"null",
        payload_encoding="json",
        key_id="",
        parent_shard=SHARD,
        parent_run_id=parent,
        parent_step=step,
    )


def requested(
    log: Log, parent: str, step: str = "child", *, n: int = 1, target: str = TARGET
) -> e.ChildRequested:
    """A child that is awaited, and its delivery."""
    return e.ChildRequested(
        run_id=parent,
        step=step,
        child_run_id=child_id(log, parent, step),
        app=APP,
        workflow="agent",
        payload=b"",
        payload_encoding="none",
        key_id="",
        is_awaited=True,
        expires_at=0,
        out=(Out(target, n, start_of(log, parent, step)),),
    )


def child_accepted(log: Log, parent: str, step: str = "child", *, n: int = 1) -> e.RunAccepted:
    run_id = child_id(log, parent, step)
    return e.RunAccepted(
        source=log.command(),
        run_id=run_id,
        app=APP,
        event_name="agent",
        event_id="",
        payload=b"null",
        payload_encoding="json",
        key_id="",
        runs=(e.RunStart(run_id, "agent", "", "", "", 0),),
        origin=Origin(SHARD, n),
        parent=e.Parent(SHARD, parent, step),
    )


def resolved(
    log: Log, parent: str, step: str = "child", *, origin: Origin = e.NOWHERE
) -> e.ChildResolved:
    return e.ChildResolved(
        source=log.command() if origin.shard else NOWHERE,
        run_id=parent,
        step=step,
        outcome="completed" if origin.shard else "abandoned",
        payload=b"",
        payload_encoding="none",
        key_id="",
        error_type="",
        error_message="",
        origin=origin,
    )


def event_sent(run: str, *outs: Out) -> e.EventSent:
    return e.EventSent(
        run_id=run, step="notify", app="other", event_name="x", event_id="1", out=outs
    )


def to_other(n: int, body: Delivered | None = None) -> Out:
    """A delivery to an app that is not looked at."""
    return Out(OTHER_APP, n, body or Cancel(run_id="any", by="test", reason=""))


# Deliveries


@plant("deliveries-are-numbered-without-gaps")
def a_delivery_that_leaves_a_number_out(log: Log) -> int:
    run = log.accept()
    return log.append(event_sent(run, to_other(1), to_other(3)))


@plant("deliveries-are-taken-in-order")
def a_delivery_that_is_taken_twice(log: Log) -> int:
    run = log.accept()
    event = e.CancelRequested(
        source=log.command(), run_id=run, by="x", reason="", origin=Origin("other/0", 1)
    )
    log.append(event)
    return log.append(dataclasses.replace(event, source=log.command()))


@plant("only-what-was-decided-is-acknowledged")
def an_acknowledgement_of_more_than_was_decided(log: Log) -> int:
    run = log.accept()
    log.append(event_sent(run, to_other(1)))
    return log.append(e.OutboxAcked(target=OTHER_APP, upto=2))


@plant("only-what-was-decided-is-acknowledged")
def an_acknowledgement_that_goes_back(log: Log) -> int:
    run = log.accept()
    log.append(event_sent(run, to_other(1), to_other(2)))
    log.append(e.OutboxAcked(target=OTHER_APP, upto=2))
    return log.append(e.OutboxAcked(target=OTHER_APP, upto=1))


@plant("what-is-taken-was-delivered")
def a_delivery_that_its_shard_never_decided(log: Log) -> int:
    run = log.accept()
    log.append(requested(log, run, target=OTHER_APP))
    return log.append(child_accepted(log, run))


@plant("what-is-taken-was-delivered")
def a_delivery_that_is_taken_as_something_else(log: Log) -> int:
    run = log.accept()
    log.append(requested(log, run))
    return log.append(
        e.CancelRequested(
            source=log.command(), run_id=run, by="x", reason="", origin=Origin(SHARD, 1)
        )
    )


# Children


@plant("child-run-id-names-its-parent")
def a_child_under_an_id_that_is_not_its_own(log: Log) -> int:
    run = log.accept()
    other = child_id(log, run, "another")
    body = dataclasses.replace(start_of(log, run), run_id=other)
    log.append(dataclasses.replace(requested(log, run), out=(Out(TARGET, 1, body),)))
    event = child_accepted(log, run)
    starts = (event.runs[0]._replace(run_id=other),)
    return log.append(dataclasses.replace(event, run_id=other, runs=starts))


@plant("child-run-id-names-its-parent")
def a_child_under_the_id_of_a_trigger(log: Log) -> int:
    run = log.accept()
    other = run_id_of(0, short_topic_id(log.topics.inbox.topic_id), 77)
    body = dataclasses.replace(start_of(log, run), run_id=other)
    log.append(dataclasses.replace(requested(log, run), out=(Out(TARGET, 1, body),)))
    event = child_accepted(log, run)
    starts = (event.runs[0]._replace(run_id=other),)
    parent = e.Parent(SHARD, run, "")
    return log.append(dataclasses.replace(event, run_id=other, runs=starts, parent=parent))


@plant("call-is-made-once")
def a_child_that_is_asked_for_twice(log: Log) -> int:
    run = log.accept()
    log.append(requested(log, run))
    return log.append(requested(log, run, n=2))


@plant("child-is-answered-once")
def a_child_that_answers_twice(log: Log) -> int:
    run = log.accept()
    log.append(requested(log, run, target=OTHER_APP))
    log.append(resolved(log, run, origin=Origin("other/0", 1)))
    return log.append(resolved(log, run, origin=Origin("other/0", 2)))


@plant("child-is-answered-once")
def a_child_that_answers_and_was_never_asked_for(log: Log) -> int:
    run = log.accept()
    return log.append(resolved(log, run, origin=Origin("other/0", 1)))


@plant("child-is-answered-once")
def a_child_that_is_given_up_after_its_answer(log: Log) -> int:
    run = log.accept()
    log.append(requested(log, run, target=OTHER_APP))
    log.append(resolved(log, run, origin=Origin("other/0", 1)))
    return log.append(resolved(log, run))


@plant("run-ends-with-no-child-awaited")
def an_end_that_forgets_a_child(log: Log) -> int:
    run = log.accept()
    log.append(requested(log, run, target=OTHER_APP))
    return log.append(run_completed(run))


# Checkpoints


def run_snapshot(
    run: str, state: dict[str, object] | None = None, *, part: int = 0, parts: int = 1
) -> e.RunSnapshot:
    return e.RunSnapshot(run_id=run, part=part, parts=parts, state=json.dumps(state or {}).encode())


def shard_snapshot(log: Log, mark: int) -> e.ShardSnapshot:
    """mark: the position of the inbox."""
    inbox, control = log.topics.inbox.topic_id, log.topics.control.topic_id
    state: dict[str, object] = {
        "intake": [[inbox, 0, mark, 0], [control, 0, -1, -1]],
        "inbound": {},
        "outbox": {},
        "early": {},
    }
    return e.ShardSnapshot(part=0, parts=1, state=json.dumps(state).encode())


def checkpoint_end(lwm: int, snapshot: int) -> e.CheckpointEnd:
    return e.CheckpointEnd(lwm=lwm, shard_snapshot_offset=snapshot, runs_written=1, state_bytes=1)


STEP_COMPLETED = [3, 1, 0, 1, 0, 0, 0, 0, 0]
"""As a snapshot writes it: state, attempt, epoch, first start, limit, failures, losses, next."""


@plant("snapshot-parts-follow-one-another")
def a_snapshot_that_lacks_a_part(log: Log) -> int:
    run = log.accept()
    log.append(run_snapshot(run, part=0, parts=3))
    return log.append(run_snapshot(run, part=2, parts=3))


@plant("snapshot-is-of-an-open-run")
def a_snapshot_of_a_run_that_is_over(log: Log) -> int:
    run = log.accept()
    log.append(run_completed(run))
    return log.append(run_snapshot(run))


@plant("run-snapshot-is-what-the-log-shows")
def a_snapshot_that_lacks_a_step(log: Log) -> int:
    run = log.accept()
    log.append(started(run, "plan"))
    log.append(completed(run, "plan"))
    return log.append(run_snapshot(run))


@plant("run-snapshot-is-what-the-log-shows")
def a_snapshot_that_knows_more_than_the_log(log: Log) -> int:
    run = log.accept()
    return log.append(run_snapshot(run, {"steps": {"plan": STEP_COMPLETED}}))


@plant("run-snapshot-is-what-the-log-shows")
def a_snapshot_that_cannot_be_read(log: Log) -> int:
    run = log.accept()
    return log.append(e.RunSnapshot(run_id=run, part=0, parts=1, state=b"{"))


@plant("shard-snapshot-is-what-the-log-shows")
def a_snapshot_with_a_wrong_position(log: Log) -> int:
    log.accept()
    return log.append(shard_snapshot(log, mark=7))


@plant("mark-is-not-behind-what-is-open")
def a_mark_behind_an_open_run(log: Log) -> int:
    log.accept()
    snapshot = log.append(shard_snapshot(log, mark=0))
    return log.append(checkpoint_end(snapshot, snapshot))


@plant("mark-is-not-behind-what-is-open")
def a_mark_behind_the_snapshot_of_the_shard(log: Log) -> int:
    snapshot = log.append(shard_snapshot(log, mark=-1))
    return log.append(checkpoint_end(snapshot + 1, snapshot))


@plant("mark-is-not-behind-what-is-open")
def a_checkpoint_without_a_snapshot(log: Log) -> int:
    return log.append(checkpoint_end(0, log.end - 1))


@plant("history-is-kept")
def a_history_whose_beginning_is_deleted(log: Log) -> int:
    log.accept()
    log.accept()
    log.cluster.delete_records(f"{APP}.history", 0, 5)
    return 5
