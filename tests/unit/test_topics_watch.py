"""What the watch of an app's topics says when they change, and when Kafka does not tell."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from stepfold.core.errors import KafkaError, StepfoldError, UnsafeTopicError
from stepfold.engine.topics_watch import TopicsWatch
from stepfold.journal.port import AppTopics, TopicFacts

INBOX, CONTROL, HISTORY, DLQ = (
    TopicFacts(f"app.{name}", f"id-{name}", 4) for name in ("inbox", "control", "history", "dlq")
)
TOPICS = AppTopics(INBOX, CONTROL, HISTORY, DLQ, unsafe=False)
UNSAFE = UnsafeTopicError("retention.ms of app.history is 1000, it has to be -1")


def watched(answers: Sequence[AppTopics | StepfoldError]) -> tuple[TopicsWatch, int]:
    """The watch after it looked once for each answer, and how often it asked."""
    left = list(answers)

    async def describe(app: str) -> AppTopics:
        answer = left.pop(0)
        if isinstance(answer, StepfoldError):
            raise answer
        return answer

    async def look() -> tuple[TopicsWatch, int]:
        watch = TopicsWatch("app", TOPICS, describe)
        for _ in answers:
            await watch.look(asyncio.get_running_loop().time())
        return watch, len(answers) - len(left)

    return asyncio.run(look())


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (TOPICS, None),
        (TOPICS._replace(inbox=INBOX._replace(topic_id="other")), "app.inbox"),
        (TOPICS._replace(control=CONTROL._replace(topic_id="other")), "app.control"),
        (TOPICS._replace(history=HISTORY._replace(partitions=8)), "now id-history, 8"),
        (TOPICS._replace(dlq=DLQ._replace(topic_id="other")), "app.dlq"),
    ],
)
def test_topic_that_is_another_now_is_told(now: AppTopics, told: str | None) -> None:
    watch, _ = watched([now])

    assert (watch.changed is None) == (told is None)
    assert told is None or told in (watch.changed or "")


def test_no_answer_is_no_change_and_is_asked_for_again() -> None:
    changed = TOPICS._replace(inbox=INBOX._replace(topic_id="other"))

    assert watched([KafkaError("no broker answers")])[0].changed is None
    assert watched([KafkaError("no broker answers"), changed])[0].changed is not None


def test_setting_that_becomes_unsafe_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    watch, asked = watched([UNSAFE, UNSAFE, TOPICS, UNSAFE])

    assert watch.changed is None
    assert asked == 4
    told = [r.__dict__["reason"] for r in caplog.records if r.getMessage().startswith("topics bec")]
    assert told == [str(UNSAFE)] * 2, "once for each time that it became so"


def test_who_looks_together_asks_once() -> None:
    asked = 0

    async def describe(app: str) -> AppTopics:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return TOPICS

    async def look() -> None:
        watch = TopicsWatch("app", TOPICS, describe)
        begun_at = asyncio.get_running_loop().time()
        await asyncio.sleep(0.001)
        await asyncio.gather(*(watch.look(begun_at + 0.0005) for _ in range(20)))

    asyncio.run(look())

    assert asked == 1
