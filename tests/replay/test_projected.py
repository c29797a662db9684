"""Recorded histories as the projection shows them: every run has a row and a trace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stepfold.journal.codec import decode_event
from stepfold.journal.port import LogRecord, TopicFacts
from stepfold_projections.projection import Piece, Projection
from stepfold_projections.sqlstore import SqlStore
from stepfold_projections.store import RunFilter
from stepfold_projections.trace import RunTrace, trace_of
from tests.replay import agent
from tests.replay.record import FOLDER

HISTORY = TopicFacts(f"{agent.APP}.history", "history-id", 1)
HISTORIES = sorted(FOLDER.glob("*.jsonl"))


def traces_of(path: Path, folder: Path) -> list[RunTrace]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    records = [
        LogRecord(HISTORY.name, 0, offset, 0, at, None, bytes.fromhex(value), ())
        for offset, at, value in lines
    ]
    store = SqlStore(f"sqlite:///{folder / 'traces.db'}")
    store.open()
    projection = Projection(store)
    projection.join(agent.APP, HISTORY, 0)
    projection.take([Piece(agent.APP, 0, records)])
    found: list[RunTrace] = []
    for row in store.list_runs(RunFilter(), 100, None):
        stored = store.events_of(row, after=-1, as_of=2**62, limit=1_000)
        assert "RunSnapshot" not in {event.kind for event in stored}
        trace = trace_of(row.run_id, [decode_event(s.value, s.offset) for s in stored], 0)
        assert trace is not None
        assert trace.row.status == row.status
        found.append(trace)
    store.close()
    return found


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_each_recorded_run_has_a_row_and_a_trace_that_agree(path: Path, tmp_path: Path) -> None:
    traces = traces_of(path, tmp_path)

    kinds = {wait.kind for trace in traces for wait in trace.waits.values()}
    children = [trace for trace in traces if trace.accepted.parent.run_id]
    assert {trace.row.workflow for trace in traces} == set(agent.app.workflows)
    assert {trace.row.status for trace in traces} >= {"completed", "failed", "cancelled", "waiting"}
    assert kinds >= {"signal", "child", "event"}
    assert len(children) >= 2
