"""Which runs stopped moving, and why: pure, from rows alone."""

from __future__ import annotations

from stepfold_projections.runs import RunRow

STALLED_AFTER_MS = 15_000
"""How long after it was due something may still happen: a takeover needs the group's session
timeout (10 s) and a fold."""


def stalled_reason(row: RunRow, now_ms: int) -> str | None:
    """What should have happened by now; None when the run is as it should be."""
    if row.due_at is None or row.due_at > now_ms - STALLED_AFTER_MS:
        return None
    late_s = (now_ms - row.due_at) // 1_000
    if row.status == "queued":
        return f"accepted {late_s} s ago and not begun: no worker leads partition {row.partition}"
    what = {"backoff": "the next attempt", "sleeping": "a timer", "waiting": "a wait's end"}
    due = what.get(row.status, "the next step")
    return f"{due} was due {late_s} s ago: no worker leads partition {row.partition}, or it hangs"
