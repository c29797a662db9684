"""What releases wrote is read, folded and replayed alike by every later one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from stepfold.core import events as e
from stepfold.core.run import Run
from stepfold.core.run_state import run_of
from stepfold.core.shard import Shard, fold
from stepfold.journal.codec import decode_event
from stepfold.sdk.activation import WorkflowInstance
from stepfold.sdk.calls import Cancelled, Completed, End, Errored, StepCall
from tests.replay import agent
from tests.replay.record import FOLDER, state_of

HISTORIES = sorted(FOLDER.glob("*.jsonl"))


class Ended(NamedTuple):
    run: Run
    event: e.RunCompleted | e.RunFailed | e.RunCancelled


def records_of(path: Path) -> list[e.Recorded]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [decode_event(bytes.fromhex(value), offset) for offset, _, value in lines]


def ended_runs(records: list[e.Recorded]) -> Iterator[Ended]:
    """Each run as it was when it ended."""
    shard = Shard()
    for record in records:
        event = record.event
        run = shard.runs.get(getattr(event, "run_id", ""))
        counts = fold(shard, record)
        if counts and run and isinstance(event, e.RunCompleted | e.RunFailed | e.RunCancelled):
            yield Ended(run, event)


def replayed(run: Run) -> tuple[End | None, list[StepCall]]:
    instance = WorkflowInstance(
        agent.app.workflows[run.workflow],
        run_id=run.run_id,
        app=run.app,
        tenant=run.tenant,
        event_name=run.event_name,
        event_id=run.event_id,
        event_data=run.payload,
        started_at=run.accepted_at,
    )
    calls: list[StepCall] = []
    end: End | None = None
    for outcome in (None, *run.outcomes):
        completion = instance.activate(outcome, replaying=True)
        calls += [call for call in completion.calls if isinstance(call, StepCall)]
        end = end or completion.end
    instance.close()
    return end, calls


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_recorded_history_folds_to_the_recorded_state(path: Path) -> None:
    expected = json.loads(path.with_name(f"{path.stem}.state.json").read_text())

    folded = json.loads(json.dumps(state_of(records_of(path))))

    # The recorded state is read as a snapshot of that release would be.
    for state in (expected, folded):
        state["runs"] = {
            run_id: run_of(json.dumps(run).encode()) for run_id, run in state["runs"].items()
        }
    assert folded == expected


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_recorded_runs_are_replayed_to_their_recorded_ends(path: Path) -> None:
    records = records_of(path)
    inputs = {
        (r.event.run_id, r.event.step): r.event.payload
        for r in records
        if isinstance(r.event, e.AttemptStarted) and r.event.attempt == 1
    }

    seen = set[str]()
    for run, event in ended_runs(records):
        end, calls = replayed(run)
        seen.add(run.workflow)
        match event:
            case e.RunCompleted(payload=payload):
                assert end == Completed(payload=payload), run.workflow
            case e.RunFailed():
                assert isinstance(end, Errored)
                assert (end.error_type, end.error_message) == (
                    event.error_type,
                    event.error_message,
                )
            case e.RunCancelled(reason=reason):
                assert end == Cancelled(reason=reason)
        asked = {(run.run_id, call.step): call.encode_input() for call in calls}
        assert asked == {key: value for key, value in inputs.items() if key[0] == run.run_id}

    assert seen == set(agent.app.workflows)


def test_there_is_a_history_of_this_release() -> None:
    assert [path.stem for path in HISTORIES] == ["0.1.0"]
