"""kill -9 at random moments, and the promises read from the log afterwards."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from stepfold.engine.supervisor import Supervisor
from stepfold.local import LocalKafka
from tests.conftest import make_app
from tests.crash.harness import Scene, check_all_kept
from tests.log_checks import Story

PARTITIONS = 4
RUNS = 50
KILLS = 20
ROUNDS = 150
"""So many steps that no run is over before the last kill."""
KILLS_WITH_BROKER = 6
ROUNDS_WITH_BROKER = 120
SEED = 20261124


async def kill_again_and_again(supervisor: Supervisor, kills: int) -> None:
    """SIGKILL a worker process, and wait until another one is in its place."""
    choose = random.Random(SEED)
    for _ in range(kills):
        await asyncio.sleep(choose.uniform(0.5, 1.8))
        await supervisor.wait_running()
        os.kill(choose.choice(supervisor.pids), signal.SIGKILL)


@pytest.mark.timeout(240)
def test_no_crash_of_a_worker_loses_a_run_or_repeats_a_completed_step(
    kafka_bootstrap: str,
    new_app: Callable[[int], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(kafka_bootstrap, new_app(PARTITIONS), PARTITIONS, tmp_path / "tally")
    scene.set_environment(monkeypatch)

    async def crash() -> Story:
        async with scene.supervised("only") as supervisor:
            scene.send(RUNS, ROUNDS)
            await kill_again_and_again(supervisor, KILLS)
            assert (await scene.story()).ended < RUNS, "no run was left for the last kill"
            return await scene.wait_ended(RUNS)

    check_all_kept(asyncio.run(crash()), RUNS, scene, ROUNDS)


@pytest.mark.timeout(240)
def test_death_of_a_broker_among_deaths_of_workers_loses_nothing(
    kafka_three: LocalKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = kafka_three.status().bootstrap_servers
    app = make_app(servers, partitions=PARTITIONS, replication=3)
    scene = Scene(servers, app, PARTITIONS, tmp_path / "tally")
    scene.set_environment(monkeypatch)

    async def crash() -> Story:
        async with scene.supervised("only", processes=2) as supervisor:
            scene.send(RUNS, ROUNDS_WITH_BROKER)
            await kill_again_and_again(supervisor, KILLS_WITH_BROKER // 2)
            await asyncio.to_thread(kafka_three.kill_broker, 1)
            await kill_again_and_again(supervisor, KILLS_WITH_BROKER // 2)
            assert (await scene.story()).ended < RUNS, "no run was left for the last kill"
            await asyncio.to_thread(kafka_three.start_broker, 1)
            return await scene.wait_ended(RUNS)

    check_all_kept(asyncio.run(crash()), RUNS, scene, ROUNDS_WITH_BROKER)
