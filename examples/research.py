"""The example of the README: a step that is retried, and a person who approves.

deploy/compose.yaml runs it. On one machine: `stepfold worker examples.research:app`.
"""

from __future__ import annotations

from stepfold import App, Retry, event, step

app = App("research")


@step(retry=Retry(attempts=5, min_delay="1s"), timeout="2m")
async def search(query: str) -> list[str]:
    return [f"what the web says about {query}"]


@app.workflow(on=[event("agent/run", if_="event.data.query != ''")])
async def agent(question: dict[str, str]) -> dict[str, object]:
    found = await search(question["query"])
    approved = await step.wait_for_signal("approval", bool, timeout="24h")
    return {"found": found, "approved": approved is True}
