"""A step that keeps the event loop from turning costs its process, and no more than that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from stepfold.engine.process import EngineOptions
from stepfold.journal.inbox import EXIT_WATCHDOG
from tests.crash.harness import Scene
from tests.log_checks import RunStory

STALE_LOOP_S = 1.5
EXIT_LAST_RESORT = 1


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("name", "exits", "isolated"),
    [
        ("block_once", [EXIT_WATCHDOG], 0),
        ("hold_lock_once", [EXIT_LAST_RESORT], 0),
        ("block_always", [EXIT_WATCHDOG] * 2, 1),
    ],
)
def test_process_whose_loop_stands_still_is_replaced_and_the_run_completes(
    name: str,
    exits: list[int],
    isolated: int,
    kafka_bootstrap: str,
    new_app: Callable[[int], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    target = "tests.crash.blockers:app"
    scene = Scene(kafka_bootstrap, new_app(1), 1, tmp_path / "tally", target)
    scene.set_environment(monkeypatch)

    async def block() -> RunStory:
        async with scene.supervised("only", options=EngineOptions(stale_loop_s=STALE_LOOP_S)):
            scene.emit([(name, None)])
            (run,) = (await scene.wait_ended(1)).runs.values()
            return run

    run = asyncio.run(block())

    assert run.endings == ["RunCompleted"]
    assert (run.lost, run.failed, run.isolated) == (len(exits), 0, isolated)
    replaced = [r for r in caplog.records if r.message == "worker process ended, replacing it"]
    assert [getattr(record, "exit_code", None) for record in replaced] == exits
