"""What the crash tests share: workers, triggers, and waiting for the log to say: all over."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from stepfold.engine.process import EngineOptions
from stepfold.engine.supervisor import Supervisor
from stepfold.journal.scan import KafkaScan
from stepfold.verify.app import verify_app
from tests.crash import agents
from tests.log_checks import Story, read_story

TARGET = "tests.crash.agents:app"
STEPS_BESIDE_ROUNDS = 4
ROUNDS = 3
WAIT_S = 100.0
CHECK_S = 0.5
FLUSH_S = 10.0
READY_S = 30.0
ROOT = Path(__file__).parents[2]


class Scene:
    """One app on one Kafka, and the file in which its steps leave a line for each execution."""

    def __init__(
        self, servers: str, app: str, partitions: int, tally: Path, target: str = TARGET
    ) -> None:
        self.target = target
        self.servers = servers
        self.app = app
        self.partitions = partitions
        self.tally = tally

    def set_environment(self, monkeypatch: pytest.MonkeyPatch) -> Scene:
        """The worker processes learn from it which app they are."""
        monkeypatch.setenv(agents.APP_VARIABLE, self.app)
        monkeypatch.setenv(agents.TALLY_VARIABLE, str(self.tally))
        return self

    def send(self, runs: int, rounds: int = ROUNDS) -> None:
        """Triggers; each run has as many steps, one after the other, as rounds, and some more."""
        self.emit(("test/go", {"number": number, "rounds": rounds}) for number in range(runs))

    def emit(self, events: Iterable[tuple[str, Any]]) -> None:
        """Events by name and data, one partition after the other."""
        producer = Producer({"bootstrap.servers": self.servers, "linger.ms": 0, "acks": "all"})
        for number, (name, data) in enumerate(events):
            value = json.dumps({"name": name, "data": data}).encode()
            producer.produce(f"{self.app}.inbox", value, partition=number % self.partitions)
        assert producer.flush(FLUSH_S) == 0

    async def story(self) -> Story:
        return await asyncio.to_thread(read_story, self.servers, self.app, self.partitions)

    async def wait_ended(self, runs: int) -> Story:
        async with asyncio.timeout(WAIT_S):
            while True:
                story = await self.story()
                if story.ended >= runs:
                    return story
                await asyncio.sleep(CHECK_S)

    async def wait_claims(self, count: int) -> None:
        """Until so many claims of shards are in the log."""
        async with asyncio.timeout(WAIT_S):
            while True:
                if (await self.story()).claims >= count:
                    return
                await asyncio.sleep(CHECK_S)

    async def wait_attempts(self, count: int) -> None:
        """Until so many attempts are started, and no run is over yet."""
        async with asyncio.timeout(WAIT_S):
            while True:
                story = await self.story()
                if sum(run.started.total() for run in story.runs.values()) >= count:
                    assert story.ended == 0, "the runs are too short for what is to happen to them"
                    return
                await asyncio.sleep(CHECK_S)

    @asynccontextmanager
    async def supervised(
        self, name: str, processes: int = 1, options: EngineOptions | None = None
    ) -> AsyncGenerator[Supervisor]:
        """A supervisor in this process, with worker processes of its own; drained at the end."""
        ready = asyncio.Event()
        supervisor = Supervisor(
            [self.target],
            bootstrap_servers=self.servers,
            processes=processes,
            name=f"{self.app}-{name}",
            unsafe_dev=True,
            options=options,
            ready=ready.set,
        )
        running = asyncio.create_task(supervisor.run())
        try:
            async with asyncio.timeout(READY_S):
                await ready.wait()
            yield supervisor
        finally:
            supervisor.stop()
            assert await running == 0

    async def program(self, name: str) -> asyncio.subprocess.Process:
        """`stepfold worker` as a program of its own, ready: the host that a test lets die."""
        program = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", "from stepfold.cli.main import main; main()", "worker", self.target),
            *("--unsafe-dev", "--name", f"{self.app}-{name}"),
            *("--bootstrap-servers", self.servers),
            cwd=ROOT,
            env={**os.environ, "STEPFOLD_LOG_LEVEL": "ERROR"},
            stderr=asyncio.subprocess.PIPE,
        )
        assert program.stderr is not None
        async with asyncio.timeout(READY_S):
            async for line in program.stderr:
                if line.startswith(b"ready:"):
                    return program
        raise AssertionError("the worker program ended before it was ready")


def check_all_kept(story: Story, runs: int, scene: Scene, rounds: int = ROUNDS) -> None:
    """Every promise that a crash may not break, from the log and from the steps' own notes."""
    report = verify_app(KafkaScan(scene.servers, {}), scene.app).report
    assert report.violations == []
    assert report.runs == {"completed": runs}
    assert report.source_pending == 0
    assert len(story.runs) == runs
    steps = STEPS_BESIDE_ROUNDS + rounds
    assert all(len(run.completed) == steps for run in story.runs.values())
    executions = scene.tally.read_text().splitlines()
    assert len(executions) == len(set(executions)), "an attempt was executed twice"
    assert len(executions) <= report.kinds["AttemptStarted"]
