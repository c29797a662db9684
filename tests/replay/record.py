"""Record a history for the replay tests: `python -m tests.replay.record VERSION`.

Done once for each release, with that release's code; the file is never changed. The log
in memory is used, two workers take turns, and one of them is killed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from stepfold.core import commands as c
from stepfold.core import events as e
from stepfold.core.run_state import run_state
from stepfold.core.shard import Shard, fold
from stepfold.core.shard_state import shard_state
from tests.engine.stage import Stage
from tests.replay import agent

FOLDER = Path(__file__).parent / "histories"
RUNS_PER_WORKFLOW = 3


async def scene(there: Stage) -> None:
    asked = [
        there.send("recorded/ask", {"account": f"a{n}", "number": n})
        for n in range(RUNS_PER_WORKFLOW)
    ]
    for workflow in ("compensates", "timers", "parent", "fails"):
        for number in range(1, RUNS_PER_WORKFLOW):
            there.start(workflow, number, key=f"{workflow}-{number}")
    there.start("timers", 1, key="timers-1")
    endless = there.start("endless")
    await there.first(e.WaitOpened, endless)
    await there.first(e.WaitOpened, asked[-1])
    await there.members[0].kill()
    there.join("successor")
    there.command(c.Cancel(run_id=endless, by="test", reason="long enough"))
    there.put(b"neither JSON nor Avro")
    await there.end_of(endless)
    for run_id in asked[:-1]:  # the last one stays open
        there.signal(run_id, "approval", True)
        await there.end_of(run_id)
    await there.until(lambda: there.dlq and len(there.of(e.OutboxAcked)) >= 2)
    await there.until(lambda: there.of(e.CheckpointEnd))


async def main(version: str) -> None:
    there = Stage(agent.app)
    there.events_between_checkpoints = 40
    there.join()
    await scene(there)
    await there.members[-1].kill()
    records = there.cluster.records(there.topics.history.name, 0)
    lines = [json.dumps([r.offset, r.timestamp, (r.value or b"").hex()]) for r in records]
    (FOLDER / f"{version}.jsonl").write_text("\n".join(lines) + "\n")
    (FOLDER / f"{version}.state.json").write_text(json.dumps(state_of(there.decoded), indent=1))


def state_of(records: list[e.Recorded]) -> dict[str, object]:
    """What a fold makes of the records, in a form that can be compared and read."""
    shard = Shard()
    for record in records:
        fold(shard, record)
    return {
        "runs": {run_id: json.loads(run_state(run)) for run_id, run in shard.runs.items()},
        "shard": json.loads(shard_state(shard)),
        "next_seq": shard.chain.next_seq,
        "lwm": shard.lwm,
    }


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
