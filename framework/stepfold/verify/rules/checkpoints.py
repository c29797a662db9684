"""Checkpoints: what is written anew is what the log had said, and a fold may begin there (I8)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from stepfold.core import events as e
from stepfold.verify.rule import rule
from stepfold.verify.story import Moment, RunStory, ShardStory

PARKED = 2
"""How a snapshot says that its run is parked."""
Compared: TypeAlias = Iterable[tuple[str, object, object]]
"""What is compared: its name, as it is written, and as the log shows it."""


@rule("I8")
def snapshot_parts_follow_one_another(
    event: e.RunSnapshot | e.ShardSnapshot, now: Moment
) -> str | None:
    known = now.shard.parts.get(getattr(event, "run_id", ""))
    expected = 0 if known is None else len(known.states)
    if event.part in (0, expected) and event.part < event.parts:
        return None
    if known is None and not now.shard.is_whole:
        return None
    return f"part {event.part} of {event.parts} of a snapshot comes; {expected} had to come"


@rule("I8")
def snapshot_is_of_an_open_run(event: e.RunSnapshot, now: Moment) -> str | None:
    if now.run is not None or not now.shard.is_whole:
        return None
    ended_at = now.shard.ended.get(event.run_id)
    what = "was never accepted" if ended_at is None else f"ended at offset {ended_at}"
    return f"a run is written anew that {what}"


@rule("I2")
def run_snapshot_is_what_the_log_shows(event: e.RunSnapshot, now: Moment) -> str | None:
    """The owner's state of the run, beside the state that its events add up to."""
    state = _completed(event, now, event.run_id)
    if state is None or now.run is None or not now.run.is_whole:
        return None
    return _differing("run", state, now.run, _compared_run)


@rule("I2")
def shard_snapshot_is_what_the_log_shows(event: e.ShardSnapshot, now: Moment) -> str | None:
    state = _completed(event, now, "")
    if state is None or not now.shard.is_whole:
        return None
    return _differing("shard", state, now.shard, _compared_shard)


@rule("I8")
def mark_is_not_behind_what_is_open(event: e.CheckpointEnd, now: Moment) -> str | None:
    """A fold from the mark on must meet a full record of each open run, and of the shard."""
    shard = now.shard
    if event.shard_snapshot_offset != shard.snapshot:
        return (
            f"the checkpoint names the shard's snapshot at offset {event.shard_snapshot_offset};"
            f" the latest whole one is at {shard.snapshot}"
        )
    if event.lwm > event.shard_snapshot_offset:
        return f"the mark {event.lwm} is behind the snapshot of the shard, which would be missed"
    for run_id, run in shard.runs.items():
        if 0 <= run.base < event.lwm:
            return (
                f"the mark {event.lwm} is behind offset {run.base}, which holds the last full"
                f" record of run {run_id}"
            )
    return None


def _completed(event: e.RunSnapshot | e.ShardSnapshot, now: Moment, key: str) -> bytes | None:
    """The state that this part completes; None: more parts are to come, or are missing."""
    if event.part == 0:
        return event.state if event.parts == 1 else None
    known = now.shard.parts.get(key)
    if known is None or event.part != len(known.states) or event.part + 1 != event.parts:
        return None
    return b"".join((*known.states, event.state))


def _differing(what: str, state: bytes, story: Any, compared: Any) -> str | None:
    try:
        for name, written, shown in compared(json.loads(state), story):
            if written != shown:
                return f"{name} are written as {written}, and the log shows {shown}"
    except (ValueError, TypeError, LookupError, AttributeError):
        return f"the snapshot of the {what} cannot be read"
    return None


def _compared_run(state: Mapping[str, Any], run: RunStory) -> Compared:
    steps = state.get("steps", {})
    for name in sorted(steps.keys() | run.steps.keys()):
        values, step = steps.get(name), run.steps.get(name)
        yield (
            f"state, attempt, failures and losses of step {name!r}",
            values and [values[0], values[1], values[6], values[7]],
            step and [int(step.state), step.attempt, step.failed, step.lost],
        )
    yield "timers", set(state.get("timers", ())), {t for t, s in run.timers.items() if s.is_set}
    yield "waits", set(state.get("waits", ())), {w for w, s in run.waits.items() if s.is_open}
    awaited = {step for step, child in run.children.items() if child.is_awaited}
    yield "awaited children", set(state.get("children", ())), awaited
    yield "signals", [signal[0] for signal in state.get("signals", ())], list(run.buffered)
    flags = [state.get("paused", False), state.get("status") == PARKED]
    yield "paused and parked", flags, [run.is_paused, run.is_parked]


def _compared_shard(state: Mapping[str, Any], shard: ShardStory) -> Compared:
    yield (
        "intake positions",
        {(topic_id, partition): offset for topic_id, partition, offset, _ in state["intake"]},
        {place: source.mark for place, source in shard.sources.items()},
    )
    taken = {name: deliveries.last for name, deliveries in shard.taken.items()}
    yield "deliveries taken", state["inbound"], taken
    decided = {target: outgoing[0] for target, outgoing in state["outbox"].items()}
    yield "deliveries decided", decided, {name: sent.last for name, sent in shard.sent.items()}
    yield "early commands", set(state["early"]), set(shard.early)
