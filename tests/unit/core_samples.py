"""Runs and shards built from events, for the tables of the core."""

from __future__ import annotations

from collections.abc import Sequence

from stepfold.core import events as e
from stepfold.core.ids import Epoch, Position, run_id_of, short_topic_id
from stepfold.core.run import Run
from stepfold.core.shard import Shard, evolve

INBOX = "inbox-topic-id"
CONTROL = "control-topic-id"
EPOCH = Epoch(0, 77)
LATER_EPOCH = Epoch(100, 78)
RUN = run_id_of(0, short_topic_id(INBOX), 5)
AT = 1_000_000


def inbox_at(offset: int) -> Position:
    return Position(INBOX, 0, offset, 0)


def control_at(offset: int) -> Position:
    return Position(CONTROL, 0, offset, 0)


OPENED = e.ShardOpened(
    app="research",
    history_topic_id="history-topic-id",
    inbox_topic_id=INBOX,
    control_topic_id=CONTROL,
    partitions=8,
    fold_version=1,
    created_by="test",
)


def accepted(
    run_id: str = RUN, *, event_id: str = "", key: str = "", offset: int = 5
) -> e.RunAccepted:
    return e.RunAccepted(
        source=inbox_at(offset),
        run_id=run_id,
        app="research",
        event_name="agent/run",
        event_id=event_id,
        payload=b"{}",
        payload_encoding="json",
        key_id="",
        runs=(e.RunStart(run_id, "agent", "hash", "tenant", key, 0),),
    )


def started(
    step: str = "plan", attempt: int = 1, *, timeout_at: int = 0, isolated: bool = False
) -> e.AttemptStarted:
    return e.AttemptStarted(
        run_id=RUN,
        step=step,
        attempt=attempt,
        token=f"{RUN}:{step}:{attempt}",
        payload=b"[]",
        payload_encoding="json",
        key_id="",
        timeout_at=timeout_at,
        isolated=isolated,
        worker_id="w",
    )


def completed(step: str = "plan", attempt: int = 1) -> e.StepCompleted:
    return e.StepCompleted(
        run_id=RUN,
        step=step,
        attempt=attempt,
        payload=b"1",
        payload_encoding="json",
        key_id="",
        took_ms=3,
    )


def failed(step: str = "plan", attempt: int = 1, *, next_at: int) -> e.AttemptFailed:
    return e.AttemptFailed(
        run_id=RUN,
        step=step,
        attempt=attempt,
        error_type="ValueError",
        error_message="no",
        error_stack="",
        retryable=True,
        next_at=next_at,
        took_ms=3,
    )


def lost(step: str = "plan", attempt: int = 1, times: int = 1) -> e.AttemptLost:
    return e.AttemptLost(
        run_id=RUN, step=step, attempt=attempt, lost=times, prev_epoch_offset=0, prev_epoch_nonce=77
    )


def waits(wait_id: str = "approval", *, expires_at: int = 0) -> e.WaitOpened:
    return e.WaitOpened(
        run_id=RUN, wait_id=wait_id, kind="signal", name="approval", expires_at=expires_at
    )


def shard_of(events: Sequence[e.Event] = (), epoch: Epoch = EPOCH) -> Shard:
    """A shard that these events made, after its opening and the intake of one run."""
    shard = Shard()
    shard.chain.epoch = epoch
    for event in (OPENED, accepted(), *events):
        evolve(shard, event, AT, EPOCH)
    return shard


def run_of(*events: e.Event) -> Run:
    return shard_of(events).runs[RUN]
