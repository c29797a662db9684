"""What a check costs beside decoding the same records, measured in the same run.

A check that decoded whole records, and looked at each of them, would cost twice as much
as decoding. `python -m tests.unit.verify.long_history` makes a log for longer measurements.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from stepfold.journal.codec import decode_event
from stepfold.verify.checker import ShardChecker
from stepfold.verify.story import ShardStory
from tests.unit.verify.logs import APP
from tests.unit.verify.long_history import LongHistory

EVENTS = 4_000
ROUNDS = 5
RATIO_MAX = 1.5
"""It is about 1; the bound leaves room for a busy machine."""


def test_check_costs_less_than_decoding_twice() -> None:
    history = LongHistory(0)
    history.fill(EVENTS)
    records = history.records
    values = [(record.value or b"", record.offset) for record in records]

    def check() -> None:
        checker = ShardChecker(ShardStory(APP, 0, "history-topic-id"))
        checker.take_all(records)
        checker.finish()
        assert checker.report.violations == []

    decoding = _cost_s(lambda: [decode_event(*each) for each in values])
    checking = _cost_s(check)

    assert checking < RATIO_MAX * decoding


def _cost_s(work: Callable[[], object]) -> float:
    """The least of several rounds, of this process alone: others share the machine."""
    costs: list[float] = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        work()
        costs.append(time.process_time() - begun)
    return min(costs)
