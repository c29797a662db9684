"""Reads a history from Kafka and checks the promises from it alone.

Shares with the engine the codec and rule R5, nothing else: what a run may and must
show in the log is said here a second time, in other words.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from stepfold.core import events as e
from stepfold.core.shard import Chain
from stepfold.journal.codec import decode_event

POLL_S = 0.2
READ_TIMEOUT_S = 45.0
REQUEST_TIMEOUT_S = 3.0
"""Short: a request to a broker that is gone waits for all of it."""
ENDINGS = (e.RunCompleted, e.RunFailed, e.RunCancelled)


@dataclass
class RunStory:
    """What the log says of one run."""

    source: tuple[int, int]
    started: Counter[tuple[str, int]] = field(default_factory=Counter[tuple[str, int]])
    completed: Counter[str] = field(default_factory=Counter[str])
    lost: int = 0
    failed: int = 0
    isolated: int = 0
    parked: list[e.RunParked] = field(default_factory=list[e.RunParked])
    endings: list[str] = field(default_factory=list[str])
    problems: list[str] = field(default_factory=list[str])


@dataclass
class Story:
    runs: dict[str, RunStory] = field(default_factory=dict[str, RunStory])
    triggers: Counter[tuple[int, int]] = field(default_factory=Counter[tuple[int, int]])
    void: int = 0
    claims: int = 0
    pids: set[int] = field(default_factory=set[int])
    """The processes that ever led a shard."""

    @property
    def problems(self) -> list[str]:
        found = [problem for run in self.runs.values() for problem in run.problems]
        found += _repeated("trigger became a run", self.triggers)
        for run_id, run in self.runs.items():
            found += _repeated(f"{run_id}: step completed", run.completed)
            found += _repeated(f"{run_id}: attempt started", run.started)
            found += [f"{run_id} ended more than once"] * (len(run.endings) > 1)
        return found

    @property
    def ended(self) -> int:
        return sum(bool(run.endings) for run in self.runs.values())


def _repeated(what: str, counts: Mapping[Any, int]) -> list[str]:
    return [f"{what} {times} times: {key}" for key, times in counts.items() if times != 1]


def read_story(servers: str, app: str, partitions: int) -> Story:
    """Fold the whole history as it is now."""
    story = Story()
    for partition in range(partitions):
        chain = Chain()
        for offset, value in _records(servers, f"{app}.history", partition):
            record = decode_event(value, offset)
            if not chain.admit(record):
                story.void += 1
            elif isinstance(record.event, e.Claimed):
                story.claims += 1
                story.pids.add(record.event.pid)
            else:
                _tell(story, partition, record.event)
    return story


def _tell(story: Story, partition: int, event: e.Event) -> None:
    if isinstance(event, e.RunAccepted):
        for start in event.runs:
            place = (partition, event.source.offset)
            story.triggers[place] += 1
            story.runs[start.run_id] = RunStory(place)
        return
    run = story.runs.get(getattr(event, "run_id", ""))
    if run is None:
        return
    if run.endings:
        run.problems.append(f"{type(event).__name__} after the end: {event!r}")
    if isinstance(event, ENDINGS):
        run.endings.append(type(event).__name__)
    _tell_step(run, event)


def _tell_step(run: RunStory, event: e.Event) -> None:
    if isinstance(event, e.AttemptStarted):
        if run.completed.get(event.step):
            run.problems.append(f"{event.step} started again after it completed")
        run.started[event.step, event.attempt] += 1
        run.isolated += event.isolated
    elif isinstance(event, e.StepCompleted):
        if not run.started.get((event.step, event.attempt)):
            run.problems.append(f"{event.step} completed an attempt that never started")
        run.completed[event.step] += 1
    elif isinstance(event, e.AttemptLost):
        run.lost += 1
    elif isinstance(event, e.AttemptFailed | e.AttemptTimedOut):
        run.failed += 1
    elif isinstance(event, e.RunParked):
        run.parked.append(event)


def _records(servers: str, topic: str, partition: int) -> list[tuple[int, bytes]]:
    place = TopicPartition(topic, partition, 0)
    deadline = time.monotonic() + READ_TIMEOUT_S
    end = _end(servers, place, deadline)
    consumer = _consumer(servers)
    try:
        consumer.assign([place])
        found: list[tuple[int, bytes]] = []
        while (found[-1][0] + 1 if found else 0) < end:
            assert time.monotonic() < deadline, f"{topic}/{partition} could not be read to {end}"
            for message in consumer.consume(5_000, POLL_S):
                if message.error() is not None:  # its leader moves: the client asks again
                    continue
                offset, value = message.offset(), message.value()
                assert offset is not None
                assert value is not None
                found.append((offset, value))
        return found
    finally:
        consumer.close()


def _end(servers: str, place: TopicPartition, deadline: float) -> int:
    """Where the partition ends.

    While its leader moves to another broker it is asked for again, by a client of its
    own: one that has no assignment does not learn of the new leader.
    """
    while True:
        consumer = _consumer(servers)
        try:
            return int(consumer.get_watermark_offsets(place, timeout=REQUEST_TIMEOUT_S)[1])
        except KafkaException:
            assert time.monotonic() < deadline, f"{place} did not say where it ends"
        finally:
            consumer.close()


def _consumer(servers: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "log-checks",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "log_level": 0,
        }
    )
