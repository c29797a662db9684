"""What is put on the inbox, and what becomes of it: a run, or a copy in the dlq with its reason."""

from __future__ import annotations

import json

import pytest
from pydantic import BaseModel

from stepfold import App, event
from stepfold.core import commands as c
from stepfold.core import events as e
from stepfold.core.ids import NO_EPOCH
from stepfold.journal.codec import encode_command, encode_event
from stepfold.journal.port import Headers
from tests.engine.stage import Stage, nothing, play

MEGABYTE = 1_000_000
LETTER = "\ue000"
"""Three bytes on the wire, and six letters in a message that shows it."""


class Order(BaseModel):
    amounts: list[int]


def trigger(
    *,
    workflow: str = "beside",
    name: str = "",
    payload: bytes = b"1",
    payload_encoding: str = "json",
    key_id: str = "",
    idempotency_key: str = "",
) -> bytes:
    return encode_command(
        c.Trigger(
            name=name,
            id="",
            workflow=workflow,
            payload=payload,
            payload_encoding=payload_encoding,
            key_id=key_id,
            idempotency_key=idempotency_key,
            sent_at=0,
        )
    )


def from_the_future() -> bytes:
    """A Trigger of a schema that this version never heard of."""
    return trigger()[:2] + b"\x01\x02\x03\x04\x05\x06\x07\x08" + trigger()[10:]


UNREADABLE: dict[str, tuple[bytes | None, str]] = {
    "no value": (None, "no value"),
    "no text": (b"\xff\xfe nonsense", "not UTF-8"),
    "no JSON": (b'{"name": "x", "data": ', "neither JSON"),
    "no event": (b"[1, 2, 3]", "no event: list"),
    "no name": (b'{"data": 1}', "no name"),
    "nested beyond measure": (b'{"name":"x","data":' + b"[" * 9_999, "recursion limit"),
    "a lone surrogate": (b'{"name": "x", "data": "\\ud800"}', "neither JSON"),
    "no finite number": (b'{"name": "x", "data": NaN}', "neither JSON"),
    "an id that is no text": (json.dumps({"name": "x", "id": [1, 2]}).encode(), "id of an event"),
    "an id of a megabyte": (
        json.dumps({"name": "x", "id": [LETTER * 290_000]}, ensure_ascii=False).encode(),
        "id of an event",
    ),
    "a megabyte": (b'"' + b"x" * MEGABYTE + b'"', "the limit is 900000"),
    "an unknown schema": (from_the_future(), "unknown schema fingerprint 0102030405060708"),
    "registry framing": (b"\x00\x00\x00\x00\x07" + trigger()[10:], "schema registry"),
    "a truncated Trigger": (trigger()[:-3], "truncated Trigger"),
    "a command": (
        encode_command(c.Cancel(run_id="x", by="", reason="")),
        "belongs on the control topic",
    ),
    "an event of a history": (
        encode_event(e.Drained(reason="", open_attempts=0), epoch=NO_EPOCH, seq=0, at=0),
        "an event of a history",
    ),
    "a payload that is no JSON": (trigger(payload=b"\xff\x00"), "payload is not JSON"),
    "a payload with NaN": (trigger(payload=b"[NaN]"), "payload is not JSON"),
    "a payload of another encoding": (trigger(payload_encoding="zstd"), "encoding 'zstd'"),
    "an encoding of a megabyte": (trigger(payload_encoding="z" * 800_000), "encoding 'zzz"),
    "a payload that should be empty": (trigger(payload_encoding="none"), "encoding 'none'"),
    "a sealed payload": (trigger(key_id="key-1"), "sealed"),
    "an endless idempotency key": (
        trigger(idempotency_key="k" * 100_000),
        "the idempotency key has 100000 characters",
    ),
    "an endless name of a workflow": (trigger(workflow="w" * 100_000), "the workflow has 100000"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_record_is_in_the_dlq_with_its_reason(name: str) -> None:
    value, reason = UNREADABLE[name]

    async def scene(there: Stage) -> None:
        record = there.put(value)
        rejected = await there.first(e.IntakeRejected)

        assert rejected.source.offset == record.offset
        assert reason in rejected.reason
        assert len(rejected.reason) < 3_000
        (copy,) = there.dlq
        assert (copy.value or None) == value
        assert reason in dict(copy.headers)["dlq-exception-message"].decode()
        assert rejected.dlq_offset == copy.offset

    play(nothing, scene)


ODD_HEADERS: dict[str, tuple[Headers, str]] = {
    "a batch": ([("content-type", b"application/cloudevents-batch+json")], "batch of CloudEvents"),
    "no JSON inside": ([("ce_type", b"x"), ("content-type", b"image/png")], "image/png"),
    "a type that is no text": ([("ce_type", b"\xff")], "header ce_type is not UTF-8"),
    "an endless content type": ([("ce_type", b"x"), ("content-type", b"t" * 990_000)], "ttt"),
    "no type": ([("ce_specversion", b"1.0")], "no ce_type"),
}


@pytest.mark.parametrize("name", ODD_HEADERS)
def test_cloud_event_with_odd_headers_is_in_the_dlq_with_its_reason(name: str) -> None:
    headers, reason = ODD_HEADERS[name]

    async def scene(there: Stage) -> None:
        there.put(b"{}", headers)
        rejected = await there.first(e.IntakeRejected)

        assert reason in rejected.reason
        assert len(rejected.reason) < 3_000
        assert len(there.dlq) == 1

    play(nothing, scene)


def test_trigger_that_is_too_large_for_one_event_is_in_the_dlq() -> None:
    def declare(app: App) -> None:
        for number in range(80):

            @app.workflow(f"many-{number}", on=event("many"))
            async def many() -> None:  # pyright: ignore[reportUnusedFunction]
                """Each of the runs holds the key, and all of them are in one event."""

    async def scene(there: Stage) -> None:
        payload = b'"' + b"x" * 890_000 + b'"'
        key = LETTER * 512
        there.put(trigger(name="many", workflow="", payload=payload, idempotency_key=key))
        rejected = await there.first(e.IntakeRejected)

        assert "payload_too_large: the RunAccepted event" in rejected.reason
        assert len(there.dlq) == 1

    play(declare, scene)


def test_number_beyond_all_filters_is_no_match_and_no_fault() -> None:
    def declare(app: App) -> None:
        @app.workflow(on=event("paid", if_="event.data.amount > 10"))
        async def paid(data: dict[str, int]) -> int:  # pyright: ignore[reportUnusedFunction]
            return data["amount"]

    async def scene(there: Stage) -> None:
        there.send("paid", {"amount": 10**40})
        there.send("paid", "no object at all")
        run_id = there.send("paid", {"amount": 11})

        assert await there.result_of(run_id) == 11
        unmatched = await there.first(e.IntakeUnmatched)
        assert unmatched.source.offset - unmatched.from_offset == 1

    play(declare, scene)


def test_input_that_fails_validation_fails_the_run_once_with_a_bounded_report() -> None:
    def declare(app: App) -> None:
        @app.workflow
        async def order(data: Order) -> int:  # pyright: ignore[reportUnusedFunction]
            return sum(data.amounts)

    async def scene(there: Stage) -> None:
        one = await there.failure_of(there.start("order", {"amounts": ["seven"]}))
        many = await there.failure_of(there.start("order", {"amounts": ["seven"] * 60_000}))

        assert "amounts.0" in one.error_message
        assert "valid integer" in one.error_message
        assert "amounts.0" in many.error_message
        assert len(many.error_message) < 20_000

    play(declare, scene)


def test_start_of_a_workflow_that_is_not_deployed_waits_for_a_worker_that_has_it() -> None:
    def with_later(app: App) -> App:
        @app.workflow
        async def later(number: int) -> int:  # pyright: ignore[reportUnusedFunction]
            return number + 1

        return app

    async def scene(there: Stage) -> None:
        (old,) = there.members
        run_id = there.start("later", 1)
        waiting = await there.first(e.WaitOpened, run_id)
        assert (waiting.kind, waiting.name) == ("definition", "later")
        there.cluster.fence("stage", old.name)
        there.join("newer", with_later(there.app))

        assert await there.result_of(run_id) == 2
        assert there.kinds(run_id) == ["WaitOpened", "WaitResolved", "RunCompleted"]

    play(nothing, scene)
