"""What this version of the engine writes, while its workers die and freeze, breaks no rule."""

from __future__ import annotations

import asyncio

from stepfold.journal.memory_scan import MemoryScan
from stepfold.verify.app import verify_app
from tests.unit.verify.engine_log import PARTITIONS, eventful_log
from tests.unit.verify.logs import APP


def test_log_of_an_eventful_life_breaks_no_rule() -> None:
    engine = asyncio.run(eventful_log())

    report = verify_app(MemoryScan(engine.cluster), APP, processes=1).report

    assert report.violations == []
    assert report.unchecked == {}
    assert report.source_pending == 0
    assert report.kinds["AttemptLost"] > 0
    assert report.kinds["Claimed"] >= 4 * PARTITIONS
    assert report.void["fenced"] > 0
    kinds = {type(event).__name__ for event in engine.events()}
    assert kinds >= {"RunSnapshot", "IntakeGap", "RunDeduplicated", "WaitExpired"}
