"""The worker processes of a run, and the supervisor that replaces those that end."""

from __future__ import annotations

import random

from tests.simulation.cluster import SimCluster
from tests.simulation.process import SimProcess
from tests.simulation.stage import Stage
from tests.simulation.universe import CALLBACK_US, Call, quietly_bury
from tests.simulation.workflows import APP

RESTART_US_MAX = 2_000_000
SKEWS_MS = ((0, 0), (0, 0), (-200, 200), (-300_000, 300_000))
EVENTS_BETWEEN = (12, 30, 100, 100_000)
SESSIONS_US = (3_000_000, 10_000_000)


class Fleet:
    def __init__(
        self, cluster: SimCluster, stage: Stage, dice: random.Random, members: int
    ) -> None:
        self.members = [f"w{number}" for number in range(members)]
        self.processes: list[SimProcess] = []
        """All that ever ran; the last of a name is its present one."""
        self._cluster = cluster
        self._stage = stage
        self._dice = dice
        self._skew = dice.choice(SKEWS_MS)
        self._session_us = dice.choice(SESSIONS_US)
        self._events_between = dice.choice(EVENTS_BETWEEN)
        self._incarnations = dict.fromkeys(self.members, 0)
        self._is_calm = False

    @property
    def alive(self) -> list[SimProcess]:
        return [process for process in self.processes if process.is_alive]

    def present(self, member: str) -> SimProcess | None:
        """The one that holds the name now, dead or alive."""
        return next((p for p in reversed(self.processes) if p.member == member), None)

    def start_all(self) -> None:
        for member in self.members:
            self._cluster.universe.after(int(500_000 * self._dice.random()), self._starter(member))

    def start(self, member: str) -> None:
        self._incarnations[member] += 1
        process = SimProcess(
            cluster=self._cluster,
            stage=self._stage,
            app=APP,
            member=member,
            incarnation=self._incarnations[member],
            dice=random.Random(self._dice.getrandbits(64)),
            clock_skew_ms=self._dice.randint(*self._skew),
            session_us=self._session_us,
            events_between_checkpoints=self._events_between,
            on_end=self._ended,
        )
        self.processes.append(process)
        process.start()

    def heal(self) -> None:
        """From now on nothing happens to processes, and whoever is missing is started."""
        self._is_calm = True
        for process in self.alive:
            process.loop.callbacks_to_live = None
            process.slow_down(CALLBACK_US)
            process.resume()
            process.journal.mend()

    def bury(self) -> None:
        quietly_bury([process.loop for process in self.processes])

    def _starter(self, member: str) -> Call:
        def start() -> None:
            present = self.present(member)
            if present is None or not present.is_alive:
                self.start(member)

        return start

    def _ended(self, process: SimProcess) -> None:
        """A supervisor starts it again, at once or after a while."""
        delay_us = 100_000
        if not self._is_calm:
            delay_us += int(RESTART_US_MAX * self._dice.random())
        self._cluster.universe.after(delay_us, self._starter(process.member))
