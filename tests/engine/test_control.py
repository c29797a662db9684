"""What is put on control: commands that are unreadable, for nobody, or of the wrong kind."""

from __future__ import annotations

import json

import pytest
from pydantic import BaseModel, field_validator

from stepfold import App, step
from stepfold.core import commands as c
from stepfold.core import events as e
from stepfold.core.ids import child_run_id_of, run_id_of, short_topic_id
from stepfold.core.intake import SIGNALS_WAITING_MAX
from stepfold.engine.executor import PAYLOAD_BYTES_MAX
from stepfold.journal.codec import encode_command
from tests.engine.stage import Stage, nothing, play
from tests.engine.test_inbox import LETTER, from_the_future, trigger

TEXT_MAX = 3_000


class Picky(BaseModel):
    """Pydantic takes ValueError for a refusal; anything else flies out of it."""

    number: int

    @field_validator("number")
    @classmethod
    def check(cls, number: int) -> int:
        if number < 0:
            raise SystemExit(f"no such number: {number}")
        return number


def waiting(app: App) -> None:
    """Workflows that wait for a signal of a certain type."""

    @app.workflow
    async def counts() -> int:  # pyright: ignore[reportUnusedFunction]
        return sum(await step.wait_for_signal("numbers", list[int]) or ())

    @app.workflow
    async def picks() -> int:  # pyright: ignore[reportUnusedFunction]
        picked = await step.wait_for_signal("pick", Picky)
        return picked.number if picked else 0


def signal(
    run_id: str, payload: bytes = b"1", encoding: str = "json", key_id: str = "", name: str = "go"
) -> bytes:
    return encode_command(
        c.Signal(
            run_id=run_id,
            signal_id="odd",
            name=name,
            payload=payload,
            payload_encoding=encoding,
            key_id=key_id,
        )
    )


UNREADABLE: dict[str, tuple[bytes | None, str]] = {
    "no value": (None, "too short"),
    "JSON": (b'{"kind": "Cancel", "run_id": "x"}', "not an Avro single object"),
    "an unknown schema": (from_the_future(), "unknown schema fingerprint"),
    "registry framing": (b"\x00\x00\x00\x00\x07" + signal("x")[10:], "not an Avro single object"),
    "a truncated Signal": (signal("x")[:-1], "truncated Signal"),
    "a Signal and a half": (signal("x") + b"\x00", "1 bytes follow its end"),
    "a Trigger": (trigger(), "belongs on the inbox"),
    "a megabyte": (signal("x", b'"' + b"x" * 1_100_000 + b'"'), "the limit is"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_command_is_in_the_dlq_with_its_reason(name: str) -> None:
    value, reason = UNREADABLE[name]

    async def scene(there: Stage) -> None:
        there.put_control(value)
        rejected = await there.first(e.IntakeRejected)

        assert reason in rejected.reason
        assert rejected.source.topic_id == there.topics.control.topic_id
        assert [copy.value or None for copy in there.dlq] == [value]

    play(nothing, scene)


def test_command_for_no_run_is_rejected_with_the_reason() -> None:
    async def scene(there: Stage) -> None:
        over = there.start("beside", 1)
        there.signal(over, "go", 1)
        await there.end_of(over)
        topic = short_topic_id(there.topics.inbox.topic_id)
        reasons = {
            "x": "not a run id: 'x'",
            LETTER * 150_000: "not a run id",
            run_id_of(7, topic, 0): "at home in partition 7, not 0",
            run_id_of(0, "00000", 0): "another inbox topic",
            over: "the run is over",
        }
        kinds = (c.Cancel, c.Pause, c.Resume)
        for run_id in reasons:
            for kind in kinds:
                there.command(kind(run_id=run_id, by="test", reason=""))
            there.command(c.Nudge(run_id=run_id, epoch_offset=0, epoch_nonce=0, seq=0))
            there.put_control(signal(run_id))
        await there.until(lambda: len(there.of(e.IntakeRejected)) == 4 * len(reasons))

        told = [rejected.reason for rejected in there.of(e.IntakeRejected)]
        assert all(len(reason) < TEXT_MAX for reason in told)
        for number, reason in enumerate(reasons.values()):
            assert all(reason in text for text in told[4 * number : 4 * number + 4])
        assert there.dlq == []

    play(nothing, scene)


def test_command_that_is_repeated_or_asks_for_what_is_so_changes_nothing() -> None:
    async def scene(there: Stage) -> None:
        run_id = there.start("beside", 1)
        await there.first(e.WaitOpened, run_id)
        for kind in (c.Resume, c.Pause, c.Pause, c.Resume, c.Resume, c.Cancel, c.Cancel):
            there.command(kind(run_id=run_id, by="test", reason="r" * 400_000))
        end = await there.end_of(run_id)

        assert isinstance(end, e.RunCancelled)
        assert len(end.reason) < TEXT_MAX
        told = [
            "RunPaused",
            "RunResumed",
            "CancelRequested",
            "WaitExpired",
            "RunCancelled",
            "IntakeRejected",
        ]
        await there.until(lambda: there.kinds(run_id)[-1] == "IntakeRejected")
        assert there.kinds(run_id)[-6:] == told

    play(nothing, scene)


BAD_SIGNALS: dict[str, tuple[bytes, str, str, str]] = {
    "of another type": (b'"seven"', "json", "", "should be a valid array"),
    "wrong in 100,000 places": (json.dumps(["x"] * 100_000).encode(), "json", "", "valid integer"),
    "no JSON": (b"\xff\x00", "json", "", "the payload is not JSON"),
    "of another encoding": (b"[1]", "zstd", "", "encoding 'zstd'"),
    "sealed": (b"[1]", "json", "key-1", "sealed"),
}


@pytest.mark.parametrize("is_early", [False, True], ids=["in time", "early"])
@pytest.mark.parametrize("name", BAD_SIGNALS)
def test_signal_that_its_wait_does_not_take_is_refused_and_the_next_one_taken(
    name: str, is_early: bool
) -> None:
    payload, encoding, key_id, reason = BAD_SIGNALS[name]

    async def scene(there: Stage) -> None:
        if is_early:
            topic = short_topic_id(there.topics.inbox.topic_id)
            run_id = run_id_of(0, topic, there.cluster.log(there.topics.inbox.name, 0).end)
            there.put_control(signal(run_id, payload, encoding, key_id, "numbers"))
            await there.until(lambda: there.of(e.SignalBuffered) or there.of(e.IntakeRejected))
            assert there.start("counts") == run_id
        else:
            run_id = there.start("counts")
            await there.first(e.WaitOpened, run_id)
            there.put_control(signal(run_id, payload, encoding, key_id, "numbers"))
        there.signal(run_id, "numbers", [1, 2])

        assert await there.result_of(run_id) == 3
        refused = [*there.of(e.IntakeRejected, run_id), *there.of(e.SignalExpired, run_id)]
        assert len(refused) == 1
        if isinstance(refused[0], e.IntakeRejected):
            assert reason in refused[0].reason
            assert len(refused[0].reason) < TEXT_MAX

    play(waiting, scene)


def test_signal_whose_check_raises_anything_is_refused() -> None:
    async def scene(there: Stage) -> None:
        run_id = there.start("picks")
        await there.first(e.WaitOpened, run_id)
        there.signal(run_id, "pick", {"number": -1})
        there.signal(run_id, "pick", {"number": 5})

        assert await there.result_of(run_id) == 5
        (rejected,) = there.of(e.IntakeRejected)
        assert "no such number: -1" in rejected.reason

    play(waiting, scene)


def test_signals_without_an_id_are_as_many_as_were_sent() -> None:
    def declare(app: App) -> None:
        @app.workflow
        async def two() -> list[int | None]:  # pyright: ignore[reportUnusedFunction]
            await step.sleep("until both are here", "50ms")
            return [await step.wait_for_signal("number", int) for _ in range(2)]

    async def scene(there: Stage) -> None:
        run_id = there.start("two")
        for number in (1, 2):
            there.signal(run_id, "number", number, id="")

        assert await there.result_of(run_id) == [1, 2]

    play(declare, scene)


def test_signals_beyond_what_a_run_keeps_are_rejected() -> None:
    async def scene(there: Stage) -> None:
        run_id = there.start("beside", 1)
        await there.first(e.WaitOpened, run_id)
        for number in range(SIGNALS_WAITING_MAX + 1):
            there.signal(run_id, "nobody-waits", number)
        rejected = await there.first(e.IntakeRejected, run_id)

        assert f"{SIGNALS_WAITING_MAX} signals wait in this run already" in rejected.reason
        assert len(there.of(e.SignalBuffered, run_id)) == SIGNALS_WAITING_MAX
        there.signal(run_id, "go", 1)
        assert await there.result_of(run_id) == 3

    play(nothing, scene)


def test_early_signals_beyond_what_a_run_keeps_are_rejected() -> None:
    async def scene(there: Stage) -> None:
        topic = short_topic_id(there.topics.inbox.topic_id)
        run_id = run_id_of(0, topic, there.cluster.log(there.topics.inbox.name, 0).end)
        for number in range(SIGNALS_WAITING_MAX + 1):
            there.signal(run_id, "go", number)
        rejected = await there.first(e.IntakeRejected, run_id)

        assert f"{SIGNALS_WAITING_MAX} commands wait for this run already" in rejected.reason
        there.start("beside", 1)
        assert await there.result_of(run_id) == 2

    play(nothing, scene)


def test_delivery_of_the_largest_input_is_taken_and_so_is_the_next_one() -> None:
    def declare(app: App) -> None:
        @app.workflow
        async def measures(text: str) -> int:  # pyright: ignore[reportUnusedFunction]
            return len(text)

    def deliver(there: Stage, n: int, letters: int) -> str:
        """As the owner of another shard does for its runs."""
        topic = short_topic_id(there.topics.inbox.topic_id)
        run_id = child_run_id_of(0, topic, "parent", f"step#{n}")
        start = c.StartChild(
            run_id=run_id,
            workflow="measures",
            payload=json.dumps("x" * letters).encode(),
            payload_encoding="json",
            key_id="",
            parent_shard="other/0",
            parent_run_id="",
            parent_step="",
        )
        there.command(c.Deliver(from_shard="other/0", n=n, run_id=run_id, body=start))
        return run_id

    async def scene(there: Stage) -> None:
        largest = deliver(there, 1, PAYLOAD_BYTES_MAX - 2)
        following = deliver(there, 2, 3)

        assert await there.result_of(largest) == PAYLOAD_BYTES_MAX - 2
        assert await there.result_of(following) == 3

    play(declare, scene)


def test_signal_for_a_repeated_start_is_checked_like_one_for_the_first() -> None:
    async def scene(there: Stage) -> None:
        first, repeated = (there.start("counts", key="once") for _ in range(2))
        await there.first(e.WaitOpened, first)
        there.signal(repeated, "numbers", "not a list")
        await there.first(e.IntakeRejected)
        there.signal(repeated, "numbers", [40, 2])

        assert await there.result_of(first) == 42

    play(waiting, scene)
