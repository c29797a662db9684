"""kill -9 of `stepfold projections` under load; afterwards its rows are those of a rebuild."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, select

from stepfold_projections import tables
from stepfold_projections.service import rebuild
from tests.commands import COMMAND, environment
from tests.crash.harness import Scene

PARTITIONS = 4
RUNS = 24
ROUNDS = 110
KILLS = 6
SEED = 20261124
READY_S = 20.0
STOP_S = 15.0
WAIT_S = 60.0
LOOK_S = 0.1


async def begun(scene: Scene, store: str) -> asyncio.subprocess.Process:
    """The program, once its API answers."""
    program = await asyncio.create_subprocess_exec(
        *COMMAND,
        *("projections", "--app", scene.app, "--store", store, "--listen", "127.0.0.1:0"),
        *("--bootstrap-servers", scene.servers),
        env=environment({"STEPFOLD_LOG_LEVEL": "ERROR"}),
        stderr=asyncio.subprocess.PIPE,
    )
    assert program.stderr is not None
    async with asyncio.timeout(READY_S):
        line = await program.stderr.readline()
    assert line.startswith(b"ready:"), line
    return program


def contents(store: str) -> dict[str, list[dict[str, Any]]]:
    engine = create_engine(store)
    with engine.connect() as connection:
        found = {
            table.name: sorted(map(dict, connection.execute(select(table)).mappings()), key=repr)
            for table in (tables.shards, tables.runs, tables.events)
        }
    engine.dispose()
    return found


async def projected(store: str) -> int:
    """How many records the store has taken."""
    shards = (await asyncio.to_thread(contents, store))["stepfold_shards"]
    return sum(shard["next_offset"] for shard in shards)


async def all_projected(store: str, records: int) -> None:
    while True:
        if await projected(store) >= records:
            return
        await asyncio.sleep(LOOK_S)


@pytest.mark.timeout(120)
def test_no_kill_of_the_projections_leaves_rows_that_a_rebuild_would_not_give(
    kafka_bootstrap: str,
    new_app: Callable[[int], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(kafka_bootstrap, new_app(PARTITIONS), PARTITIONS, tmp_path / "tally")
    scene.set_environment(monkeypatch)
    live, anew = (f"sqlite:///{tmp_path / name}.db" for name in ("live", "anew"))
    choose = random.Random(SEED)
    positions: list[int] = []

    async def crash() -> int:
        async with scene.supervised("only"):
            scene.send(RUNS, ROUNDS)
            for _ in range(KILLS):
                program = await begun(scene, live)
                await asyncio.sleep(choose.uniform(0.05, 0.8))
                program.send_signal(signal.SIGKILL)
                await program.wait()
                positions.append(await projected(live))
            await scene.wait_ended(RUNS)
        records = await rebuild(scene.servers, store=anew, apps=[scene.app])
        last = await begun(scene, live)
        async with asyncio.timeout(WAIT_S):
            await all_projected(live, records)
        last.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(last.wait(), STOP_S) == 0
        return records

    records = asyncio.run(crash())

    killed, rebuilt = contents(live), contents(anew)
    assert killed == rebuilt
    assert len(killed["stepfold_runs"]) == RUNS
    assert positions == sorted(positions)
    assert 0 < positions[-1] < records, "the load did not last over the kills"
