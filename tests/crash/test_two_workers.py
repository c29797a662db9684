"""Two workers share the shards: one dies, one freezes, one is told to go."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.harness import WAIT_S, Scene, check_all_kept
from tests.log_checks import Story

PARTITIONS = 4
RUNS = 40
ROUNDS = 30
FROZEN_S = 14.0
"""Beyond the session timeout of 10 s, so that the group gives the shards away."""
DRAIN_MAX_S = 25.0


@pytest.fixture
def scene(
    kafka_bootstrap: str,
    new_app: Callable[[int], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Scene:
    made = Scene(kafka_bootstrap, new_app(PARTITIONS), PARTITIONS, tmp_path / "tally")
    return made.set_environment(monkeypatch)


@pytest.mark.timeout(180)
def test_shards_of_a_host_that_dies_are_taken_over_by_the_other(scene: Scene) -> None:
    async def crash() -> Story:
        async with scene.supervised("stays"):
            dying = await scene.program("dies")
            await scene.wait_claims(PARTITIONS + 1)
            scene.send(RUNS, ROUNDS)
            await scene.wait_attempts(RUNS)
            dying.kill()
            await dying.wait()
            return await scene.wait_ended(RUNS)

    check_all_kept(asyncio.run(crash()), RUNS, scene, ROUNDS)


@pytest.mark.timeout(180)
def test_worker_frozen_beyond_its_session_does_no_harm_when_it_goes_on(scene: Scene) -> None:
    async def crash() -> Story:
        async with scene.supervised("stays"), scene.supervised("freezes") as freezing:
            await scene.wait_claims(PARTITIONS + 1)
            scene.send(RUNS, ROUNDS)
            await scene.wait_attempts(RUNS)
            (pid,) = freezing.pids
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(FROZEN_S)
            os.kill(pid, signal.SIGCONT)
            scene.send(RUNS, ROUNDS)
            return await scene.wait_ended(2 * RUNS)

    check_all_kept(asyncio.run(crash()), 2 * RUNS, scene, ROUNDS)


@pytest.mark.timeout(180)
def test_worker_that_is_told_to_go_drains_and_loses_no_attempt(scene: Scene) -> None:
    async def crash() -> tuple[Story, float, int]:
        going = await scene.program("goes")
        scene.send(RUNS, ROUNDS)
        await scene.wait_attempts(RUNS)
        begun = time.monotonic()
        going.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(going.wait(), WAIT_S)
        took_s = time.monotonic() - begun
        async with scene.supervised("comes"):
            return await scene.wait_ended(RUNS), took_s, code

    story, took_s, code = asyncio.run(crash())

    check_all_kept(story, RUNS, scene, ROUNDS)
    assert sum(run.lost for run in story.runs.values()) == 0
    assert took_s < DRAIN_MAX_S
    assert code == 0
