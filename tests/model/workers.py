"""Worker processes that lead one shard in turn, and what can go wrong between them and Kafka.

What a worker does with its shard is the business of a subclass. Here are claims, records on
their way, reports, and their failures: a record lands late or never, also when its writer is
long gone or led by another; it lands twice; its report is lost, or lies; a process dies.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from stepfold.journal.writer import HistoryWriter
from tests.model.histories import Histories
from tests.model.proofs import ELSEWHERE, EXACT, FAILED, NO_OFFSET, judgements
from tests.model.worlds import (
    AS_EXPECTED,
    CLAIM,
    CLAIMING,
    COUNTED,
    ENDLESS,
    FRESH,
    IDLE,
    JUNK,
    LANDED,
    LATE_MAX,
    LEADING,
    NO_FAULTS,
    OLD_CLAIM,
    RECORD,
    UNDER_WAY,
    Faults,
    Move,
    Packet,
    Sent,
    Things,
    Worker,
    World,
    first_under_way,
    name,
    one_later,
    superseded,
)

CALM_STEPS_MAX = 300
STUCK = "P10: nothing goes wrong any more, and still "
BLIND_CLAIM = "P7: a claim counts that was made without knowledge of the epoch it replaces"


class ShardMachine(ABC):
    """faults: the budget. writer: the class that judges reports, for mutations."""

    def __init__(
        self,
        histories: Histories,
        *,
        workers: int,
        faults: Faults,
        writer: type[HistoryWriter] = HistoryWriter,
    ) -> None:
        # With more records lost than LATE_MAX allows, a late one could pass for a timely one.
        assert faults.timeouts < LATE_MAX
        self.histories = histories
        self._workers = workers
        self._faults = faults
        self._judged = judgements(writer)
        self._calm: dict[World, str] = {}

    # What a subclass says

    @abstractmethod
    def opening(self) -> tuple[int, Things]:
        """The folded shard at the start, and the world outside of it."""

    @abstractmethod
    def lead(self, world: World, worker: Worker) -> Worker:
        """What the worker appends first, its claim having counted."""

    @abstractmethod
    def act(self, world: World, index: int, sent: Sent) -> World:
        """The effects of an event, which its worker takes for proven."""

    @abstractmethod
    def counted(self, world: World, event: int) -> str:
        """What is wrong with it, if this event counts now; empty: nothing."""

    @abstractmethod
    def moves(self, world: World, index: int) -> Iterator[Move]:
        """What this worker, or the world outside with it, may do next."""

    @abstractmethod
    def is_good(self, world: World) -> bool:
        """Whether everything that was promised has come."""

    @abstractmethod
    def describe(self, event: int) -> str: ...

    def left(self, world: World, index: int) -> Things:
        """The world outside, once this worker's messages have nobody behind them."""
        return world.outside

    def around(self, world: World) -> Iterator[Move]:
        """What may happen outside, with no worker in it."""
        yield from ()

    def quiet(self, outside: Things) -> Things:
        """The world outside, if nothing that lies about in it ever arrives."""
        return outside

    # A machine, for the search

    def initial(self) -> World:
        log, outside = self.opening()
        return World(log, (FRESH,) * self._workers, (), self._faults, outside)

    def canonical(self, state: World) -> World:
        workers = tuple(sorted(state.workers))
        return state if workers == state.workers else state._replace(workers=workers)

    def successors(self, state: World) -> Iterator[Move]:
        for index, worker in enumerate(state.workers):
            if worker.mode == IDLE:
                yield from self._idle(state, index)
            else:
                yield from self._under_way(state, index)
                yield from self._reported(state, index)
                yield from self._breaks(state, index)
            yield from self.moves(state, index)
        yield from self._ghosts(state)
        yield from self.around(state)

    def stuck(self, state: World) -> str:
        """Let everything go well from here on, in one fixed order, and see where that leads."""
        world = self._calmed(state)
        way: list[World] = []
        passed: set[World] = set()
        verdict = ""
        while world not in self._calm:
            if self.is_good(world):
                break
            if world in passed or len(way) > CALM_STEPS_MAX:
                verdict = f"{STUCK}it goes round in circles for ever"
                break
            way.append(world)
            passed.add(world)
            step = next(iter(self.successors(world)), None)
            if step is None:
                verdict = f"{STUCK}nothing happens"
                break
            world = self._calmed(step[1])
        else:
            verdict = self._calm[world]
        for each in (*way, world):
            self._calm[each] = verdict
        return verdict

    def _calmed(self, world: World) -> World:
        """Only the leader in force goes on, or one fresh worker; nothing else arrives or fails."""
        worker = next((w for w in world.workers if w.mode == LEADING and w.epoch), FRESH)
        faults = NO_FAULTS
        if worker.mode == IDLE:
            claiming = next((w for w in world.workers if w.mode == CLAIMING and w.epoch), None)
            worker = claiming or FRESH
            faults = Faults(claims=0 if claiming else 1)
        return World(world.log, (worker,), (), faults, self.quiet(world.outside), world.wrong)

    # Claims

    def _idle(self, world: World, index: int) -> Iterator[Move]:
        worker, faults = world.workers[index], world.faults
        if faults.claims:
            claiming = worker._replace(
                mode=CLAIMING, epoch=1, sent=(Sent(-1, UNDER_WAY),), state=world.log
            )
            yield (
                ("{} folds the log to its end, is told that the lease is held, and sends a claim",
                 name(index)),
                self.put(world, index, claiming, faults._replace(claims=faults.claims - 1)),
            )  # fmt: skip
        if worker.busy:
            yield (
                ("{} gives up what it still runs: the limbo is over", name(index)),
                self.put(world, index, worker._replace(busy=())),
            )

    def _claim_lands(self, world: World, index: int) -> World:
        worker = world.workers[index]
        counts, log = self.histories.claim(world.log, bool(worker.epoch))
        if not counts:
            void = worker._replace(epoch=0, state=0, sent=(Sent(-1, LANDED),))
            return self.put(one_later(world, index), index, void)
        wrong = world.wrong if worker.epoch else BLIND_CLAIM
        first = self.first(worker.state, log)
        owner = worker._replace(epoch=1, sent=(Sent(-1, LANDED | COUNTED),), state=first)
        return self.put(superseded(world, log)._replace(wrong=wrong), index, owner)

    def first(self, folded: int, log: int) -> int:
        """What a new leader begins with; folded: what it knew when it sent its claim."""
        return log

    def _claim_reported(self, world: World, index: int) -> Iterator[Move]:
        worker = world.workers[index]
        fate = worker.sent[0].fate
        free = FRESH._replace(busy=worker.busy)
        if not fate & COUNTED:
            yield (("{} finds its claim void", name(index)), self.put(world, index, free))
            return
        if not worker.epoch:
            yield (
                ("{} finds a newer claim behind its own", name(index)),
                self.put(world, index, free),
            )
        leader = worker._replace(mode=LEADING, sent=())
        yield (
            ("{} finds that its claim counts, and leads", name(index)),
            self.put(world, index, self.lead(world, leader)),
        )

    # Records on their way

    def _under_way(self, world: World, index: int) -> Iterator[Move]:
        worker = world.workers[index]
        place = first_under_way(worker)
        if place is None:
            return
        what = self._what(worker, place)
        if worker.mode == CLAIMING:
            landed = self._claim_lands(world, index)
        else:
            landed = self._record_lands(world, index, place)
        fate = landed.workers[index].sent[place].fate
        how = "counts" if fate & COUNTED else "is void"
        yield (("{} of {} lands and {}", what, name(index), how), landed)
        faults = world.faults
        if faults.copies:
            copied = self._haunt(world, worker, (place,))
            fewer = faults._replace(copies=faults.copies - 1)
            yield (
                ("the client of {} makes a copy of {}", name(index), what),
                world._replace(ghosts=copied, faults=fewer),
            )

    def _record_lands(self, world: World, index: int, place: int) -> World:
        worker = world.workers[index]
        seq, event = len(worker.reports) + place, worker.sent[place].event
        counts, log = self.histories.land(world.log, bool(worker.epoch), seq, event)
        fate = LANDED
        if worker.late == 0:
            fate |= AS_EXPECTED
        wrong = world.wrong
        if counts:
            fate |= COUNTED
            wrong = self.counted(world, event)
        sent = (*worker.sent[:place], Sent(event, fate), *worker.sent[place + 1 :])
        moved = one_later(world, index)._replace(log=log, wrong=wrong)
        return self.put(moved, index, worker._replace(sent=sent))

    # Reports

    def _reported(self, world: World, index: int) -> Iterator[Move]:
        worker, faults = world.workers[index], world.faults
        if not worker.sent:
            return
        fate = worker.sent[0].fate
        what = self._what(worker, 0)
        if fate & LANDED:
            if worker.mode == CLAIMING:
                yield from self._claim_reported(world, index)
            else:
                report, where = (EXACT, "as") if fate & AS_EXPECTED else (ELSEWHERE, "not where")
                yield (
                    ("{} hears that {} landed {} expected", name(index), what, where),
                    self._hears(world, index, report),
                )
                if worker.reports and worker.reports[-1] != EXACT and report == ELSEWHERE:
                    yield (
                        ("{} is told an offset for {} that means nothing", name(index), what),
                        self._hears(world, index, EXACT),
                    )
            if faults.silences:
                fewer = world._replace(faults=faults._replace(silences=faults.silences - 1))
                yield (
                    ("{} never learns the offset of {}", name(index), what),
                    self._hears(fewer, index, NO_OFFSET),
                )
        if faults.timeouts:
            fewer = world._replace(faults=faults._replace(timeouts=faults.timeouts - 1))
            yield (
                ("{} hears that {} failed; it may land all the same", name(index), what),
                self._hears(fewer, index, FAILED),
            )

    def _hears(self, world: World, index: int, report: int) -> World:
        worker = world.workers[index]
        if worker.mode == CLAIMING:
            return self.stopped(world, index)
        sent, *others = worker.sent
        reports = (*worker.reports, report)
        verdict = self._judged(reports)
        if not verdict.is_certain:
            return self.stopped(world, index)
        ghosts = world.ghosts if sent.fate & LANDED else self._haunt(world, worker, (0,))
        late = worker.late if sent.fate & LANDED else worker.late - 1
        rest = worker._replace(reports=reports, sent=tuple(others), late=late)
        heard = self.put(world._replace(ghosts=ghosts), index, rest)
        if len(reports) - 1 in verdict.fired:
            heard = self.act(heard, index, sent)
        return heard

    # What breaks

    def _breaks(self, world: World, index: int) -> Iterator[Move]:
        faults = world.faults
        if faults.crashes:
            fewer = world._replace(faults=faults._replace(crashes=faults.crashes - 1))
            dead = self.stopped(fewer, index)
            yield (("{} dies", name(index)), self.put(dead, index, FRESH))
        if faults.losses and world.workers[index].mode == LEADING:
            fewer = world._replace(faults=faults._replace(losses=faults.losses - 1))
            yield (
                ("{} is told that it lost the shard; its attempts run on", name(index)),
                self.stopped(fewer, index),
            )

    def stopped(self, world: World, index: int) -> World:
        """It leads no more, and forgets; what is under way may land, what it runs goes on."""
        worker = world.workers[index]
        places = tuple(p for p, sent in enumerate(worker.sent) if not sent.fate & LANDED)
        left = world._replace(
            ghosts=self._haunt(world, worker, places), outside=self.left(world, index)
        )
        return self.put(left, index, FRESH._replace(busy=worker.busy))

    def _haunt(self, world: World, worker: Worker, places: tuple[int, ...]) -> tuple[Packet, ...]:
        """What is under way at these places lands at any later time, or never."""
        packets = list(world.ghosts)
        for place in places:
            if worker.mode == CLAIMING:
                packet = CLAIM if worker.epoch else OLD_CLAIM
            elif worker.epoch:
                packet = (RECORD, len(worker.reports) + place, worker.sent[place].event)
            else:
                packet = JUNK
            if packet not in ENDLESS or packet not in packets:
                packets.append(packet)
        return tuple(sorted(packets))

    def _ghosts(self, world: World) -> Iterator[Move]:
        for place, packet in enumerate(world.ghosts):
            if place and world.ghosts[place - 1] == packet:
                continue
            rest = world
            if packet not in ENDLESS:
                rest = world._replace(ghosts=(*world.ghosts[:place], *world.ghosts[place + 1 :]))
            if packet == JUNK:
                yield (("a late record of an old epoch lands and is void",), one_later(rest))
            elif packet in (CLAIM, OLD_CLAIM):
                yield self._ghost_claim(rest, names_in_force=packet == CLAIM)
            else:
                yield self._ghost_record(rest, packet)

    def _ghost_claim(self, world: World, *, names_in_force: bool) -> Move:
        counts, log = self.histories.claim(world.log, names_in_force)
        if not counts:
            return ("a late claim lands and is void",), one_later(world)
        landed = superseded(world, log)
        wrong = world.wrong if names_in_force else BLIND_CLAIM
        return ("a late claim lands and counts",), landed._replace(wrong=wrong)

    def _ghost_record(self, world: World, packet: Packet) -> Move:
        _, seq, event = packet
        counts, log = self.histories.land(world.log, True, seq, event)
        wrong = self.counted(world, event) if counts else world.wrong
        how = "counts" if counts else "is void"
        label = ("late, {} (number {}) lands and {}", self.describe(event), seq, how)
        return label, one_later(world)._replace(log=log, wrong=wrong)

    def _what(self, worker: Worker, place: int) -> str:
        if worker.mode == CLAIMING:
            return "the claim"
        seq = len(worker.reports) + place
        return f"{self.describe(worker.sent[place].event)} (number {seq})"

    @staticmethod
    def put(world: World, index: int, worker: Worker, faults: Faults | None = None) -> World:
        workers = (*world.workers[:index], worker, *world.workers[index + 1 :])
        return World(
            world.log,
            workers,
            world.ghosts,
            world.faults if faults is None else faults,
            world.outside,
            world.wrong,
        )
