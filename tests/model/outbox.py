"""A run that starts children on other shards: deliveries, their acknowledgements, and targets.

The engine's outbox, decisions and fold do everything here but carry the records. A target's own
shard is one folded state that takes what arrives: whether its owner changes is the business of
the other machines, and it does not matter when a record of its control topic is read, because
what becomes of it depends on the order in the topic alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias, cast

from stepfold.core import commands as c
from stepfold.core import events as e
from stepfold.core import intake
from stepfold.core.shard import Shard, evolve
from stepfold.journal.writer import HistoryWriter
from tests.model.deliveries import WAITS, Deliveries, Delivery, Done, OpenOutbox, Place
from tests.model.histories import IN_FORCE, Histories
from tests.model.pen import NOW_MS
from tests.model.samples import beginning, run_accepted
from tests.model.workers import ShardMachine
from tests.model.worlds import LEADING, UNDER_WAY, Faults, Move, Sent, Things, Worker, World, name

UNPROVEN_MAX = 2
"""Events ahead of their proof, so that there is an end to the states."""

Flight: TypeAlias = tuple[int, int, int]
"""Of one delivery on its way: its number, whether its report still counts, whether it landed."""


class Work(NamedTuple):
    """One of each for every target, in order."""

    places: tuple[Place, ...]
    flights: tuple[tuple[Flight, ...], ...]


class Outside(NamedTuple):
    """targets: the folded shard of each."""

    targets: tuple[int, ...]
    ghosts: tuple[Delivery, ...]


class Outboxes(ShardMachine):
    """targets: of each child in turn, the number of the shard that it starts on."""

    def __init__(
        self,
        *,
        targets: tuple[int, ...],
        workers: int,
        faults: Faults,
        writer: type[HistoryWriter] = HistoryWriter,
        outbox: type[OpenOutbox] = OpenOutbox,
        is_next: Callable[[Shard, c.Deliver], bool] = intake.is_next,
        sends_at_once: bool = False,
    ) -> None:
        super().__init__(Histories(), workers=workers, faults=faults, writer=writer)
        self._engine = Deliveries(self.histories, plan=targets, outbox=outbox, is_next=is_next)
        self._names = self._engine.names
        self._apps = self._engine.apps
        self._sends_at_once = sends_at_once

    # What the search asks

    def opening(self) -> tuple[int, Things]:
        shard = self.histories.empty()
        for event in (*beginning(), run_accepted()):
            evolve(shard, event, NOW_MS, IN_FORCE)
        return self.histories.number(shard), Outside(self._engine.empty_targets(), ())

    def lead(self, world: World, worker: Worker) -> Worker:
        none = self._engine.nowhere_yet
        work = Work(none, ((),) * len(self._names))
        return self._then(worker, work, self._engine.do(worker.state, none, "start", -1, 0, 0))

    def act(self, world: World, index: int, sent: Sent) -> World:
        """The event's deliveries are released."""
        event = self.histories.event(sent.event)
        if not isinstance(event, e.ChildRequested) or self._sends_at_once:
            return world
        return self.put(world, index, self._release(world.workers[index], event))

    def counted(self, world: World, event: int) -> str:
        fact = self.histories.event(event)
        outside = cast("Outside", world.outside)
        if isinstance(fact, e.OutboxAcked):
            place = self._names.index(fact.target)
            if fact.upto > self._engine.taken(outside.targets[place]):
                return "P3: a delivery counts as made that its target does not have"
        for out in getattr(fact, "out", ()):
            if out.n != self._engine.intended(world.log, self._names.index(out.target)) + 1:
                return "P3: deliveries are not numbered one after the other"
        return ""

    def moves(self, world: World, index: int) -> Iterator[Move]:
        worker = world.workers[index]
        if worker.mode != LEADING:
            return
        work = cast("Work", worker.work)
        for target, flights in enumerate(work.flights):
            yield from self._flies(world, index, target, flights)
        for target, place in enumerate(work.places):
            if place[WAITS]:
                yield (
                    ("{} sends to {} again", name(index), self._apps[target]),
                    self._after(world, index, "again", target),
                )
        if len(worker.sent) < UNPROVEN_MAX:
            yield from self._writes(world, index)

    def around(self, world: World) -> Iterator[Move]:
        outside = cast("Outside", world.outside)
        for target, n in outside.ghosts:
            label = ("late, delivery {} arrives at {}", n, self._apps[target])
            yield label, self._arrives(world, target, n)

    def quiet(self, outside: Things) -> Things:
        return cast("Outside", outside)._replace(ghosts=())

    def left(self, world: World, index: int) -> Things:
        outside = cast("Outside", world.outside)
        worker = world.workers[index]
        if worker.mode != LEADING:
            return outside
        lost = {
            (target, n)
            for target, flights in enumerate(cast("Work", worker.work).flights)
            for n, _, landed in flights
            if not landed
        }
        return self._haunted(outside, lost)

    def is_good(self, world: World) -> bool:
        targets = cast("Outside", world.outside).targets
        plan = self._engine.plan
        return all(
            self._engine.taken(shard)
            == self._engine.intended(world.log, target)
            == plan.count(target)
            for target, shard in enumerate(targets)
        )

    def describe(self, event: int) -> str:
        fact = self.histories.event(event)
        if isinstance(fact, e.OutboxAcked):
            return f"OutboxAcked({fact.target.partition('.')[0]}, {fact.upto})"
        outs = ", ".join(f"{o.target.partition('.')[0]} {o.n}" for o in getattr(fact, "out", ()))
        return f"{type(fact).__name__}({outs})"

    # What a leader does

    def _writes(self, world: World, index: int) -> Iterator[Move]:
        worker = world.workers[index]
        for target, place in enumerate(cast("Work", worker.work).places):
            if place[1] > place[3]:
                what = f"{self._apps[target]} has all up to {place[1]}"
                yield (
                    ("{} appends that {}", name(index), what),
                    self._after(world, index, "record", target),
                )
        asked = self._engine.ask(worker.state)
        if asked is not None:
            event, state = asked
            sent = (*worker.sent, Sent(event, UNDER_WAY))
            grown = worker._replace(sent=sent, state=state)
            if self._sends_at_once:
                fact = cast("e.ChildRequested", self.histories.event(event))
                grown = self._release(grown, fact)
            label = ("{} appends {}", name(index), self.describe(event))
            yield label, self.put(world, index, grown)

    def _release(self, worker: Worker, event: e.ChildRequested) -> Worker:
        work = cast("Work", worker.work)
        for out in event.out:
            target = self._names.index(out.target)
            done = self._engine.do(worker.state, work.places, "release", target, out.n, 0)
            worker = self._then(worker, work, done)
            work = cast("Work", worker.work)
        return worker

    def _flies(
        self, world: World, index: int, target: int, flights: tuple[Flight, ...]
    ) -> Iterator[Move]:
        """In the order of their sending: the first without a report, the first under way."""
        app = self._apps[target]
        place = next((at for at, flight in enumerate(flights) if not flight[2]), None)
        if place is not None:
            n, is_current, _ = flights[place]
            landed = (*flights[:place], (n, is_current, 1), *flights[place + 1 :])
            there = self._arrives(self._fly(world, index, target, landed), target, n)
            yield ("delivery {} of {} arrives at {}", n, name(index), app), there
        if not flights:
            return
        n, is_current, has_landed = flights[0]
        rest = self._fly(world, index, target, flights[1:])
        if has_landed:
            yield (
                ("{} hears that delivery {} is with {}", name(index), n, app),
                self._after(rest, index, "reported", target, n, 2 + is_current),
            )
        if world.faults.special:
            faults = world.faults._replace(special=world.faults.special - 1)
            failed = rest._replace(faults=faults)
            if not has_landed:
                outside = self._haunted(cast("Outside", rest.outside), {(target, n)})
                failed = failed._replace(outside=outside)
            yield (
                ("{} hears that delivery {} to {} failed", name(index), n, app),
                self._after(failed, index, "reported", target, n, is_current),
            )

    def _after(
        self, world: World, index: int, what: str, target: int, n: int = 0, how: int = 0
    ) -> World:
        worker = world.workers[index]
        work = cast("Work", worker.work)
        done = self._engine.do(worker.state, work.places, what, target, n, how)
        is_back = what == "reported" and done.places[target][WAITS] > work.places[target][WAITS]
        if is_back:
            old = tuple((number, 0, landed) for number, _, landed in work.flights[target])
            flights = (*work.flights[:target], old, *work.flights[target + 1 :])
            work = work._replace(flights=flights)
        return self.put(world, index, self._then(worker, work, done))

    def _then(self, worker: Worker, work: Work, done: Done) -> Worker:
        flights = list(work.flights)
        for target, n in done.sent:
            flights[target] = (*flights[target], (n, 1, 0))
        sent = (*worker.sent, *(Sent(event, UNDER_WAY) for event in done.events))
        work = Work(done.places, tuple(flights))
        return worker._replace(sent=sent, state=done.state, work=work)

    def _fly(self, world: World, index: int, target: int, flights: tuple[Flight, ...]) -> World:
        worker = world.workers[index]
        work = cast("Work", worker.work)
        changed = (*work.flights[:target], flights, *work.flights[target + 1 :])
        return self.put(world, index, worker._replace(work=work._replace(flights=changed)))

    # What arrives

    def _arrives(self, world: World, target: int, n: int) -> World:
        outside = cast("Outside", world.outside)
        taken, shard = self._engine.deliver(outside.targets[target], target, n)
        if not taken:
            return world
        wrong = world.wrong
        if n > self._engine.intended(world.log, target):
            wrong = "P2: a target takes a delivery whose event does not count"
        elif n > self._engine.taken(outside.targets[target]) + 1:
            wrong = "P3: a target takes a delivery before an earlier one"
        elif n <= self._engine.taken(outside.targets[target]):
            wrong = "P4: a target takes a delivery twice"
        targets = (*outside.targets[:target], shard, *outside.targets[target + 1 :])
        ghosts = tuple(ghost for ghost in outside.ghosts if ghost[0] != target or ghost[1] > n)
        return world._replace(outside=Outside(targets, ghosts), wrong=wrong)

    def _haunted(self, outside: Outside, lost: set[Delivery]) -> Outside:
        """What a target has already can do nothing there any more."""
        ghosts = {
            (target, n)
            for target, n in {*outside.ghosts, *lost}
            if n > self._engine.taken(outside.targets[target])
        }
        return outside._replace(ghosts=tuple(sorted(ghosts)))
