"""A shard that is lost and comes back: what its attempts did meanwhile."""

from __future__ import annotations

import asyncio

from stepfold import App, Retry, step
from stepfold.core import events as e
from stepfold.engine.shard_states import ShardState
from tests.engine.stage import APP, Stage, play

ONCE = Retry(attempts=1)


class Gate:
    """Holds a step until the scene says how it ends."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.fails = False

    async def pass_through(self) -> int:
        await self.opened.wait()
        if self.fails:
            raise ValueError("closed for good")
        return 7


def lose_then_open(*, fails: bool) -> tuple[list[str], e.Event]:
    """The run's events and its end; its step ends while nobody leads the shard."""
    seen: list[tuple[list[str], e.Event]] = []
    gates: list[Gate] = []

    def declare(app: App) -> None:
        @app.workflow
        async def guarded() -> int:  # pyright: ignore[reportUnusedFunction]
            return await step.run("pass", gates[0].pass_through, retry=ONCE)

    async def scene(there: Stage) -> None:
        gates.append(Gate())
        run_id = there.start("guarded")
        await there.first(e.AttemptStarted, run_id)
        await there.until(lambda: there.members[0].worker.around.executor.running >= 1)
        there.cluster.lose_session(APP, "worker")
        while there.members[0].state is ShardState.LEADING:  # noqa: ASYNC110 - to the turn
            await asyncio.sleep(0)
        gates[0].fails = fails
        gates[0].opened.set()
        end = await there.end_of(run_id)
        seen.append((there.kinds(run_id), end))

    play(declare, scene)
    return seen[0]


def test_result_of_an_attempt_that_ended_in_limbo_is_recorded() -> None:
    kinds, _ = lose_then_open(fails=False)

    assert kinds == ["AttemptStarted", "StepCompleted", "RunCompleted"]


def test_attempt_that_failed_in_limbo_is_not_retried_more_than_its_step_allows() -> None:
    kinds, _ = lose_then_open(fails=True)

    assert kinds == ["AttemptStarted", "AttemptFailed", "RunFailed"]
