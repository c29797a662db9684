"""Takes each record that counts into the story, as it is told; the rules have judged it before.

A kind that has no entry here changes nothing. It is counted among the kinds that nobody
checks, so that a new one is not forgotten in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from stepfold.core import events as e
from stepfold.verify.memory import runs, shard
from stepfold.verify.story import Moment

Tell: TypeAlias = Callable[[Any, Moment], None]

TELLS: Mapping[type[Any], Tell] = {
    e.ShardOpened: shard.opened,
    e.Claimed: shard.claimed,
    e.Drained: shard.drained,
    e.IntakeOpened: shard.intake_opened,
    e.IntakeGap: shard.gap,
    e.IntakeUnmatched: shard.unmatched,
    e.IntakeRejected: shard.rejected,
    e.RunAccepted: shard.accepted,
    e.RunDeduplicated: shard.deduplicated,
    e.AttemptStarted: runs.attempt_started,
    e.AttemptFailed: runs.failed,
    e.AttemptTimedOut: runs.failed,
    e.AttemptCancelled: runs.attempt_cancelled,
    e.AttemptLost: runs.lost,
    e.StepCompleted: runs.completed,
    e.TimerSet: runs.timer_set,
    e.TimerFired: runs.timer_fired,
    e.TimerCancelled: runs.timer_cancelled,
    e.WaitOpened: runs.wait_opened,
    e.WaitResolved: runs.wait_resolved,
    e.WaitExpired: runs.wait_expired,
    e.SignalBuffered: runs.signal_buffered,
    e.SignalExpired: runs.signal_expired,
    e.CancelRequested: runs.cancel_requested,
    e.RunPaused: runs.paused,
    e.RunResumed: runs.resumed,
    e.RunCompleted: runs.ended,
    e.RunFailed: runs.ended,
    e.RunCancelled: runs.ended,
    e.RunParked: runs.parked,
    e.ChildRequested: runs.child_requested,
    e.ChildResolved: runs.child_resolved,
    e.EventSent: runs.event_sent,
    e.OutboxAcked: shard.acknowledged,
    e.CheckpointBegin: shard.nothing,
    e.RunSnapshot: runs.run_snapshot,
    e.ShardSnapshot: shard.shard_snapshot,
    e.CheckpointEnd: shard.checkpoint_ended,
}
"""What each kind changes."""
