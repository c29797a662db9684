"""What the engine's outbox and a target's intake do in each case, worked out once.

Like the shard, an outbox is numbers: how far each target got. It is made anew from them for one
move, and what it sent and appended is read from its client.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from stepfold.core import children, intake
from stepfold.core import commands as c
from stepfold.core import events as e
from stepfold.core.ids import Position
from stepfold.core.outgoing import Outgoing
from stepfold.core.shard import Shard, evolve
from stepfold.engine.outbox import Outbox, _Target  # pyright: ignore[reportPrivateUsage] - its state
from stepfold.journal.codec import decode_command
from stepfold.journal.port import Report
from tests.model.histories import IN_FORCE, OLD, Histories
from tests.model.pen import GUARD, HISTORY, NOW_MS, Client, history_on
from tests.model.samples import RUN

SOURCE = "a/0"

Place: TypeAlias = tuple[int, int, int, int, int]
"""Of one target: released, acked, sent, recorded, and whether it waits before it sends again."""
NOWHERE_YET: Place = (0, 0, 0, 0, 0)
WAITS = 4

Delivery: TypeAlias = tuple[int, int]
"""The number of the target, and the delivery's own."""


class Done(NamedTuple):
    """What the outbox did: deliveries that it sent, events that it appended."""

    places: tuple[Place, ...]
    sent: tuple[Delivery, ...]
    events: tuple[int, ...]
    state: int


class OpenOutbox(Outbox):
    """The engine's outbox, with its places to be read and set."""

    def put(self, names: tuple[str, ...], places: tuple[Place, ...]) -> None:
        for target, place in zip(names, places, strict=True):
            if place != NOWHERE_YET:
                released, acked, sent, recorded, waits = place
                self._targets[target] = _Target(
                    released, acked, sent, recorded, is_waiting=bool(waits)
                )

    def take(self, names: tuple[str, ...]) -> tuple[Place, ...]:
        return tuple(self._place(target) for target in names)

    def _place(self, name: str) -> Place:
        target = self._targets.get(name)
        if target is None:
            return NOWHERE_YET
        waits = int(target.is_waiting)
        return target.released, target.acked, target.sent, target.recorded, waits

    def report(self, name: str, n: int, *, is_current: bool, is_delivered: bool) -> None:
        target = self._targets[name]
        generation = target.generation if is_current else target.generation - 1
        report = Report(0, 0, None) if is_delivered else Report(None, 0, "failed")
        self._reported(name, target, generation, n, report)

    def send_again(self, name: str) -> None:
        self._again(name)

    def record(self, name: str) -> None:
        self._record(name)


class Deliveries:
    """plan: of each child in turn, the number of the shard that it starts on. is_next: which
    deliveries a target takes.
    """

    def __init__(
        self,
        histories: Histories,
        *,
        plan: tuple[int, ...],
        outbox: type[OpenOutbox],
        is_next: Callable[[Shard, c.Deliver], bool],
    ) -> None:
        self.histories = histories
        self.plan = plan
        self.apps = tuple(f"t{number}" for number in range(max(plan) + 1))
        self.names = tuple(f"{app}.control/0" for app in self.apps)
        self._outbox = outbox
        self._is_next = is_next
        self._others = Histories()
        self._commands: dict[Delivery, c.Deliver] = {}
        self.do = lru_cache(None)(self._do)
        self.ask = lru_cache(None)(self._ask)
        self.deliver = lru_cache(None)(self._deliver)

    @property
    def nowhere_yet(self) -> tuple[Place, ...]:
        return (NOWHERE_YET,) * len(self.names)

    def empty_targets(self) -> tuple[int, ...]:
        empty = self._others.number(self._others.empty())
        return (empty,) * len(self.names)

    def intended(self, log: int, target: int) -> int:
        """The number of the last delivery for the target that the history holds."""
        return self.histories.shard(log).outbox.get(self.names[target], Outgoing()).last

    def taken(self, target_shard: int) -> int:
        """The number of the last delivery that the target took."""
        return self._others.shard(target_shard).inbound.get(SOURCE, 0)

    def _do(
        self, state: int, places: tuple[Place, ...], what: str, target: int, n: int, how: int
    ) -> Done:
        """how: 1 if the report still counts, and 2 more if it is one of success."""
        shard, client = self.histories.copy(state), Client()
        history = history_on(shard, IN_FORCE, client)
        outbox = self._outbox(shard_name=SOURCE, history=history, appender=client, guard=GUARD)
        outbox.put(self.names, places)
        where = self.names[target]
        match what:
            case "start":
                outbox.start()
            case "release":
                outbox.release((shard.outbox[where].unacked[n],))
            case "reported":
                outbox.report(where, n, is_current=bool(how & 1), is_delivered=bool(how & 2))
            case "again":
                outbox.send_again(where)
            case _:
                outbox.record(where)
        events = tuple(self.histories.event_number(r.event, r.at) for r in client.events())
        number = self.histories.number(shard)
        return Done(outbox.take(self.names), self._sent(client), events, number)

    def _sent(self, client: Client) -> tuple[Delivery, ...]:
        sent: list[Delivery] = []
        for handed in client.handed:
            if handed.topic == HISTORY:
                continue
            command = decode_command(handed.value)
            assert isinstance(command, c.Deliver)
            delivery = (self.names.index(f"{handed.topic}/0"), command.n)
            self._commands[delivery] = command
            sent.append(delivery)
        return tuple(sent)

    def _ask(self, state: int) -> tuple[int, int] | None:
        """The event that asks for the next child, and the shard with it; None: there is none."""
        shard, client = self.histories.copy(state), Client()
        asked = sum(outgoing.last for outgoing in shard.outbox.values())
        if asked == len(self.plan):
            return None
        event = children.request_child(
            shard,
            shard.runs[RUN],
            f"child {asked + 1}",
            shard_name=SOURCE,
            app=self.apps[self.plan[asked]],
            workflow="w",
            payload=b"",
            topic="00000",
            partitions=1,
            is_awaited=False,
            expires_at=0,
        )
        history_on(shard, IN_FORCE, client).append(event)
        (record,) = client.events()
        number = self.histories.event_number(record.event, record.at)
        return number, self.histories.number(shard)

    def _deliver(self, target_shard: int, target: int, n: int) -> tuple[bool, int]:
        """What the owner of the target makes of a delivery: whether it takes it."""
        shard = self._others.copy(target_shard)
        command = self._commands[target, n]
        if not self._is_next(shard, command):
            return False, target_shard
        # With a rule left out, the decision has to be led to believe what it would refuse.
        shard.inbound[SOURCE] = n - 1
        start = e.RunStart(command.run_id, "w", "", "", "", 0)
        source = Position("control", 0, 0, 0)
        (event,) = intake.accept_child(shard, "t", command, source, start)
        evolve(shard, event, NOW_MS, OLD)
        return True, self._others.number(shard)
