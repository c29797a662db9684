"""The engine's own leader, taken up on a folded shard where another one left off.

All that a leader knows follows from the shard: a run's code is brought to where it stood by
replay. So a leader is made for one move, goes on with each run, which must append nothing, and
then does what the move is about. Only the executor is told what to answer: which attempts this
process runs, and that it starts one, is for the search to say and to see.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from typing import NamedTuple

from stepfold import App
from stepfold.core import events as e
from stepfold.core.errors import StepfoldError
from stepfold.core.ids import Epoch
from stepfold.core.shard import Shard
from stepfold.engine.directory import Directory
from stepfold.engine.executor import AttemptKey, Ended, EndSink, Executor
from stepfold.engine.leader import Leader
from stepfold.engine.places import Kind
from stepfold.engine.surroundings import Surroundings
from stepfold.journal.port import AppTopics, ShardId, TopicFacts
from stepfold.sdk.calls import StepCall
from tests.model.pen import GUARD, HISTORY, NOW_MS, Client, StandingClock, writer_on
from tests.model.samples import CONTROL, INBOX

SHARD = ShardId("a", 0)
TOPICS = AppTopics(
    inbox=TopicFacts("a.inbox", INBOX, 1),
    control=TopicFacts("a.control", CONTROL, 1),
    history=TopicFacts(HISTORY, "history-topic-id", 1),
    dlq=TopicFacts("a.inbox.dlq", "dlq-topic-id", 1),
    unsafe=False,
)


class Gate(Executor):
    """Runs nothing: it notes what it is asked to start, and what runs already is laid down."""

    def __init__(self, running: frozenset[AttemptKey]) -> None:
        loop = asyncio.new_event_loop()
        loop.close()  # nothing is ever started on it
        super().__init__(loop)
        self.started: list[AttemptKey] = []
        self.sink: EndSink | None = None
        self._laid_down = running

    def has(self, key: AttemptKey, shard: ShardId) -> bool:
        return key in self._laid_down

    def start(
        self, shard: ShardId, key: AttemptKey, call: StepCall, context: contextvars.Context
    ) -> None:
        self.started.append(key)

    def attach(self, shard: ShardId, sink: EndSink) -> None:
        self.sink = sink


class OpenLeader(Leader):
    """Lets a start be proven whose callback belonged to the leader that appended it."""

    def prove(self, started: e.AttemptStarted) -> None:
        live = self._live.get(started.run_id)
        call = None if live is None else live.steps.get(started.step)
        if live is not None and call is not None:
            key = AttemptKey(started.run_id, started.step, started.attempt)
            # Whether it is a suspect is the business of places, which are not short here.
            self._attempts._execute(live, call, key, Kind.ORDINARY)  # pyright: ignore[reportPrivateUsage] - see the class

    def attach(self) -> None:
        self._attempts.attach()


class Led(NamedTuple):
    """What one move of a leader left: records for the log, attempts that began, the shard."""

    records: list[e.Recorded]
    started: list[AttemptKey]
    shard: Shard


class Leading:
    """running: the attempts of this process. shard: is changed, hand over a copy."""

    def __init__(
        self,
        app: App,
        shard: Shard,
        epoch: Epoch,
        *,
        running: frozenset[AttemptKey] = frozenset(),
        now_ms: int = NOW_MS,
        leader: type[OpenLeader] = OpenLeader,
    ) -> None:
        self._shard = shard
        self.client = Client()
        self._gate = Gate(running)
        self.leader = leader(
            shard_id=SHARD,
            topics=TOPICS,
            app=app,
            shard=shard,
            writer=writer_on(shard, epoch, self.client),
            around=Surroundings(
                clock=StandingClock(now_ms),
                executor=self._gate,
                directory=Directory(_nobody),
                worker_id="w",
                dice=random.Random(0),
            ),
            appender=self.client,
            note_checkpoint=lambda mark: None,
            guard=GUARD,
        )

    def start(self) -> Led:
        """Its claim counts, and it has folded up to it."""
        self.leader.start(in_order=False)
        return self._led()

    def take_up(self) -> None:
        """Be where the leader of this shard was."""
        for run in list(self._shard.runs.values()):
            self.leader.go_on(run)
        assert not self.client.handed, "what a leader does again, it did not do before"

    def end(self, ended: Ended) -> Led:
        self.take_up()
        self.leader.attach()
        assert self._gate.sink is not None
        self._gate.sink(ended)
        return self._led()

    def prove(self, started: e.AttemptStarted) -> Led:
        self.take_up()
        self.leader.prove(started)
        return self._led()

    def wake(self, run_id: str) -> Led:
        self.leader.look_again(run_id)
        return self._led()

    def _led(self) -> Led:
        led = Led(self.client.events(), self._gate.started, self._shard)
        self.leader.stop()
        return led


async def _nobody(app: str) -> AppTopics:
    raise StepfoldError(f"there is no app {app!r} here")
