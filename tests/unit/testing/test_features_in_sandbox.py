"""Each asyncio feature on the real engine: once through, and with a crash wherever it waits."""

from __future__ import annotations

from typing import Any

import pytest

from stepfold.sdk.workflow import WorkflowDefinition
from stepfold.testing import Sandbox
from tests.unit.sdk.test_asyncio_features import CASES, app, names
from tests.unit.testing.on_loop import on_loop

ALL = [*CASES, (app.workflows["task_group_with_a_failing_child"], None)]


@pytest.mark.parametrize(("workflow", "expected"), ALL, ids=names)
@on_loop
async def test_asyncio_works_on_the_real_engine(
    workflow: WorkflowDefinition[Any, Any], expected: Any
) -> None:
    async with Sandbox(app, skip_time=True) as sandbox:
        run = await sandbox.start(workflow)

        result = await run.result()

        assert expected is None or result == expected


@pytest.mark.parametrize(("workflow", "expected"), ALL, ids=names)
@on_loop
async def test_asyncio_takes_the_same_way_when_the_worker_crashes_wherever_it_waits(
    workflow: WorkflowDefinition[Any, Any], expected: Any
) -> None:
    async with Sandbox(app, skip_time=True) as undisturbed:
        straight = await undisturbed.start(workflow)
        result = await straight.result()

    async with Sandbox(app) as sandbox:
        run = await sandbox.start(workflow)
        await sandbox.crash()
        while run.status in ("running", "sleeping", "waiting", "backoff"):
            await sandbox.advance()
            await sandbox.crash()

        assert await run.result() == result
        assert list(run.steps) == list(straight.steps)
        assert [step.output for step in run.steps.values()] == [
            step.output for step in straight.steps.values()
        ]
