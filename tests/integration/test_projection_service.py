"""The projection service on real Kafka, as its users meet it: over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from stepfold import App, Client, Retry, current_run, event, step
from stepfold.core.routing import partition_for
from stepfold.engine.worker import Worker
from stepfold.journal.kafka import KafkaJournal
from stepfold_projections.service import ProjectionService, open_store, rebuild
from stepfold_projections.store import RunFilter

TIMEOUT_S = 40.0
LOOK_S = 0.05
UNKNOWN_RUN = "000-00000-00000000000-00"


@dataclass
class World:
    app: App
    api: aiohttp.ClientSession
    servers: str
    store: str

    async def get(self, path: str, /, **query: str) -> Any:
        async with self.api.get(path, params=query) as answer:
            body = await answer.text()
            assert answer.status == 200, body
            return json.loads(body)

    async def problem(self, path: str, /, status: int, **query: str) -> Any:
        async with self.api.get(path, params=query) as answer:
            assert answer.status == status, await answer.text()
            return json.loads(await answer.text())

    async def post(self, path: str, body: object = None, expected: int = 202) -> Any:
        async with self.api.post(path, json=body if body is not None else {}) as answer:
            text = await answer.text()
            assert answer.status == expected, text
            return json.loads(text)

    async def started(self, workflow: str, data: object, **more: object) -> dict[str, Any]:
        path = f"/api/v1/apps/{self.app.name}/workflows/{workflow}/runs"
        answer: dict[str, Any] = await self.post(path, {"input": data, **more})
        return answer

    async def run_when(self, run_id: str, status: str, **query: str) -> dict[str, Any]:
        while True:
            run: dict[str, Any] = await self.get(f"/api/v1/runs/{run_id}", **query)
            if run["status"] == status:
                return run
            await asyncio.sleep(LOOK_S)


@asynccontextmanager
async def working(servers: str, app: App) -> AsyncGenerator[None]:
    journal = KafkaJournal(
        bootstrap_servers=servers, config={}, instance_id=app.name, unsafe_dev=True
    )
    worker = Worker(journal, [app], worker_id="test")
    stopping = asyncio.Event()
    task = asyncio.create_task(worker.run(ready=lambda: None, stopping=stopping))
    try:
        yield
    finally:
        stopping.set()
        await task


@asynccontextmanager
async def serving(servers: str, store: str, *apps: str) -> AsyncGenerator[str]:
    """The address of a service for these apps alone: others on this broker hold garbage."""
    stopping = asyncio.Event()
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    service = ProjectionService(servers, apps=apps, store=store, listen="127.0.0.1:0")
    task = asyncio.create_task(service.run(stopping=stopping, ready=ready.set_result))
    try:
        yield await ready
    finally:
        stopping.set()
        await task


def declare(app: App) -> None:
    @step(retry=Retry(attempts=3, min_delay="10ms", jitter=0))
    async def flaky(number: int) -> int:
        if current_run().attempt == 1:
            raise ConnectionError("503 from the tool")
        return number * 2

    @app.workflow(on=event("test/ask"), tenant="event.data.account")
    async def agent(data: dict[str, Any]) -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction]
        doubled = await flaky(data["number"])
        approved = await step.wait_for_signal("approval", bool, timeout="1h")
        return {"doubled": doubled, "approved": approved}

    @app.workflow
    async def broken(data: dict[str, Any]) -> int:  # pyright: ignore[reportUnusedFunction]
        raise ValueError(f"no such city: {data['city']}")


Scenario = Callable[[World], Awaitable[None]]
Play = Callable[..., None]


@pytest.fixture
def play(kafka_bootstrap: str, new_app: Callable[[int], str], tmp_path: Path) -> Play:
    """Runs a scenario against a projection service, with or without a worker."""

    def run(scenario: Scenario, *, worker: bool = True) -> None:
        app = App(new_app(2))
        declare(app)
        store = f"sqlite:///{tmp_path / 'traces.db'}"

        async def main() -> None:
            async with (
                asyncio.timeout(TIMEOUT_S),
                serving(kafka_bootstrap, store, app.name) as address,
                aiohttp.ClientSession(address) as api,
            ):
                world = World(app, api, kafka_bootstrap, store)
                if not worker:
                    await scenario(world)
                    return
                async with working(kafka_bootstrap, app):
                    await scenario(world)

        asyncio.run(main())

    return run


def test_run_is_started_traced_signalled_and_completed_over_http(play: Play) -> None:
    async def scenario(there: World) -> None:
        sent = await there.started("agent", {"number": 4, "account": "acme"})
        run = await there.run_when(sent["id"], "waiting", after=sent["position"])
        placed = await there.post(
            f"/api/v1/runs/{sent['id']}/signal", {"name": "approval", "payload": True}
        )
        signalled = await there.get(f"/api/v1/runs/{sent['id']}", after=placed["position"])
        done = await there.run_when(sent["id"], "completed")

        (traced,) = run["steps"]
        assert run["waiting_for"][0]["name"] == "approval"
        assert (traced["step"], traced["output"]) == ("flaky", 8)
        assert traced["input"]["args"] == [4]
        assert [a["status"] for a in traced["attempts"]] == ["failed", "completed"]
        assert traced["attempts"][0]["error"]["message"] == "503 from the tool"
        assert signalled["waits"][0]["status"] == "resolved"
        assert done["output"] == {"doubled": 8, "approved": True}
        assert done["tenant"] == "acme"
        assert done["duration_ms"] > 0
        assert done["first_event"]["topic"] == f"{there.app.name}.history"
        assert done["trigger"]["topic"] == f"{there.app.name}.inbox"

    play(scenario)


def test_events_of_a_run_are_those_of_the_log_and_may_be_cut_at_an_offset(play: Play) -> None:
    async def scenario(there: World) -> None:
        sent = await there.started("agent", {"number": 4, "account": "acme"})
        run = await there.run_when(sent["id"], "waiting", after=sent["position"])
        path = f"/api/v1/runs/{sent['id']}"
        events = (await there.get(f"{path}/events"))["events"]
        first = (await there.get(f"{path}/events", limit="2"))["next_cursor"]
        rest = (await there.get(f"{path}/events", cursor=str(first)))["events"]
        as_of = str(events[2]["offset"])
        earlier = await there.get(path, as_of=as_of)

        assert [event["kind"] for event in events] == [
            "RunAccepted",
            "AttemptStarted",
            "AttemptFailed",
            "AttemptStarted",
            "StepCompleted",
            "WaitOpened",
        ]
        assert rest == events[2:]
        assert (earlier["status"], run["status"]) == ("backoff", "waiting")
        assert len((await there.get(f"{path}/events", as_of=as_of))["events"]) == 3

    play(scenario)


def test_lists_are_filtered_and_paged(play: Play) -> None:
    async def scenario(there: World) -> None:
        name = there.app.name
        waiting = [
            await there.started("agent", {"number": n, "account": f"a{n}"}) for n in range(3)
        ]
        failed = await there.started("broken", {"city": "Atlantis"})
        await there.run_when(failed["id"], "failed", after=failed["position"])
        for sent in waiting:
            await there.run_when(sent["id"], "waiting", after=sent["position"])

        async def found(**query: str) -> set[str]:
            page = await there.get("/api/v1/runs", app=name, **query)
            return {run["id"] for run in page["runs"]}

        assert await found(status="failed") == {failed["id"]}
        assert await found(error="atlantis") == {failed["id"]}
        assert await found(tenant="a1") == {waiting[1]["id"]}
        assert await found(step="flaky") == {sent["id"] for sent in waiting}
        assert await found(status="waiting,failed", workflow="broken") == {failed["id"]}
        seen: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = await there.get("/api/v1/runs", app=name, limit="3", **cursor)
            seen += [run["id"] for run in page["runs"]]
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        assert len(seen) == len(set(seen)) == 4

    play(scenario)


def test_event_cancel_pause_and_resume_over_http(play: Play) -> None:
    async def scenario(there: World) -> None:
        path = f"/api/v1/apps/{there.app.name}/events"
        data = {"number": 1, "account": "acme"}
        placed = await there.post(path, {"name": "test/ask", "data": data, "id": "e1"})
        again = await there.post(path, {"name": "test/ask", "data": data, "id": "e1"})
        await there.get("/api/v1/runs", after=again["position"])
        page = await there.get("/api/v1/runs", app=there.app.name, after=placed["position"])
        (run,) = page["runs"]
        await there.run_when(run["id"], "waiting")
        await there.post(f"/api/v1/runs/{run['id']}/pause", {"reason": "look first"})
        await there.run_when(run["id"], "paused")
        await there.post(f"/api/v1/runs/{run['id']}/resume")
        await there.run_when(run["id"], "waiting")
        await there.post(f"/api/v1/runs/{run['id']}/cancel", {"reason": "wrong model"})
        cancelled = await there.run_when(run["id"], "cancelled")
        problem = await there.post(f"/api/v1/runs/{run['id']}/cancel", expected=409)

        assert cancelled["reason"] == "wrong model"
        assert [r["kind"] for r in cancelled["requests"]] == ["pause", "resume", "cancel"]
        assert "is over: cancelled" in problem["detail"]

    play(scenario)


def test_repeated_start_answers_with_the_first_run(play: Play) -> None:
    async def scenario(there: World) -> None:
        data = {"number": 1, "account": "acme"}
        first = await there.started("agent", data, idempotency_key="q-17")
        second = await there.started("agent", data, idempotency_key="q-17")
        path = f"/api/v1/runs/{second['id']}"
        problem = await there.problem(path, 404, after=second["position"])

        assert problem["existing_run_id"] == first["id"]

    play(scenario)


def test_run_without_a_worker_is_queued_shown_as_stalled_and_goes_on_with_one(play: Play) -> None:
    async def scenario(there: World) -> None:
        async with working(there.servers, there.app):
            sent = await there.started("agent", {"number": 1, "account": "acme"})
            await there.run_when(sent["id"], "waiting", after=sent["position"])
        await there.post(f"/api/v1/runs/{sent['id']}/signal", {"name": "approval", "payload": True})
        async with working(there.servers, there.app):
            await there.run_when(sent["id"], "completed")

    play(scenario, worker=False)


def test_signal_with_a_wrong_payload_is_refused_visibly_and_the_run_waits_on(play: Play) -> None:
    async def scenario(there: World) -> None:
        sent = await there.started("agent", {"number": 1, "account": "acme"})
        path = f"/api/v1/runs/{sent['id']}"
        early = {"name": "approval", "payload": [1]}
        await there.post(f"{path}/signal", early)
        await there.run_when(sent["id"], "waiting", after=sent["position"])
        placed = await there.post(f"{path}/signal", {"name": "approval", "payload": "perhaps so"})
        run = await there.get(path, after=placed["position"])
        await there.post(f"{path}/signal", {"name": "approval", "payload": True})
        done = await there.run_when(sent["id"], "completed")

        assert run["status"] == "waiting"
        assert "valid boolean" in run["rejections"][-1]["reason"]
        assert len(run["rejections"]) + len(run["signals"]) == 2
        assert done["output"]["approved"] is True

    play(scenario)


def test_rebuild_gives_what_the_live_projection_has(play: Play, tmp_path: Path) -> None:
    async def scenario(there: World) -> None:
        sent = await there.started("agent", {"number": 1, "account": "acme"})
        failed = await there.started("broken", {"city": "Atlantis"})
        await there.run_when(sent["id"], "waiting", after=sent["position"])
        await there.run_when(failed["id"], "failed", after=failed["position"])
        anew = f"sqlite:///{tmp_path / 'anew.db'}"

        records = await rebuild(there.servers, store=anew, apps=[there.app.name])

        where = RunFilter(app=there.app.name)
        live, rebuilt = open_store(there.store), open_store(anew)
        assert records > 0
        assert rebuilt.list_runs(where, 10, None) == live.list_runs(where, 10, None)
        live.close()
        rebuilt.close()

    play(scenario)


def test_health_and_metrics_tell_what_is_projected(play: Play) -> None:
    async def scenario(there: World) -> None:
        sent = await there.started("broken", {"city": "Atlantis"})
        await there.run_when(sent["id"], "failed", after=sent["position"])
        async with there.api.get("/livez") as answer:
            assert answer.status == 200
        while True:
            async with there.api.get("/readyz") as answer:
                if answer.status == 200:
                    break
            await asyncio.sleep(LOOK_S)
        async with there.api.get("/metrics") as answer:
            text = await answer.text()
        apps = (await there.get("/api/v1/apps"))["apps"]
        workflows = (await there.get("/api/v1/workflows"))["workflows"]
        stats = await there.get("/api/v1/stats")

        labels = f'{{app="{there.app.name}",status="failed",workflow="broken"}}'
        assert f"stepfold_runs{labels} 1.0" in text
        assert there.app.name in {app["name"] for app in apps}
        assert {"app": there.app.name, "workflow": "broken", "runs": {"failed": 1}} in workflows
        assert stats["runs"]["failed"] >= 1

    play(scenario)


def test_client_and_api_place_an_event_alike(play: Play) -> None:
    async def scenario(there: World) -> None:
        body = {"name": "test/none", "id": "evt-9"}
        placed = await there.post(f"/api/v1/apps/{there.app.name}/events", body)

        assert placed["position"].split("/")[1] == str(partition_for("evt-9", 2))
        async with Client(there.servers) as client:
            assert there.app.name in {app for app, _ in await client.histories()}

    play(scenario)
