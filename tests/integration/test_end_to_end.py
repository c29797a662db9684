"""From a client's call to its result, through real Kafka and a worker in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from confluent_kafka import Producer

from stepfold import (
    App,
    Client,
    Event,
    Fatal,
    Retry,
    RetryAfter,
    RunCancelled,
    RunFailed,
    StepFailed,
    current_run,
    event,
    step,
)
from stepfold.engine.worker import Worker
from stepfold.journal.kafka import KafkaJournal

TIMEOUT_S = 20.0
QUICK = Retry(attempts=3, min_delay="10ms", jitter=0)


@dataclass
class World:
    app: App
    client: Client
    worker: Worker


@asynccontextmanager
async def world(servers: str, app: App) -> AsyncGenerator[World]:
    """A worker of this app on real Kafka, and a client."""
    journal = KafkaJournal(
        bootstrap_servers=servers, config={}, instance_id=app.name, unsafe_dev=True
    )
    worker = Worker(journal, [app], worker_id="test")
    stopping = asyncio.Event()
    working = asyncio.create_task(worker.run(ready=lambda: None, stopping=stopping))
    try:
        async with Client(servers) as client:
            yield World(app, client, worker)
    finally:
        stopping.set()
        await working


Scenario = Callable[[World], Awaitable[None]]


@pytest.fixture
def play(kafka_bootstrap: str, new_app: Callable[[int], str]) -> Callable[..., None]:
    """Runs a scenario against a worker that has the workflows that `declare` declares."""

    def run(declare: Callable[[App], None], scenario: Scenario) -> None:
        app = App(new_app(2), retry=QUICK)
        declare(app)

        async def main() -> None:
            async with world(kafka_bootstrap, app) as there, asyncio.timeout(TIMEOUT_S * 2):
                await scenario(there)

        asyncio.run(main())

    return run


def test_run_goes_from_start_to_typed_result(play: Callable[..., None]) -> None:
    def declare(app: App) -> None:
        @step
        async def double(number: int) -> int:
            return number * 2

        @step
        def plain(number: int) -> int:
            return number + 1

        @app.workflow
        async def sums(numbers: list[int]) -> int:  # pyright: ignore[reportUnusedFunction]
            doubled = await asyncio.gather(*(double(number) for number in numbers))
            return await plain(sum(doubled))

    async def scenario(there: World) -> None:
        handle = await there.client.start(there.app.workflows["sums"], [1, 2, 3])

        assert await handle.result(TIMEOUT_S) == 13

    play(declare, scenario)


def test_event_starts_each_matching_workflow_once(play: Callable[..., None]) -> None:
    def declare(app: App) -> None:
        @app.workflow(on=event("order/paid", if_="event.data.amount > 10"))
        async def large(data: dict[str, int]) -> str:  # pyright: ignore[reportUnusedFunction]
            return "large"

        @app.workflow(on=event("order/paid"))
        async def every(data: dict[str, int]) -> str:  # pyright: ignore[reportUnusedFunction]
            return "every"

    async def scenario(there: World) -> None:
        async def results(amount: int, id: str | None = None) -> list[str]:  # noqa: A002
            paid: Event[dict[str, int]] = Event("order/paid", data={"amount": amount}, id=id)
            receipt = await there.client.send(there.app.name, paid)
            runs = await receipt.runs(TIMEOUT_S)
            return [await run.result(TIMEOUT_S) for run in runs]

        assert await results(50, "evt-1") == ["large", "every"]
        assert await results(5) == ["every"]
        assert await results(50, "evt-1") == ["large", "every"], "an id that came before"
        other = await there.client.send(there.app.name, Event("order/lost"))
        assert await other.runs(TIMEOUT_S) == []

    play(declare, scenario)


def test_failing_steps_are_retried_and_can_be_compensated(play: Callable[..., None]) -> None:
    def declare(app: App) -> None:
        @step
        async def flaky() -> int:
            attempt = current_run().attempt
            if attempt < 3:
                raise ConnectionError("not yet") if attempt == 1 else RetryAfter("20ms")
            return attempt

        @step(timeout="50ms", retry=Retry(attempts=1))
        async def slow() -> None:
            await asyncio.sleep(5)

        @step
        async def hopeless() -> None:
            raise Fatal("no such account")

        @app.workflow
        async def careful() -> list[str]:  # pyright: ignore[reportUnusedFunction]
            return [str(await flaky()), await said_by(slow), await said_by(hopeless)]

        async def said_by(call: Callable[[], Awaitable[None]]) -> str:
            with pytest.raises(StepFailed) as failure:
                await call()
            return f"{failure.value.error_type} after {failure.value.attempts}"

    async def scenario(there: World) -> None:
        handle = await there.client.start(there.app.workflows["careful"])

        assert await handle.result(TIMEOUT_S) == ["3", "StepTimeout after 1", "Fatal after 1"]

    play(declare, scenario)


def test_signals_reach_their_wait_before_or_after_it_opens(play: Callable[..., None]) -> None:
    def declare(app: App) -> None:
        @app.workflow
        async def asks() -> list[bool | None]:  # pyright: ignore[reportUnusedFunction]
            first = await step.wait_for_signal("first", bool)
            await step.sleep("nap", "50ms")
            second = await step.wait_for_signal("second", bool)
            return [first, second, await step.wait_for_signal("never", bool, timeout="50ms")]

    async def scenario(there: World) -> None:
        handle = await there.client.start(there.app.name, "asks")
        await there.client.signal(handle.id, "second", False)
        await there.client.signal(handle.id, "first", True)

        assert await handle.result(TIMEOUT_S) == [True, False, None]

    play(declare, scenario)


def test_cancelled_run_may_clean_up_first(play: Callable[..., None]) -> None:
    cleaned: list[str] = []

    def declare(app: App) -> None:
        @step
        async def clean() -> None:
            cleaned.append(current_run().id)

        @app.workflow
        async def patient() -> None:  # pyright: ignore[reportUnusedFunction]
            try:
                await step.wait_for_signal("never", bool)
            finally:
                await clean()

    async def scenario(there: World) -> None:
        handle = await there.client.start(there.app.name, "patient")
        await there.client.cancel(handle.id, reason="wrong model")

        with pytest.raises(RunCancelled, match="wrong model"):
            await handle.result(TIMEOUT_S)
        assert cleaned in ([], [handle.id]), (
            "a cancel before the first line leaves nothing to clean"
        )

    play(declare, scenario)


def test_bad_input_fails_the_run_with_the_report(play: Callable[..., None]) -> None:
    def declare(app: App) -> None:
        @app.workflow
        async def typed(number: int) -> int:  # pyright: ignore[reportUnusedFunction]
            return number

        @app.workflow
        async def exits() -> None:  # pyright: ignore[reportUnusedFunction]
            raise SystemExit(3)

        @app.workflow
        async def lies() -> int:  # pyright: ignore[reportUnusedFunction]
            return "text"  # type: ignore[return-value] # pyright: ignore[reportReturnType]

    async def scenario(there: World) -> None:
        async def error_of(workflow: str, data: object = None) -> RunFailed:
            handle = await there.client.start(there.app.name, workflow, data)
            with pytest.raises(RunFailed) as caught:
                await handle.result(TIMEOUT_S)
            return caught.value

        assert "valid integer" in (await error_of("typed", "seven")).error_message
        assert (await error_of("exits")).error_type == "SystemExit"
        assert (await error_of("lies")).error_type == "PayloadError"

    play(declare, scenario)


def test_unreadable_record_goes_to_the_dlq_and_the_next_is_taken(
    play: Callable[..., None], kafka_bootstrap: str
) -> None:
    def declare(app: App) -> None:
        @app.workflow(on=event("fine"))
        async def fine() -> str:  # pyright: ignore[reportUnusedFunction]
            return "taken"

    async def scenario(there: World) -> None:
        producer = Producer({"bootstrap.servers": kafka_bootstrap})
        for partition in (0, 1):
            for value in (b"\xff\xfenonsense", b'{"no": "name"}', None):
                producer.produce(f"{there.app.name}.inbox", value, partition=partition)
        producer.flush(TIMEOUT_S)
        receipt = await there.client.send(there.app.name, Event("fine"))
        (run,) = await receipt.runs(TIMEOUT_S)

        assert await run.result(TIMEOUT_S) == "taken"

    play(declare, scenario)


def test_idempotency_key_leads_to_the_first_run(play: Callable[..., None]) -> None:
    def declare(app: App) -> None:
        @app.workflow
        async def stamped() -> str:  # pyright: ignore[reportUnusedFunction]
            return current_run().id

    async def scenario(there: World) -> None:
        workflow = there.app.workflows["stamped"]
        first = await there.client.start(workflow, idempotency_key="q-17")
        second = await there.client.start(workflow, idempotency_key="q-17")

        assert await second.result(TIMEOUT_S) == first.id
        assert await there.client.handle(first.id).result(TIMEOUT_S) == first.id

    play(declare, scenario)


def test_start_of_a_workflow_that_is_not_deployed_waits_and_can_be_cancelled(
    play: Callable[..., None],
) -> None:
    async def scenario(there: World) -> None:
        handle = await there.client.start(there.app.name, "later")
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            await handle.result(0.5)
        assert time.monotonic() - begun < TIMEOUT_S
        await there.client.cancel(handle.id)

        with pytest.raises(RunCancelled):
            await handle.result(TIMEOUT_S)

    def declare(app: App) -> None:
        """No workflow is deployed."""

    play(declare, scenario)
