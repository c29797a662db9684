"""How bad the log is at the moment: chances of each fault, and how long things take.

`Weather()` is fair: what a healthy cluster on a local network does. A seed draws which
kinds of faults it has at all, and how many of each (swarm testing: with all of them always
on, some mask others and every run looks alike).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, fields


@dataclass(slots=True)
class Weather:
    """Chances are per record or per call; times in virtual microseconds."""

    latency_us: int = 400
    """From a call to the broker, and as long for the way back; twice as long at most."""
    slow_chance: float = 0.0
    slow_us_max: int = 2_000_000
    duplicate: float = 0.0
    """The record lands twice (the idempotent producer does that when its epoch is bumped)."""
    drop: float = 0.0
    """It does not land, is reported with an error, and what comes after it does land."""
    error_though_landed: float = 0.0
    no_offset: float = 0.0
    """It landed, and was acknowledged without saying where."""
    bogus_offset: float = 0.0
    """It landed, and was acknowledged with the offset of another one."""
    late_report: float = 0.0
    late_report_us_max: int = 8_000_000
    batch_records_max: int = 500
    read_slow_chance: float = 0.0
    lease_unknown: float = 0.0
    group_us_max: int = 20_000
    """From a decision of the group to the callback in the member."""
    group_forgets: float = 0.0
    """A member is not told that it lost its partitions."""
    wrong_hint: float = 0.0
    """The checkpoint noted beside the group's offsets is not one."""
    ghosts: float = 0.5
    """What a dead process had under way lands after all."""
    ghost_us_max: int = 3_000_000
    client_repeats: float = 0.0
    """A client did not get its acknowledgement and writes the record again."""


APPEND_FAULTS = ("duplicate", "drop", "error_though_landed", "no_offset", "bogus_offset")
CHANCES = (0.003, 0.01, 0.03)


@dataclass(slots=True)
class Storm:
    """Weather that gets worse and better by itself; `clear` ends it for good."""

    dice: random.Random
    weather: Weather = field(default_factory=Weather)

    def gather(self) -> None:
        """Draw which faults this run has."""
        dice, weather = self.dice, self.weather
        weather.latency_us = dice.choice((150, 400, 400, 3_000, 40_000))
        for name in APPEND_FAULTS:
            if dice.random() < 0.3:
                setattr(weather, name, dice.choice(CHANCES))
        if dice.random() < 0.4:
            weather.slow_chance = dice.choice((0.01, 0.05, 0.2))
            weather.slow_us_max = dice.choice((50_000, 1_000_000, 4_000_000))
        if dice.random() < 0.4:
            weather.late_report = dice.choice((0.01, 0.05, 0.1))
            weather.late_report_us_max = dice.choice((100_000, 2_000_000, 8_000_000, 40_000_000))
        if dice.random() < 0.3:
            weather.read_slow_chance = dice.choice((0.05, 0.3))
        weather.batch_records_max = dice.choice((1, 3, 500, 500))
        if dice.random() < 0.3:
            weather.lease_unknown = dice.choice((0.1, 0.5))
        weather.group_us_max = dice.choice((2_000, 20_000, 500_000, 3_000_000))
        if dice.random() < 0.2:
            weather.group_forgets = 0.5
        weather.wrong_hint = dice.choice((0.0, 0.0, 0.2))
        weather.ghosts = dice.choice((0.0, 0.5, 1.0))
        weather.ghost_us_max = dice.choice((10_000, 1_000_000, 15_000_000))
        weather.client_repeats = dice.choice((0.0, 0.0, 0.1))

    def clear(self) -> None:
        fair = Weather()
        for each in fields(Weather):
            setattr(self.weather, each.name, getattr(fair, each.name))

    def latency_us(self) -> int:
        weather = self.weather
        latency = weather.latency_us + int(weather.latency_us * self.dice.random())
        if weather.slow_chance and self.dice.random() < weather.slow_chance:
            latency += int(weather.slow_us_max * self.dice.random())
        return latency

    def strikes(self, chance: float) -> bool:
        return chance > 0.0 and self.dice.random() < chance
