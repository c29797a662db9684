"""All that the promises of one run are judged by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import pydantic_core

from stepfold.core.commands import Trigger
from stepfold.journal.codec import decode_command
from stepfold.journal.port import AppTopics, LogRecord
from tests.simulation.cluster import SimCluster
from tests.simulation.fleet import Fleet
from tests.simulation.stage import Execution, Sent, Sort, Stage
from tests.simulation.story import RunStory, ShardStory

Place: TypeAlias = tuple[str, int, int]
"""Topic, partition and offset of a record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    stage: Stage
    cluster: SimCluster
    topics: AppTopics
    stories: list[ShardStory]
    fleet: Fleet

    def runs(self) -> list[RunStory]:
        return [run for story in self.stories for run in story.runs.values()]

    def records(self, topic: str, partition: int) -> list[LogRecord]:
        log = self.cluster.log(topic, partition)
        assert log is not None
        return log.records

    def executions(self) -> dict[tuple[str, str, int], list[Execution]]:
        found: dict[tuple[str, str, int], list[Execution]] = {}
        for execution in self.stage.executions:
            key = (execution.run_id, execution.step, execution.attempt)
            found.setdefault(key, []).append(execution)
        return found

    def sent_by_clients(self) -> dict[Place, Sent]:
        return {
            (sent.topic, sent.partition, offset): sent
            for sent in self.stage.sent
            for offset in sent.offsets
        }

    def sent_by_runs(self) -> dict[Place, Trigger]:
        """The records of the inboxes that no client wrote: the engine did, for `send_event`."""
        clients = self.sent_by_clients()
        found: dict[Place, Trigger] = {}
        for partition in range(self.topics.inbox.partitions):
            for record in self.records(self.topics.inbox.name, partition):
                place = (record.topic, record.partition, record.offset)
                if place not in clients:
                    trigger = decode_command(record.value or b"")
                    assert isinstance(trigger, Trigger)
                    found[place] = trigger
        return found

    def triggers(self) -> dict[Place, Sent]:
        """Every record of an inbox, and what it should become."""
        found = self.sent_by_clients()
        for place, trigger in self.sent_by_runs().items():
            found[place] = Sent(
                sort=Sort.EVENT,
                topic=place[0],
                partition=place[1],
                value=b"",
                workflows=("script",),
                plan=pydantic_core.from_json(trigger.payload),
                key=f"\n{trigger.id}",
            )
        return found
