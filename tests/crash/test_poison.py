"""Steps that kill their process: they are found and parked, and their neighbours are not harmed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from stepfold.core.decide import MAX_LOST
from stepfold.engine.process import EngineOptions
from stepfold.journal.scan import KafkaScan
from stepfold.verify.app import verify_app
from tests.crash.harness import CHECK_S, WAIT_S, Scene
from tests.crash.poison import HONEST_STEPS
from tests.log_checks import RunStory, Story

PARTITIONS = 4
HONEST_RUNS = 20
EVIDENCE = {
    "exits": ("exit code 3", "about to exit, of all things"),
    "crashes": ("signal 11 (SIGSEGV)", "crashes"),
    "eats_memory": ("ran out of the 256 MB", "MemoryError"),
}
POISON = ("poison/exit", "poison/crash", "poison/memory")
RESTARTS_MAX = 2 * len(POISON)
"""Each poison step may take its worker with it twice, before it gets a process of its own."""


async def wait_over(scene: Scene, ended: int, parked: int) -> Story:
    async with asyncio.timeout(WAIT_S):
        while True:
            story = await scene.story()
            if story.ended >= ended and len(parked_of(story)) >= parked:
                return story
            await asyncio.sleep(CHECK_S)


def parked_of(story: Story) -> list[RunStory]:
    return [run for run in story.runs.values() if run.parked]


@pytest.mark.timeout(180)
def test_poison_steps_are_parked_with_evidence_and_their_neighbours_complete(
    kafka_bootstrap: str,
    new_app: Callable[[int], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = "tests.crash.poison:app"
    scene = Scene(kafka_bootstrap, new_app(PARTITIONS), PARTITIONS, tmp_path / "tally", target)
    scene.set_environment(monkeypatch)

    async def crash() -> Story:
        async with scene.supervised("only", options=EngineOptions(isolated_memory_mb=256)):
            honest = [("honest", None)] * HONEST_RUNS
            scene.emit([*honest[::2], *((name, None) for name in POISON), *honest[1::2]])
            return await wait_over(scene, HONEST_RUNS, len(POISON))

    story = asyncio.run(crash())

    assert story.problems == []
    assert verify_app(KafkaScan(scene.servers, {}), scene.app).report.violations == []
    ended = [run for run in story.runs.values() if run.endings]
    assert [run.endings for run in ended] == [["RunCompleted"]] * HONEST_RUNS
    assert all(len(run.completed) == HONEST_STEPS for run in ended)
    assert sum(run.failed for run in ended) == 0
    assert {run.parked[0].step for run in parked_of(story)} == EVIDENCE.keys()
    for run in parked_of(story):
        (parked,) = run.parked
        assert (parked.reason, parked.lost) == ("poison", MAX_LOST)
        assert all(fact in parked.message for fact in EVIDENCE[parked.step]), parked.message
    assert 1 <= len(story.pids) - 1 <= RESTARTS_MAX
    executions = scene.tally.read_text().splitlines()
    assert len(executions) == len(set(executions)), "an attempt was executed twice"
