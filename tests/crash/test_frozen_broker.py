"""The only broker freezes for longer than the group's session, with runs in flight."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import aiohttp
import pytest

from stepfold.engine.process import EngineOptions
from tests.conftest import make_app
from tests.crash.harness import Scene, check_all_kept
from tests.kafka_fixture import free_port, local_cluster
from tests.log_checks import Story

PARTITIONS = 4
RUNS = 20
ROUNDS = 60
FROZEN_S = 14.0
"""Beyond the session timeout of 10 s, so that the worker loses all its shards."""
LOOK_S = 0.25


async def states_while_frozen(health: str, pid: int) -> list[set[str]]:
    """What /readyz shows of the shards, look by look."""
    seen: list[set[str]] = []
    loop = asyncio.get_running_loop()
    os.kill(pid, signal.SIGSTOP)
    try:
        until = loop.time() + FROZEN_S
        async with aiohttp.ClientSession() as session:
            while loop.time() < until:
                async with session.get(f"http://{health}/readyz") as response:
                    shards = (await response.json())["shards"]
                seen.append({shard["state"] for shard in shards})
                await asyncio.sleep(LOOK_S)
    finally:
        os.kill(pid, signal.SIGCONT)
    return seen


@pytest.mark.timeout(180)
def test_broker_frozen_beyond_the_session_costs_no_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    health = f"127.0.0.1:{free_port()}"

    async def freeze(scene: Scene, pid: int) -> tuple[list[set[str]], Story]:
        async with scene.supervised("only", options=EngineOptions(health=health)):
            scene.send(RUNS, ROUNDS)
            await scene.wait_attempts(RUNS)
            seen = await states_while_frozen(health, pid)
            return seen, await scene.wait_ended(RUNS)

    with local_cluster(tmp_path / "kafka", brokers=1) as kafka:
        (pid,) = kafka.status().pids
        servers = kafka.status().bootstrap_servers
        app = make_app(servers, partitions=PARTITIONS, replication=1)
        scene = Scene(servers, app, PARTITIONS, tmp_path / "tally")
        scene.set_environment(monkeypatch)
        seen, story = asyncio.run(freeze(scene, pid))
        check_all_kept(story, RUNS, scene, ROUNDS)

    assert sum(run.lost for run in story.runs.values()) == 0
    assert seen[0] == {"leading"}
    assert {"degraded"} in seen
    assert {"limbo"} in seen
    assert len(story.pids) == 1, "the worker process was replaced"
