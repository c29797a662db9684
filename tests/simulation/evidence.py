"""All that the promises of one run are judged by."""

from __future__ import annotations

from dataclasses import dataclass

from stepfold.journal.port import AppTopics, LogRecord
from tests.simulation.cluster import SimCluster
from tests.simulation.fleet import Fleet
from tests.simulation.stage import Execution, Stage
from tests.simulation.story import RunStory, ShardStory


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
