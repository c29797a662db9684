"""One run of a few steps, led by several workers in turn: claims, proofs, attempts and limbo.

All of it is the engine's: the leader with the run's code, the decisions, the writer's proof, the
fold and its chain. Only when things happen is up to the search.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from functools import lru_cache
from typing import NamedTuple, TypeAlias, cast

from stepfold.core import events as e
from stepfold.core.outcomes import StepSucceeded
from stepfold.core.run import Run, StepStatus
from stepfold.core.shard import Chain, Shard, evolve
from stepfold.engine.execution import Failed, Result, Succeeded
from stepfold.engine.executor import AttemptKey, Ended
from stepfold.journal.writer import HistoryWriter
from tests.model.histories import IN_FORCE, Histories
from tests.model.led import Leading, Led
from tests.model.pen import LATER_MS, NOW_MS
from tests.model.samples import RUN, app_of_steps, beginning, run_accepted, step_name
from tests.model.workers import ShardMachine
from tests.model.worlds import (
    COUNTED,
    LEADING,
    UNDER_WAY,
    Faults,
    Move,
    Sent,
    Things,
    Worker,
    World,
    name,
)

Attempt: TypeAlias = tuple[int, int]
"""The place of its step in the workflow, and its number."""
Busy: TypeAlias = tuple[Attempt, ...]

SUCCESS = Succeeded(b"null")
FAILURE = Failed("Error", "", "", retryable=True)


class Without(Enum):
    """Rules of a leader that can be left out; those of the log and the writer are classes."""

    NOTHING = "nothing"
    PROOF = "attempts begin when their event is handed over, not when it is proven"
    FOLD_TO_CLAIM = "a leader begins with what it folded before it sent its claim"
    LOST = "open attempts of older epochs are not declared lost"
    TOKEN = "a result counts for whichever attempt of the step is open"
    SAME_ATTEMPT = "an open attempt is adopted if any attempt of its step still runs here"


class Appended(NamedTuple):
    events: tuple[int, ...]
    state: int


class Attempts(ShardMachine):
    def __init__(
        self,
        *,
        steps: int,
        workers: int,
        faults: Faults,
        without: Without = Without.NOTHING,
        chain: type[Chain] = Chain,
        writer: type[HistoryWriter] = HistoryWriter,
    ) -> None:
        super().__init__(Histories(chain), workers=workers, faults=faults, writer=writer)
        self._app = app_of_steps(steps)
        self._places = {step_name(number): number for number in range(steps)}
        self._without = without
        self._begun = lru_cache(None)(self._begin)
        self._ended = lru_cache(None)(self._end)
        self._woken = lru_cache(None)(self._wake)
        self._executed = lru_cache(None)(self._prove)
        self._illegal = lru_cache(None)(self._judge)

    # What the search asks

    def opening(self) -> tuple[int, Things]:
        shard = self.histories.empty()
        for event in (*beginning(), run_accepted()):
            evolve(shard, event, NOW_MS, IN_FORCE)
        return self.histories.number(shard), ()

    def first(self, folded: int, log: int) -> int:
        return folded if self._without is Without.FOLD_TO_CLAIM else log

    def lead(self, world: World, worker: Worker) -> Worker:
        return _grown(worker, self._begun(worker.state, worker.busy))

    def act(self, world: World, index: int, sent: Sent) -> World:
        if self._without is Without.PROOF:
            return world
        return self._execute(world, index, sent)

    def counted(self, world: World, event: int) -> str:
        return self._illegal(world.log, world.outside, event)

    def moves(self, world: World, index: int) -> Iterator[Move]:
        worker = world.workers[index]
        if worker.mode != LEADING:
            return
        if self._without is Without.PROOF:
            for sent in worker.sent:
                hasty = self._execute(world, index, sent)
                yield ("{} begins with {} at once", name(index), self.describe(sent.event)), hasty
        for attempt in cast("Busy", worker.busy):
            yield from self._ends(world, index, attempt)
        woken = self._woken(worker.state)
        if woken.events:
            grown = self.put(world, index, _grown(worker, woken))
            yield ("{} waited long enough, and goes on", name(index)), grown

    def is_good(self, world: World) -> bool:
        return RUN not in self.histories.shard(world.log).runs

    def describe(self, event: int) -> str:
        fact = self.histories.event(event)
        what = (str(getattr(fact, field)) for field in ("step", "attempt") if hasattr(fact, field))
        return f"{type(fact).__name__}({', '.join(what)})"

    # What a leader does

    def _ends(self, world: World, index: int, attempt: Attempt) -> Iterator[Move]:
        worker, faults = world.workers[index], world.faults
        place, number = attempt
        what = f"attempt {number} of {step_name(place)}"
        still = worker._replace(busy=tuple(each for each in worker.busy if each != attempt))
        done = _grown(still, self._ended(worker.state, attempt, SUCCESS))
        yield ("{} completes {}", name(index), what), self.put(world, index, done)
        if faults.special:
            fewer = faults._replace(special=faults.special - 1)
            failed = _grown(still, self._ended(worker.state, attempt, FAILURE))
            yield ("{} fails in {}", name(index), what), self.put(world, index, failed, fewer)

    def _execute(self, world: World, index: int, sent: Sent) -> World:
        worker = world.workers[index]
        attempt = self._executed(worker.state, sent.event)
        if attempt is None:
            return world
        wrong = world.wrong
        if not sent.fate & COUNTED:
            wrong = "P1: an attempt is executed whose start does not count"
        elif attempt in world.outside:
            wrong = "P6: one attempt is executed twice"
        busy = worker._replace(busy=tuple(sorted((*cast("Busy", worker.busy), attempt))))
        executed = tuple(sorted((*cast("Busy", world.outside), attempt)))
        return self.put(world, index, busy)._replace(outside=executed, wrong=wrong)

    # The engine's code, each case once

    def _begin(self, state: int, busy: Busy) -> Appended:
        shard = self.histories.copy(state)
        if self._without is Without.LOST:
            for step in shard.runs[RUN].steps.values() if RUN in shard.runs else ():
                step.epoch = IN_FORCE
        leading = Leading(self._app, shard, IN_FORCE, running=self._running(shard, busy))
        return self._appended(leading.start())

    def _end(self, state: int, attempt: Attempt, result: Result) -> Appended:
        shard = self.histories.copy(state)
        key = self._key(attempt)
        if (
            self._without is Without.TOKEN
            and RUN in shard.runs
            and key.step in shard.runs[RUN].steps
        ):
            key = key._replace(attempt=shard.runs[RUN].steps[key.step].attempt)
        return self._appended(Leading(self._app, shard, IN_FORCE).end(Ended(key, result, 0)))

    def _wake(self, state: int) -> Appended:
        shard = self.histories.copy(state)
        return self._appended(Leading(self._app, shard, IN_FORCE, now_ms=LATER_MS).wake(RUN))

    def _prove(self, state: int, event: int) -> Attempt | None:
        """The attempt that begins when this event is proven, if one does."""
        fact = self.histories.event(event)
        if not isinstance(fact, e.AttemptStarted):
            return None
        started = Leading(self._app, self.histories.copy(state), IN_FORCE).prove(fact).started
        return (self._places[fact.step], fact.attempt) if started else None

    def _appended(self, led: Led) -> Appended:
        numbers = tuple(self.histories.event_number(r.event, r.at) for r in led.records)
        return Appended(numbers, self.histories.number(led.shard))

    def _running(self, shard: Shard, busy: Busy) -> frozenset[AttemptKey]:
        keys = {self._key(attempt) for attempt in busy}
        if self._without is Without.SAME_ATTEMPT and RUN in shard.runs:
            steps = shard.runs[RUN].steps
            keys = {key._replace(attempt=steps[key.step].attempt) for key in keys}
        return frozenset(keys)

    @staticmethod
    def _key(attempt: Attempt) -> AttemptKey:
        place, number = attempt
        return AttemptKey(RUN, step_name(place), number)

    def _judge(self, log: int, executed: Busy, event: int) -> str:
        fact = self.histories.event(event)
        run = self.histories.shard(log).runs.get(RUN)
        if run is None:
            return "P5: something happens to a run that is over"
        if (
            isinstance(fact, e.StepCompleted | e.AttemptFailed)
            and (self._places[fact.step], fact.attempt) not in executed
        ):
            return "P6: an attempt ends that was never executed"
        return _illegal(run, fact)


def _grown(worker: Worker, appended: Appended) -> Worker:
    sent = (*worker.sent, *(Sent(event, UNDER_WAY) for event in appended.events))
    return worker._replace(sent=sent, state=appended.state)


def _illegal(run: Run, event: e.Event) -> str:
    """What an event that counts breaks, in the run as it was before it."""
    match event:
        case e.StepCompleted(step=step_id, attempt=attempt):
            if step_id in [o.step for o in run.outcomes if isinstance(o, StepSucceeded)]:
                return "P5: a step completes twice"
            return _not_open(run, step_id, attempt)
        case e.AttemptFailed() | e.AttemptLost():
            return _not_open(run, event.step, event.attempt)
        case e.AttemptStarted(step=step_id, attempt=attempt):
            return _not_next(run, step_id, attempt)
        case _:
            return ""


def _not_open(run: Run, step_id: str, attempt: int) -> str:
    step = run.steps.get(step_id)
    if step is None or step.status is not StepStatus.OPEN or step.attempt != attempt:
        return "P6: an attempt ends that is not the open one"
    return ""


def _not_next(run: Run, step_id: str, attempt: int) -> str:
    step = run.steps.get(step_id)
    if step is None:
        return "" if attempt == 1 else "P6: a step begins with another attempt than the first"
    if step.status is not StepStatus.BACKOFF or attempt != step.attempt + 1:
        return "P6: an attempt starts beside another one, or out of order"
    return ""
