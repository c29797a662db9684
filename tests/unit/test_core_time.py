"""Durations as authors write them, and the times of further attempts."""

from __future__ import annotations

from datetime import timedelta

import pytest

from stepfold.core.durations import Duration, to_milliseconds
from stepfold.core.retry import Retry, next_attempt_at


@pytest.mark.parametrize(
    ("duration", "milliseconds"),
    [
        ("250ms", 250),
        ("2s", 2_000),
        ("1.5m", 90_000),
        ("24h", 86_400_000),
        ("7d", 604_800_000),
        (3, 3_000),
        (0.25, 250),
        (timedelta(minutes=1), 60_000),
        (0, 0),
    ],
)
def test_duration_is_read_in_each_of_its_forms(duration: Duration, milliseconds: int) -> None:
    assert to_milliseconds(duration) == milliseconds


@pytest.mark.parametrize("duration", ["5 parsecs", "", "s", "-1s", -1, "400d", True, float("nan")])
def test_duration_that_makes_no_sense_is_refused_by_value(duration: Duration) -> None:
    with pytest.raises(ValueError, match="duration"):
        to_milliseconds(duration)


def due(policy: Retry, failures: int, delay_ms: int | None = None) -> int | None:
    return next_attempt_at(
        policy, failures=failures, first_started_at=0, now=0, identity="x", delay_ms=delay_ms
    )


def test_delays_grow_by_the_factor_up_to_the_bound() -> None:
    policy = Retry(attempts=9, min_delay="1s", factor=3, max_delay="10s", jitter=0)

    assert [due(policy, failures) for failures in (1, 2, 3, 4)] == [1_000, 3_000, 9_000, 10_000]


def test_jitter_stays_in_its_share_and_repeats_itself() -> None:
    policy = Retry(min_delay="10s", jitter=0.1)

    first = due(policy, 1)

    assert first is not None
    assert 9_000 <= first <= 11_000
    assert due(policy, 1) == first


def test_no_attempt_starts_after_the_longest_duration() -> None:
    policy = Retry(attempts=9, min_delay="10s", max_duration="5s", jitter=0)

    assert due(policy, 1) is None


def test_retry_after_replaces_the_delay() -> None:
    assert due(Retry(), 1, delay_ms=30_000) == 30_000


@pytest.mark.parametrize(
    "wrong",
    [{"attempts": 0}, {"factor": 0.5}, {"jitter": 2}, {"min_delay": "5 parsecs"}],
)
def test_policy_out_of_bounds_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must be|not a duration"):
        Retry(**wrong)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
