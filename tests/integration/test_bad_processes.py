"""Worker processes that an author's code ends, and that find no topics."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from stepfold import Client
from stepfold.engine.supervisor import Supervisor
from tests.integration.bad_agents import APP_VARIABLE
from tests.log_checks import read_story

TARGET = "tests.integration.bad_agents:app"
ROOT = Path(__file__).parents[2]
PARTITIONS = 2
TIMEOUT_S = 30.0
STEPS = 60


@asynccontextmanager
async def supervised(servers: str, app: str) -> AsyncGenerator[Supervisor]:
    ready = asyncio.Event()
    supervisor = Supervisor(
        [TARGET],
        bootstrap_servers=servers,
        name=app,
        unsafe_dev=True,
        directory=ROOT,
        ready=ready.set,
    )
    running = asyncio.create_task(supervisor.run())
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await ready.wait()
        yield supervisor
    finally:
        supervisor.stop()
        assert await running == 0


def test_step_whose_task_exits_costs_its_process_one_attempt_of_each_run_and_no_run(
    kafka_bootstrap: str, new_app: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = new_app(PARTITIONS)
    monkeypatch.setenv(APP_VARIABLE, app)

    async def scene() -> None:
        async with (
            supervised(kafka_bootstrap, app) as supervisor,
            Client(kafka_bootstrap) as client,
        ):
            (before,) = supervisor.pids
            healthy = [await client.start(app, "counts", STEPS) for _ in range(2 * PARTITIONS)]
            bad = await client.start(app, "ends_its_process")

            assert await bad.result(TIMEOUT_S) == 2
            assert [await run.result(TIMEOUT_S) for run in healthy] == [STEPS] * len(healthy)
            assert supervisor.pids != [before]
        story = await asyncio.to_thread(read_story, kafka_bootstrap, app, PARTITIONS)
        assert story.problems == []
        assert all(run.lost <= 1 for run in story.runs.values())

    asyncio.run(scene())


async def run_worker(servers: str) -> tuple[int, str]:
    """The exit code of `stepfold worker`, and what it said."""
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", "from stepfold.cli.main import main; main()", "worker", TARGET, "--unsafe-dev"),
        *("--bootstrap-servers", servers),
        cwd=ROOT,
        env={**os.environ, "STEPFOLD_LOG_LEVEL": "ERROR"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(program.communicate(), TIMEOUT_S)
    return program.returncode or 0, said.decode()


def test_worker_without_topics_ends_with_what_to_do(
    kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(APP_VARIABLE, "not-made")

    code, said = asyncio.run(run_worker(kafka_bootstrap))

    assert code == 5
    assert "no such topic: not-made.inbox" in said
    assert "stepfold topics apply not-made" in said
    assert "Traceback" not in said
