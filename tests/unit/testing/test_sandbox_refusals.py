"""What a sandbox cannot do it refuses, and what never ends it does not wait for."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

import stepfold.testing.sandbox
from stepfold import App, step
from stepfold.testing import Hold, Sandbox, SandboxError
from tests.unit.testing.on_loop import on_loop

app = App("refusals")


@step
async def hang() -> None:
    await asyncio.Event().wait()


@app.workflow
async def hanging() -> None:
    await hang()


@app.workflow
async def polling() -> None:
    while True:
        await step.sleep("pause", 60)


def test_runs_of_a_sandbox_that_is_not_open_cannot_be_asked() -> None:
    sandbox = Sandbox(app)

    with pytest.raises(SandboxError, match="async with Sandbox"):
        asyncio.run(sandbox.start(hanging))


@on_loop
async def test_workflow_of_another_app_is_refused() -> None:
    other = App("other")

    @other.workflow
    async def foreign() -> None: ...

    async with Sandbox(app) as sandbox:
        with pytest.raises(SandboxError, match="'foreign' is of app 'other'; this sandbox has app"):
            await sandbox.start(foreign)


@on_loop
async def test_time_does_not_go_back() -> None:
    async with Sandbox(app) as sandbox:
        await sandbox.advance_to(datetime(2027, 6, 1, tzinfo=UTC))

        with pytest.raises(SandboxError, match="time never goes back"):
            await sandbox.advance_to(datetime(2027, 5, 1, tzinfo=UTC))
        with pytest.raises(SandboxError, match="nothing is due at any time"):
            await sandbox.advance()


@on_loop
async def test_step_that_never_ends_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stepfold.testing.sandbox, "PATIENCE_S", 0.1)
    async with Sandbox(app) as sandbox:
        with pytest.raises(SandboxError, match="'hang' of the run of 'hanging'; give them stand-i"):
            await sandbox.start(hanging)


@on_loop
async def test_workflow_that_polls_for_ever_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stepfold.testing.sandbox, "SKIPS_MAX", 50)
    async with Sandbox(app) as sandbox:
        await sandbox.start(polling)

        with pytest.raises(SandboxError, match="more than 50 things were due until 2027"):
            await sandbox.advance("7d")


@on_loop
async def test_code_of_another_app_is_not_deployed() -> None:
    async with Sandbox(app) as sandbox:
        with pytest.raises(SandboxError, match="is of app 'refusals', not of 'other'"):
            await sandbox.deploy(App("other"))


@on_loop
async def test_history_that_cannot_be_led_ends_the_test_with_the_reason() -> None:
    async with Sandbox(app) as sandbox:
        log = sandbox._cluster.log("refusals.history", 0)  # pyright: ignore[reportPrivateUsage]
        log.records[1] = log.records[1]._replace(value=b"no event")

        with pytest.raises(SandboxError, match="the shard cannot be led: "):
            await sandbox.crash()


def test_hold_that_holds_nothing_says_so() -> None:
    with pytest.raises(RuntimeError, match="no attempt waits here"):
        Hold().release()
