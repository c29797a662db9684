"""The app that the tests of the command line run; its name comes from the environment."""

from __future__ import annotations

import os

from stepfold import App, step

app = App(os.environ.get("CLI_TEST_APP", "unused"))


@app.workflow
async def double(data: dict[str, int]) -> dict[str, int]:
    return {"doubled": data["number"] * 2}


@app.workflow
async def broken(data: dict[str, str]) -> int:
    raise ValueError(f"no such city: {data['city']}")


@app.workflow
async def waits() -> bool | None:
    return await step.wait_for_signal("approval", bool, timeout="1h")
