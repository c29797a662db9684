"""What the projection service does when a history, an app or a run is not as it should be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from confluent_kafka import Producer

from stepfold import App, step
from stepfold.engine.clock import BrokerClock, Handle
from stepfold.engine.worker import Worker
from stepfold.journal.kafka import KafkaJournal
from stepfold_projections import resumption, stalled
from stepfold_projections.service import open_store, rebuild
from tests.integration.test_projection_service import LOOK_S, TIMEOUT_S, serving

FLUSH_S = 10.0
STALLED_AFTER_MS = 300
RESUMPTION_LOOK_S = 0.1


class DeafClock(BrokerClock):
    """Forgets whatever it is asked to wake for, as an owner with a bug would."""

    def call_at(self, due_ms: int, callback: Callable[[], None]) -> Handle:
        return self._loop.call_later(TIMEOUT_S, callback)


def spoil(servers: str, app: str) -> None:
    """Write a record into the history that is no event."""
    producer = Producer({"bootstrap.servers": servers})
    producer.produce(f"{app}.history", b"\xc3\x01garbage!", partition=0)
    assert producer.flush(FLUSH_S) == 0


async def answer(api: aiohttp.ClientSession, path: str) -> tuple[int, Any]:
    async with api.get(path) as response:
        return response.status, json.loads(await response.text())


async def settled(api: aiohttp.ClientSession) -> None:
    """Until everything there is was projected once."""
    await shown(api, "/startupz", '{"ok":true,"checks"')


async def shown(api: aiohttp.ClientSession, path: str, words: str) -> tuple[int, Any]:
    """The first answer that holds these words."""
    while True:
        async with api.get(path) as response:
            text = await response.text()
            if words in text:
                return response.status, json.loads(text)
        await asyncio.sleep(LOOK_S)


def run(scenario: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(TIMEOUT_S):
            await scenario

    asyncio.run(main())


def test_unreadable_history_is_named_and_takes_nothing_from_other_apps(
    kafka_bootstrap: str, new_app: Callable[[int], str], tmp_path: Path
) -> None:
    sound, broken = new_app(1), new_app(1)
    spoil(kafka_bootstrap, broken)

    async def scenario() -> None:
        store = f"sqlite:///{tmp_path / 'both.db'}"
        async with (
            serving(kafka_bootstrap, store, sound, broken) as address,
            aiohttp.ClientSession(address) as api,
        ):
            await settled(api)
            status, health = await answer(api, "/readyz")
            apps = (await answer(api, "/api/v1/apps"))[1]["apps"]
            waited = await answer(api, f"/api/v1/runs?after={broken}.history/0/5&timeout=30")

            assert status == 200
            histories = next(c for c in health["checks"] if c["name"] == "histories")
            assert histories["detail"].startswith(f"{broken}.history/0: offset 0 cannot be read")
            assert {app["name"]: len(app["faults"]) for app in apps} == {sound: 0, broken: 1}
            assert waited[0] == 503
            assert "offset 0 cannot be read" in waited[1]["detail"]

    run(scenario())


def test_service_that_has_only_unreadable_histories_is_not_ready(
    kafka_bootstrap: str, new_app: Callable[[int], str], tmp_path: Path
) -> None:
    broken = new_app(2)
    spoil(kafka_bootstrap, broken)

    async def scenario() -> None:
        store = f"sqlite:///{tmp_path / 'broken.db'}"
        async with (
            serving(kafka_bootstrap, store, broken) as address,
            aiohttp.ClientSession(address) as api,
        ):
            await settled(api)
            status, health = await answer(api, "/readyz")

            assert (status, health["ok"]) == (503, False)
            assert broken in health["checks"][-1]["detail"]

    run(scenario())


def test_app_that_is_not_served_is_not_waited_for(
    kafka_bootstrap: str, new_app: Callable[[int], str], tmp_path: Path
) -> None:
    served, other = new_app(1), new_app(1)

    async def scenario() -> None:
        store = f"sqlite:///{tmp_path / 'one.db'}"
        async with (
            serving(kafka_bootstrap, store, served, "not-made-yet") as address,
            aiohttp.ClientSession(address) as api,
        ):
            status, problem = await answer(api, f"/api/v1/runs?after={other}.inbox/0/0&timeout=30")
            health = await shown(api, "/readyz", "not there yet")

            assert status == 404
            assert f"app '{other}' is not projected here" in problem["detail"]
            assert health[0] == 503
            assert "not-made-yet" in health[1]["checks"][1]["detail"]

    run(scenario())


def test_rebuild_of_one_app_leaves_the_others_as_they_are(
    kafka_bootstrap: str, new_app: Callable[[int], str], tmp_path: Path
) -> None:
    first, second = new_app(1), new_app(2)
    url = f"sqlite:///{tmp_path / 'both.db'}"

    async def scenario() -> None:
        await rebuild(kafka_bootstrap, store=url, apps=[first, second])
        spoil(kafka_bootstrap, second)
        await rebuild(kafka_bootstrap, store=url, apps=[first])

    run(scenario())

    store = open_store(url)
    assert sorted((s.app, s.fault) for s in store.shards()) == sorted(
        [(first, ""), (second, ""), (second, "")]
    )
    store.close()


def test_run_whose_owner_forgot_it_is_shown_as_stalled_and_goes_on_by_a_nudge(
    kafka_bootstrap: str,
    new_app: Callable[[int], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = App(new_app(1))
    monkeypatch.setattr(resumption, "LOOK_S", RESUMPTION_LOOK_S)
    monkeypatch.setattr(resumption, "STALLED_AFTER_MS", STALLED_AFTER_MS)
    monkeypatch.setattr(stalled, "STALLED_AFTER_MS", STALLED_AFTER_MS)

    @app.workflow
    async def sleeper() -> str:  # pyright: ignore[reportUnusedFunction]
        await step.sleep("nap", "200ms")
        return "awake"

    async def scenario() -> None:
        journal = KafkaJournal(
            bootstrap_servers=kafka_bootstrap, config={}, instance_id=app.name, unsafe_dev=True
        )
        clock = DeafClock(asyncio.get_running_loop())
        worker = Worker(journal, [app], worker_id="deaf", clock=clock)
        stopping = asyncio.Event()
        working = asyncio.create_task(worker.run(ready=lambda: None, stopping=stopping))
        async with (
            serving(kafka_bootstrap, f"sqlite:///{tmp_path / 'traces.db'}", app.name) as address,
            aiohttp.ClientSession(address) as api,
        ):
            path = f"/api/v1/apps/{app.name}/workflows/sleeper/runs"
            async with api.post(path, json={}) as response:
                sent = json.loads(await response.text())
            seen: list[str] = []
            at = f"/api/v1/runs/{sent['id']}"
            found = (await answer(api, f"{at}?after={sent['position']}"))[1]
            while found["status"] != "completed":
                seen += [found["stalled"]] if found["stalled"] else []
                await asyncio.sleep(LOOK_S)
                found = (await answer(api, at))[1]
            stats = (await answer(api, "/api/v1/stats"))[1]

            assert found["output"] == "awake"
            assert stats["nudges"] >= 1
            assert found["duration_ms"] >= STALLED_AFTER_MS
        stopping.set()
        await working

    run(scenario())
