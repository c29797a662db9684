"""What goes wrong with processes and brokers, and when; drawn by the seed.

Weather troubles single records; chaos troubles whole processes, links and partitions. A run
has some kinds of it and not others. Crashes also come at chosen moments: a few callbacks
after a record of some kind has landed, which is where protocols break.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from stepfold.journal.port import LogRecord
from tests.simulation.cluster import SimCluster
from tests.simulation.fleet import Fleet
from tests.simulation.process import SimProcess
from tests.simulation.universe import CALLBACK_US

INTERVALS_S = (0.3, 1.0, 1.0, 3.0)
KIND_SHARE = 0.45
"""Of the kinds of chaos, how many a run has."""
POINTS = (
    b"Claimed", b"RunAccepted", b"AttemptStarted", b"StepCompleted", b"AttemptFailed",
    b"AttemptLost", b"TimerFired", b"WaitResolved", b"SignalBuffered", b"RunCompleted", b"Drained",
    b"IntakeRejected",
)  # fmt: skip
PAUSES_US = (200_000, 2_000_000, 6_000_000, 15_000_000, 25_000_000)
STALE_LOOP_US = 20_000_000
"""A loop that stood still for longer than this is ended by its process's watchdog."""


class Chaos:
    """marks: from where a fold of a shard may begin; what is before may be deleted."""

    def __init__(
        self,
        cluster: SimCluster,
        fleet: Fleet,
        dice: random.Random,
        *,
        app: str,
        marks: Callable[[int], int],
        is_quiet: bool,
    ) -> None:
        self._cluster = cluster
        self._universe = cluster.universe
        self._fleet = fleet
        self._dice = dice
        self._app = app
        self._marks = marks
        self._interval_s = dice.choice(INTERVALS_S)
        self._is_over = False
        self._armed: tuple[bytes, str, int] | None = None
        kinds: list[Callable[[], None]] = [
            self._crash,
            self._crash_at_point,
            self._pause,
            self._slow_down,
            self._cut,
            self._move_leader,
            self._fail_client,
            self._lose_session,
            self._move_partition,
            self._stop,
            self._usurp,
            self._trim,
        ]
        self._kinds = [kind for kind in kinds if not is_quiet and dice.random() < KIND_SHARE]
        cluster.on_landing(self._landed)

    def begin(self) -> None:
        if self._kinds:
            self._next()

    def heal(self) -> None:
        self._is_over = True
        for log in self._cluster.logs():
            if log.is_stalled:
                self._cluster.elect(log)
        self._fleet.heal()

    def _next(self) -> None:
        delay_us = int(self._dice.expovariate(1 / self._interval_s) * 1_000_000)
        self._universe.after(delay_us, self._strike)

    def _strike(self) -> None:
        if not self._is_over:
            self._dice.choice(self._kinds)()
            self._next()

    def _unless_over(self, delay_us: int, call: Callable[[], None]) -> None:
        self._universe.after(delay_us, lambda: None if self._is_over else call())

    def _victim(self) -> SimProcess | None:
        alive = self._fleet.alive
        return self._dice.choice(alive) if alive else None

    # Processes

    def _crash(self) -> None:
        victim = self._victim()
        if victim is not None:
            victim.crash("by chance")

    def _crash_at_point(self) -> None:
        member = self._dice.choice(self._fleet.members)
        self._armed = (self._dice.choice(POINTS), member, self._dice.randint(1, 40))

    def _landed(self, record: LogRecord) -> None:
        if self._armed is None or self._is_over or not record.topic.endswith(".history"):
            return
        kind, member, callbacks = self._armed
        if ("sf-kind", kind) in record.headers:
            self._armed = None
            victim = self._fleet.present(member)
            if victim is not None and victim.is_alive:
                victim.loop.callbacks_to_live = callbacks

    def _pause(self) -> None:
        victim = self._victim()
        if victim is None:
            return
        duration_us = self._dice.choice(PAUSES_US)
        victim.pause()
        self._unless_over(duration_us, lambda: self._wake(victim, duration_us))

    def _wake(self, victim: SimProcess, paused_us: int) -> None:
        if paused_us > STALE_LOOP_US and self._dice.random() < 0.5:
            victim.crash("by its watchdog")
        else:
            victim.resume()

    def _slow_down(self) -> None:
        victim = self._victim()
        if victim is not None:
            victim.slow_down(self._dice.choice((200, 2_000, 20_000)))
            duration_us = self._dice.choice((500_000, 3_000_000))
            self._unless_over(duration_us, lambda: victim.slow_down(CALLBACK_US))

    def _stop(self) -> None:
        victim = self._victim()
        if victim is not None:
            victim.stop()

    def _usurp(self) -> None:
        """A process is thought dead and replaced under its name, and it is not dead."""
        victim = self._victim()
        if victim is None:
            return
        self._cluster.stage.fault(victim.name, "usurped")
        if self._dice.random() < 0.5:
            victim.pause()
            self._unless_over(self._dice.choice(PAUSES_US), victim.resume)
        self._fleet.start(victim.member)

    # Links and brokers

    def _cut(self) -> None:
        victim = self._victim()
        if victim is None:
            return
        partitions, group = self._dice.choice(((True, True), (True, False), (False, True)))
        self._cluster.stage.fault(victim.name, "cut", partitions, group)
        victim.journal.cut(partitions=partitions, group=group)
        self._unless_over(self._dice.choice(PAUSES_US), victim.journal.mend)

    def _move_leader(self) -> None:
        log = self._dice.choice(self._cluster.logs())
        self._cluster.stage.fault("broker", "leader_moves", log.topic, log.partition)
        self._cluster.stall(log)
        delay_us = self._dice.choice((20_000, 500_000, 4_000_000))
        self._unless_over(delay_us, lambda: self._cluster.elect(log))

    def _fail_client(self) -> None:
        victim = self._victim()
        if victim is not None:
            self._cluster.stage.fault(victim.name, "fatal")
            victim.journal.appender.fail_client("Local: Fatal error")

    def _lose_session(self) -> None:
        victim = self._victim()
        if victim is not None:
            told = self._dice.random() < 0.5
            self._cluster.stage.fault(victim.name, "session_lost", told)
            for membership in victim.journal.memberships:
                membership.lose_session(told=told)

    def _move_partition(self) -> None:
        group = self._cluster.group(self._app)
        partition = self._dice.randrange(self._cluster.topics(self._app).inbox.partitions)
        member = self._dice.choice(self._fleet.members)
        self._cluster.stage.fault("group", "moves", partition, member)
        group.pin(partition, member)

    def _trim(self) -> None:
        """The history is deleted up to a checkpoint's mark, as far as that is allowed."""
        topic = self._cluster.topics(self._app).history
        partition = self._dice.randrange(topic.partitions)
        log = self._cluster.log(topic.name, partition)
        mark = self._marks(partition)
        if log is not None and mark > log.low:
            self._cluster.stage.fault("broker", "trims", topic.name, partition, mark)
            self._cluster.delete_records(log, mark)
