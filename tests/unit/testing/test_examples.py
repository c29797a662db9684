"""The example that readers meet first does what the text says, from its trigger to its end."""

from __future__ import annotations

from typing import Any

import pytest
from examples.research import agent, app

from stepfold import Event
from stepfold.testing import Sandbox
from tests.unit.testing.on_loop import on_loop


@on_loop
async def test_example_of_the_readme_answers_once_it_is_approved() -> None:
    async with Sandbox(app) as sandbox:
        (run,) = await sandbox.send(Event("agent/run", data={"query": "tides"}, id="evt-1"))
        await sandbox.crash()
        await run.signal("approval", True)

        assert run.workflow == agent.name
        assert await run.result() == {
            "found": ["what the web says about tides"],
            "approved": True,
        }


@pytest.mark.parametrize(("query", "runs"), [("tides", 1), ("", 0)])
@on_loop
async def test_example_of_the_readme_ignores_empty_questions(query: str, runs: int) -> None:
    async with Sandbox(app) as sandbox:
        asked: Event[Any] = Event("agent/run", data={"query": query})

        assert len(await sandbox.send(asked)) == runs


@on_loop
async def test_example_of_the_readme_gives_up_waiting_after_a_day() -> None:
    async with Sandbox(app, skip_time=True) as sandbox:
        run = await sandbox.start(agent, {"query": "tides"})

        assert (await run.result())["approved"] is False
