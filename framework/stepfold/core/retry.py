"""When a failed attempt is tried again.

The policy is data and the jitter is drawn from the identity of the attempt, so the
same failure gives the same due time in every fold and in every test.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from stepfold.core.durations import Duration, to_milliseconds

ATTEMPTS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how soon a step is tried again.

    attempts: tries in all, 1 to 1,000. min_delay: before the second try; each later
    delay is `factor` (1 or more) times the one before, up to max_delay. max_duration:
    no attempt starts later than this after the first one started; None: no such bound.
    jitter: the share, 0 to 1, by which a delay is spread to both sides.
    Raises ValueError for a value out of bounds.
    """

    attempts: int = 5
    min_delay: Duration = "1s"
    factor: float = 2.0
    max_delay: Duration = "1m"
    max_duration: Duration | None = None
    jitter: float = 0.1

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= ATTEMPTS_MAX:
            raise ValueError(f"attempts must be 1 to {ATTEMPTS_MAX}, got {self.attempts}")
        if self.factor < 1:
            raise ValueError(f"factor must be 1 or more, got {self.factor}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter must be 0 to 1, got {self.jitter}")
        for duration in (self.min_delay, self.max_delay, self.max_duration):
            if duration is not None:
                to_milliseconds(duration)


def next_attempt_at(
    policy: Retry,
    *,
    failures: int,
    first_started_at: int,
    now: int,
    identity: str,
    delay_ms: int | None = None,
) -> int | None:
    """When the next attempt may start, in broker milliseconds; None: no further attempt.

    failures counts this one. delay_ms, from RetryAfter, replaces the computed delay.
    identity (run, step and attempt) seeds the jitter.
    """
    if failures >= policy.attempts:
        return None
    if delay_ms is None:
        delay_ms = _delay_ms(policy, failures, identity)
    due = now + delay_ms
    if policy.max_duration is None:
        return due
    return due if due <= first_started_at + to_milliseconds(policy.max_duration) else None


def _delay_ms(policy: Retry, failures: int, identity: str) -> int:
    bound = to_milliseconds(policy.max_delay)
    try:
        delay = to_milliseconds(policy.min_delay) * policy.factor ** (failures - 1)
    except OverflowError:
        delay = float(bound)
    spread = zlib.crc32(identity.encode()) / 0xFFFFFFFF * 2 - 1
    return max(0, round(min(delay, bound) * (1 + policy.jitter * spread)))
