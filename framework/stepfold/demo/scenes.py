"""What `stepfold demo` does, scene by scene, and what must be true at its end.

Nothing is staged but the kill: Kafka, the worker process, the projection and the HTTP
API are the real ones. What the log says of executions is compared with a file in which
the steps themselves left a line each time they were called.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stepfold.client.client import Client
from stepfold.core.errors import ConfigurationError, ConflictError, StepfoldError
from stepfold.core.ids import parse_run_id
from stepfold.demo.agent import TALLY_VARIABLE
from stepfold.engine.supervisor import Supervisor
from stepfold.sdk.event import Event

APP = "demo"
TARGET = "stepfold.demo.agent:app"
PARTITIONS = 4
KILLED_STEP = "study"
FLAKY_STEP = "fetch_prices"
APPROVAL = "approval"
QUESTION = {"account_id": "acme", "query": "durable workflows"}
LOOK_S = 0.05
MIDDLE_S = 0.4
"""How long the step has run when its process is killed; it takes 1.2 s."""
SCENE_TIMEOUT_S = 60.0
NEEDED = ("aiohttp", "sqlalchemy", "prometheus_client")
MISSING_STEPS = "the demo's agent has fewer than five steps"

Say = Callable[[str], None]
Fetch = Callable[[str], Any]


@dataclass(slots=True)
class DemoResult:
    """What happened; the demo is good when there are no problems."""

    run: dict[str, Any]
    killed_pid: int
    executions: dict[str, int]
    problems: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True)
class Stage:
    """servers, config: Kafka's. get, post: of the HTTP API."""

    servers: str
    config: dict[str, str]
    tally: Path
    get: Callable[..., dict[str, Any]]
    post: Callable[..., dict[str, Any]]
    say: Say


@contextmanager
def alone_in(folder: Path) -> Generator[None]:
    """Raises ConflictError while another demo uses this folder: it would get our run."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(
                f"another demo is running in {folder}; end it, or name another --state-dir"
            ) from None
        yield


async def play(stage: Stage) -> DemoResult:
    """A worker is started, killed and replaced; the run goes through all of it."""
    stage.tally.unlink(missing_ok=True)
    async with _worker(stage) as supervisor:
        run_id = await _ask(stage)
        killed_pid = await _kill_in_the_middle(stage, supervisor, run_id)
        await _approve(stage, run_id)
        run = await _until(stage, run_id, lambda run: run["ended_at"] is not None)
        await _show_progress(stage, run)
    executions = _executions(stage.tally)
    return DemoResult(run, killed_pid, executions, problems_of(run, executions))


@asynccontextmanager
async def _worker(stage: Stage) -> AsyncGenerator[Supervisor]:
    os.environ[TALLY_VARIABLE] = str(stage.tally)
    supervisor = Supervisor(
        [TARGET],
        bootstrap_servers=stage.servers,
        kafka_config=stage.config,
        name="demo",
        unsafe_dev=True,
    )
    working = asyncio.create_task(supervisor.run())
    try:
        yield supervisor
    finally:
        supervisor.stop()
        await working


async def _ask(stage: Stage) -> str:
    async with Client(stage.servers, config=stage.config) as client:
        sent: Event[Any] = Event("demo/ask", data=QUESTION)
        receipt = await client.send(APP, sent)
        stage.say(
            f"event demo/ask is on Kafka: {receipt.topic}, partition {receipt.partition}, "
            f"offset {receipt.offset}"
        )
        handles = await receipt.runs(SCENE_TIMEOUT_S)
    if not handles:
        raise StepfoldError("the event started no run, though the agent's filter matches it")
    stage.say(f"it became run {handles[0].id}")
    return handles[0].id


async def _kill_in_the_middle(stage: Stage, supervisor: Supervisor, run_id: str) -> int:
    """Kill the process that executes the long step, and see another one take over."""
    run = await _until(stage, run_id, lambda run: _is_running(run, KILLED_STEP))
    await _show_progress(stage, run)
    await asyncio.sleep(MIDDLE_S)
    pid = supervisor.pids[0]
    done = sum(step["status"] == "completed" for step in run["steps"])
    stage.say(f"kill -9 {pid}, in the middle of step {KILLED_STEP!r}, with {done} steps completed")
    os.kill(pid, signal.SIGKILL)
    run = await _until(
        stage, run_id, lambda run: any(a["status"] == "lost" for a in _attempts(run, KILLED_STEP))
    )
    run = await _until(stage, run_id, lambda run: _is_running(run, KILLED_STEP))
    worker = _attempts(run, KILLED_STEP)[-1]["worker_id"].rpartition(":")[2]
    stage.say(f"process {worker} took over, and began with {KILLED_STEP!r}: the rest is recorded")
    return pid


async def _approve(stage: Stage, run_id: str) -> None:
    await _until(
        stage, run_id, lambda run: any(wait["name"] == APPROVAL for wait in run["waiting_for"])
    )
    stage.say(f"the run waits for {APPROVAL!r}: granted, over HTTP")
    path = f"/api/v1/runs/{run_id}/signal"
    await asyncio.to_thread(stage.post, path, {"name": APPROVAL, "payload": True})


async def _until(
    stage: Stage, run_id: str, is_so: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """The run as soon as the projection shows it so."""
    run: dict[str, Any] = {}
    try:
        async with asyncio.timeout(SCENE_TIMEOUT_S):
            path = f"/api/v1/runs/{run_id}"
            position = _trigger_of(run_id)
            await asyncio.to_thread(stage.get, path, {"after": position})
            while True:
                run = await asyncio.to_thread(stage.get, path)
                if is_so(run) or run["status"] == "failed":
                    return run
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        raise StepfoldError(
            f"the run did not go on within {SCENE_TIMEOUT_S:.0f} s; it is {run.get('status')}; "
            "see the lines of the worker above"
        ) from None


def _trigger_of(run_id: str) -> str:
    """Where the record is that started the run: what the projection has to have passed."""
    address = parse_run_id(run_id)
    return f"{APP}.inbox/{address.partition}/{address.offset}"


async def _show_progress(stage: Stage, run: dict[str, Any]) -> None:
    for step in run["steps"]:
        tries = len(step["attempts"])
        stage.say(f"  {step['status']:<9} {step['step']}" + (f" ({tries} attempts)" * (tries > 1)))


def _attempts(run: dict[str, Any], step_id: str) -> list[dict[str, Any]]:
    step = next((step for step in run["steps"] if step["step"] == step_id), None)
    return step["attempts"] if step is not None else []


def _is_running(run: dict[str, Any], step_id: str) -> bool:
    attempts = _attempts(run, step_id)
    return bool(attempts) and attempts[-1]["status"] == "running"


def _executions(tally: Path) -> dict[str, int]:
    """How often each attempt's function was really called."""
    lines = tally.read_text().splitlines() if tally.exists() else []
    return dict(Counter(lines))


def problems_of(run: dict[str, Any], executions: dict[str, int]) -> list[str]:
    """Whatever was promised and is not so."""
    found: list[str] = []
    if run["status"] != "completed":
        found.append(f"the run is {run['status']}: {run['error']}")
    if len(run["steps"]) < 5:
        found.append(MISSING_STEPS)
    for step in run["steps"]:
        found += _problems_of_step(run["id"], step, executions)
    statuses = {name: [a["status"] for a in _attempts(run, name)] for name in _NAMED}
    if statuses[KILLED_STEP] != ["lost", "completed"]:
        found.append(f"{KILLED_STEP!r} should be lost once and then complete: {statuses}")
    if statuses[FLAKY_STEP] != ["failed", "failed", "completed"]:
        found.append(f"{FLAKY_STEP!r} should fail twice and then complete: {statuses}")
    return found


_NAMED = (KILLED_STEP, FLAKY_STEP)


def _problems_of_step(run_id: str, step: dict[str, Any], executions: dict[str, int]) -> list[str]:
    completed = [a["number"] for a in step["attempts"] if a["status"] == "completed"]
    if len(completed) != 1:
        return [f"step {step['step']!r} completed {len(completed)} times"]
    found: list[str] = []
    for attempt in step["attempts"]:
        called = executions.get(f"{run_id}:{step['step']} {attempt['number']}", 0)
        if called != 1:
            found.append(
                f"attempt {attempt['number']} of {step['step']!r} was executed {called} times"
            )
    if any(attempt["number"] > completed[0] for attempt in step["attempts"]):
        found.append(f"step {step['step']!r} was tried again after it had completed")
    return found


def check_extras() -> None:
    """Raises ConfigurationError that says what to install."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"the demo needs packages that are not installed ({', '.join(missing)}); get them with:"
            f" {sys.executable} -m pip install 'stepfold[local,projections]'"
        )
