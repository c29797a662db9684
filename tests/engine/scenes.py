"""Stages for outages and crashes: workers with limits of their own, and steps that a test ends."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from stepfold import App, current_run, step
from stepfold.core import events as e
from stepfold.engine.isolation import Isolation
from stepfold.engine.surroundings import Limits
from stepfold.engine.worker import Worker
from stepfold.journal.memory import MemoryJournal
from tests.engine.stage import APP, QUICK, Member, Stage

SOON_S = 0.1
"""Long enough for what should not happen to have happened."""


class Calls:
    """Steps that run until the test lets them end, and a count of their executions."""

    def __init__(self) -> None:
        self.executed: Counter[tuple[str, int]] = Counter()
        self.cancelled: Counter[str] = Counter()
        self._may_end: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def __call__(self, name: str) -> str:
        self.executed[name, current_run().attempt] += 1
        try:
            await self._may_end[name].wait()
        except asyncio.CancelledError:
            self.cancelled[name] += 1
            raise
        return name

    def end(self, *names: str) -> None:
        for name in names:
            self._may_end[name].set()

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.executed}


def declare_calls(app: App, calls: Calls) -> None:
    @app.workflow
    async def call(name: str) -> str:  # pyright: ignore[reportUnusedFunction]
        return await step.run("call", calls, name)

    @app.workflow
    async def twice(name: str) -> str:  # pyright: ignore[reportUnusedFunction]
        first = await step.run("call", calls, f"{name} 1")
        return first + await step.run("call", calls, f"{name} 2")

    @app.workflow
    async def nap(name: str) -> str:  # pyright: ignore[reportUnusedFunction]
        await step.sleep("nap", SOON_S)
        return name


def join(
    there: Stage,
    name: str = "worker",
    *,
    limits: Limits | None = None,
    isolation: Isolation | None = None,
) -> Member:
    """A worker process with limits of its own."""
    journal = MemoryJournal(there.cluster, name)
    worker = Worker(journal, [there.app], worker_id=name, limits=limits, isolation=isolation)
    working = asyncio.get_running_loop().create_task(
        worker.run(ready=lambda: None, stopping=asyncio.Event())
    )
    member = Member(name, journal, worker, working)
    there.members.append(member)
    return member


Scene = Callable[[Stage, Calls], Awaitable[None]]


def play_calls(scene: Scene) -> None:
    """Play a scene whose workflows call steps that the test ends."""

    async def main() -> None:
        calls = Calls()
        app = App(APP, retry=QUICK)
        declare_calls(app, calls)
        async with staged(app) as there:
            await scene(there, calls)

    asyncio.run(main())


@asynccontextmanager
async def staged(app: App) -> AsyncGenerator[Stage]:
    there = Stage(app)
    try:
        yield there
    finally:
        await there.close()
    assert there.troubles == []


def attempts_lost(there: Stage) -> list[int]:
    """What each lost attempt counted, in the order of the log."""
    return [event.lost for event in there.of(e.AttemptLost)]
