"""kill -9 at random moments, and the promises read from the log afterwards."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer

from stepfold.engine.supervisor import Supervisor
from tests.crash import agents
from tests.log_checks import Story, read_story

PARTITIONS = 4
RUNS = 50
KILLS = 20
SEED = 20261124
WAIT_S = 100.0
CHECK_S = 0.5
FLUSH_S = 10.0
STEPS_PER_RUN = 7


def send(servers: str, app: str, runs: int) -> None:
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 0})
    for number in range(runs):
        value = b'{"name": "test/go", "data": %d}' % number
        producer.produce(f"{app}.inbox", value, partition=number % PARTITIONS)
    assert producer.flush(FLUSH_S) == 0


async def story_of(servers: str, app: str) -> Story:
    return await asyncio.to_thread(read_story, servers, app, PARTITIONS)


async def wait_ended(servers: str, app: str, runs: int) -> Story:
    async with asyncio.timeout(WAIT_S):
        while True:
            story = await story_of(servers, app)
            if story.ended >= runs:
                return story
            await asyncio.sleep(CHECK_S)


async def kill_again_and_again(supervisor: Supervisor, kills: int) -> None:
    """SIGKILL a worker process, and wait until another one is in its place."""
    choose = random.Random(SEED)
    for _ in range(kills):
        await asyncio.sleep(choose.uniform(0.5, 1.8))
        await supervisor.wait_running()
        os.kill(choose.choice(supervisor.pids), signal.SIGKILL)


@pytest.mark.timeout(240)
def test_no_crash_of_a_worker_loses_a_run_or_repeats_a_completed_step(
    kafka_bootstrap: str,
    new_app: Callable[[int], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = new_app(PARTITIONS)
    tally = tmp_path / "tally"
    monkeypatch.setenv(agents.APP_VARIABLE, app)
    monkeypatch.setenv(agents.TALLY_VARIABLE, str(tally))

    async def crash() -> Story:
        supervisor = Supervisor(
            ["tests.crash.agents:app"],
            bootstrap_servers=kafka_bootstrap,
            processes=1,
            name=app,
            unsafe_dev=True,
        )
        running = asyncio.create_task(supervisor.run())
        send(kafka_bootstrap, app, RUNS)
        await kill_again_and_again(supervisor, KILLS)
        story = await wait_ended(kafka_bootstrap, app, RUNS)
        supervisor.stop()
        assert await running == 0
        return story

    story = asyncio.run(crash())

    assert story.problems == []
    assert len(story.runs) == RUNS
    assert {tuple(run.endings) for run in story.runs.values()} == {("RunCompleted",)}
    assert all(len(run.completed) == STEPS_PER_RUN for run in story.runs.values())
    executions = tally.read_text().splitlines()
    assert len(executions) == len(set(executions)), "an attempt was executed twice"
