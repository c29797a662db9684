"""One seed: a world is drawn from it, runs through its faults, heals, and is judged."""

from __future__ import annotations

import gc
import logging
import random
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from stepfold.core.shard import Shard
from stepfold.engine.shard_states import ShardState
from stepfold.journal.port import LogRecord
from tests.simulation.chaos import Chaos
from tests.simulation.clients import Clients
from tests.simulation.cluster import SimCluster
from tests.simulation.evidence import Evidence
from tests.simulation.fleet import Fleet
from tests.simulation.folding import difference_of, folded_from
from tests.simulation.promises import broken
from tests.simulation.promises_outbox import events_of_runs_come_from_counting_ones
from tests.simulation.stage import Stage
from tests.simulation.story import ShardStory
from tests.simulation.universe import NEVER_US, StuckError, Universe
from tests.simulation.weather import Storm
from tests.simulation.workflows import APP

WINDOWS_S = (2, 4, 8, 8, 15)
LONG_WINDOW_S = 60
LONG_SHARE = 0.03
"""Of the seeds, how many run through time-outs of half a minute."""
QUIET_SHARE = 0.05
"""Of the seeds, how many have no faults at all: then there is nothing to excuse."""
SETTLING_US_MAX = 120_000_000
"""After the last fault: by then every run has ended and every shard is led."""
LOOK_US = 500_000
ATTEND_US = 2_000_000
COMPARISONS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    seed: int
    problems: list[str]
    counts: Counter[str]
    lines: list[str]
    digest: str
    runs: int
    records: int
    void: int
    virtual_s: float


def simulate(seed: int, *, tracing: bool = False) -> Verdict:
    """Run the seed from beginning to end; the same seed gives the same run."""
    universe = Universe()
    stage = Stage(universe, tracing=tracing)
    with _logging_to(stage), _no_collector():
        simulation = _Simulation(seed, universe, stage)
        try:
            try:
                simulation.run()
            except StuckError as error:
                stage.problem(f"stuck: {error}")
            return simulation.verdict()
        finally:
            simulation.fleet.bury()


class _Simulation:
    def __init__(self, seed: int, universe: Universe, stage: Stage) -> None:
        self.seed = seed
        self.universe = universe
        self.stage = stage
        dice = self._dice("world")
        is_quiet = dice.random() < QUIET_SHARE
        window_s = LONG_WINDOW_S if dice.random() < LONG_SHARE else dice.choice(WINDOWS_S)
        self._window_us = window_s * 1_000_000
        self._partitions = dice.choice((1, 1, 2, 2, 3, 4))
        self._storm = Storm(self._dice("storm"))
        if not is_quiet:
            self._storm.gather()
        self.cluster = SimCluster(universe, stage, self._storm)
        self.topics = self.cluster.create_app(APP.name, self._partitions, self._dice("brokers"))
        self.stories = [ShardStory(partition) for partition in range(self._partitions)]
        self.archive: list[list[LogRecord]] = [[] for _ in self.stories]
        """The histories with what was deleted at their beginning."""
        self.cluster.on_landing(self._tell)
        self.fleet = Fleet(self.cluster, stage, self._dice("fleet"), dice.choice((1, 2, 2, 3)))
        deadly = not is_quiet and dice.random() < 0.7
        self._chaos = Chaos(
            self.cluster,
            self.fleet,
            self._dice("chaos"),
            app=APP.name,
            marks=lambda partition: self.stories[partition].mark(NEVER_US),
            is_quiet=is_quiet,
        )
        self._clients = Clients(self.cluster, self.topics, self._dice("clients"), deadly=deadly)
        self._triggers = dice.randint(2, 8)
        self._comparisons = [dice.random() for _ in range(COMPARISONS)]

    def run(self) -> None:
        universe = self.universe
        self.fleet.start_all()
        self._clients.plan_triggers(self._triggers, self._window_us * 2 // 3)
        for share in self._comparisons:
            universe.after(int(self._window_us * share), self._compare_states)
        self._chaos.begin()
        universe.run_until(self._window_us)
        self.stage.note("world", "heals")
        self._storm.clear()
        self._chaos.heal()
        end_us = universe.now_us + SETTLING_US_MAX
        universe.after(ATTEND_US, self._attend)
        while universe.now_us < end_us and not self._is_settled():
            universe.run_until(universe.now_us + LOOK_US)
        self._compare_states()
        self._look_at_shards()

    def verdict(self) -> Verdict:
        problems = broken(self._evidence())
        for problem in problems:
            self.stage.note("judge", "%s", problem)
        return Verdict(
            seed=self.seed,
            problems=problems,
            counts=self.stage.counts,
            lines=self.stage.lines or [],
            digest=self.stage.digest() if self.stage.lines is not None else "",
            runs=sum(len(story.runs) for story in self.stories),
            records=sum(len(log.records) for log in self.cluster.logs()),
            void=sum(story.void for story in self.stories),
            virtual_s=self.universe.now_s,
        )

    def _evidence(self) -> Evidence:
        return Evidence(
            stage=self.stage,
            cluster=self.cluster,
            topics=self.topics,
            stories=self.stories,
            fleet=self.fleet,
        )

    def _dice(self, purpose: str) -> random.Random:
        """Dice of its own for each purpose: one draw more here changes nothing there."""
        return random.Random(f"{self.seed}/{purpose}")

    def _tell(self, record: LogRecord) -> None:
        if record.topic == self.topics.history.name:
            self.archive[record.partition].append(record)
            self.stories[record.partition].take(record, self.universe.now_us)

    def _attend(self) -> None:
        for story in self.stories:
            if story.open_runs:
                for run in list(story.runs.values()):
                    if run.ending is None:
                        self._clients.attend_to(run.run_id, run.order["plan"])
        self.universe.after(ATTEND_US, self._attend)

    def _is_settled(self) -> bool:
        """Whether nothing is left to happen: all is taken in, delivered, ended, and led."""
        return (
            all(self._is_shard_settled(story) for story in self.stories)
            and all(
                self._has_arrived(story.partition, target, number)
                for story in self.stories
                for target, number in story.decided.items()
            )
            and not any(events_of_runs_come_from_counting_ones(self._evidence()))
        )

    def _has_arrived(self, source: int, target: str, number: int) -> bool:
        topic, _, partition = target.rpartition("/")
        if topic != self.topics.control.name:
            return True  # judged by what is there, once all else is settled
        arrived = self.stories[int(partition)].arrived
        return arrived.get(f"{APP.name}/{source}", 0) == number

    def _is_shard_settled(self, story: ShardStory) -> bool:
        for source in (self.topics.inbox, self.topics.control):
            log = self.cluster.log(source.name, story.partition)
            assert log is not None
            if story.taken.get(source.topic_id, -1) + 1 < log.end:
                return False
        return story.open_runs == 0 and len(self._leaders(story.partition)) == 1

    def _leaders(self, partition: int) -> list[str]:
        return [
            process.name
            for process in self.fleet.alive
            for shard, state in process.states().items()
            if shard.partition == partition and state is ShardState.LEADING
        ]

    def _look_at_shards(self) -> None:
        for partition in range(self._partitions):
            leaders = self._leaders(partition)
            if len(leaders) != 1:
                self.stage.problem(f"shard {partition} is led by {leaders or 'nobody'} in the end")
        for process in self.fleet.alive:
            for fault in process.shard_faults():
                self.stage.problem(f"{process.name}: {fault}")

    def _compare_states(self) -> None:
        """Invariants I2 and I8: a leader's state is what its history folds to, from any mark."""
        for process in self.fleet.alive:
            for partition, (state, end) in process.led().items():
                records = self.archive[partition][: end + 1]
                folded = folded_from(records, 0)
                self._differ(f"{process.name} leads shard {partition} as of {end}", state, folded)
                mark = self.stories[partition].mark(end)
                if mark > 0:
                    late = folded_from(records, mark)
                    what = f"shard {partition} folded from its mark {mark} to {end}"
                    self._differ(what, late, folded)
                    if late.is_partial:
                        self.stage.problem(f"{what} is not complete")

    def _differ(self, what: str, state: Shard, folded: Shard) -> None:
        difference = difference_of(state, folded)
        if difference:
            self.stage.problem(f"{what} with another state than its history gives: {difference}")


class _ToStage(logging.Handler):
    def __init__(self, stage: Stage) -> None:
        super().__init__(logging.WARNING)
        self._stage = stage

    def emit(self, record: logging.LogRecord) -> None:
        if self._stage.lines is None:
            return
        values = {
            name: value
            for name, value in record.__dict__.items()
            if name in ("partition", "reason", "run_id", "offset", "why", "blocked_s")
        }
        error = "" if record.exc_info is None else repr(record.exc_info[1])
        self._stage.note("log", "%s %s %s", record.getMessage(), values, error)


@contextmanager
def _logging_to(stage: Stage) -> Generator[None]:
    """What the engine logs goes into the trace and nowhere else."""
    logger = logging.getLogger("stepfold")
    handler = _ToStage(stage)
    before = logger.propagate, logger.level
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate, logger.level = before


@contextmanager
def _no_collector() -> Generator[None]:
    """Dead processes are buried by hand; a collection in between only costs time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
