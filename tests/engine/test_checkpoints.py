"""Checkpoints: what is written, where a new owner begins, and hints that are wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from stepfold import App, step
from stepfold.core import events as e
from stepfold.core.run_state import run_state
from stepfold.core.shard import Shard, begin_at, fold
from stepfold.core.shard_state import shard_state
from stepfold.engine import leader
from stepfold.engine.checkpoints import SPANS_KEPT
from stepfold.journal import memory
from stepfold.journal.memory import MemoryCluster, MemoryReader
from stepfold.journal.port import Batch, BatchSink
from tests.engine.stage import APP, Member, Stage, play

EVENTS_BETWEEN = 40


def declare(app: App) -> None:
    @step
    async def double(number: int) -> int:
        return number * 2

    @app.workflow
    async def patient(number: int) -> int:  # pyright: ignore[reportUnusedFunction]
        doubled = await double(number)
        await step.sleep("nap", "1h")
        return doubled

    @app.workflow
    async def asks(number: int) -> list[int]:  # pyright: ignore[reportUnusedFunction]
        doubled = await double(number)
        answer = await step.wait_for_signal("answer", int, timeout="1h")
        return [doubled, answer or 0]

    @app.workflow
    async def busy(number: int) -> int:  # pyright: ignore[reportUnusedFunction]
        for _ in range(5):
            number = await double(number)
        return number


async def fill(there: Stage, checkpoints: int = 2) -> list[str]:
    """So many events that checkpoints are made, and runs that are open through all of them."""
    asking = [there.start("asks", number) for number in range(3)]
    there.start("patient", 1)
    await there.until(lambda: len(there.of(e.WaitOpened)) >= 3 and there.of(e.TimerSet))
    number = 0
    while len(there.of(e.CheckpointEnd)) < checkpoints:
        await there.end_of(there.start("busy", number, key=f"busy-{number}"))
        number += 1
    return asking


def folded(there: Stage, begin: int) -> Shard:
    shard = Shard()
    for record in there.decoded:
        if record.offset < begin:
            continue
        if begin > 0 and record.offset == begin:
            begin_at(shard, record)
        fold(shard, record)
    return shard


def shown(shard: Shard) -> tuple[object, ...]:
    runs = {run_id: run_state(run) for run_id, run in shard.runs.items()}
    chain = (shard.chain.epoch, shard.chain.next_seq, shard.chain.last_offset)
    return runs, shard_state(shard), chain, shard.lwm


def play_with_checkpoints(
    scene: Callable[[Stage], object], events_between: int = EVENTS_BETWEEN
) -> None:
    async def prepared(there: Stage) -> None:
        there.events_between_checkpoints = events_between
        there.join()
        result = scene(there)
        assert asyncio.iscoroutine(result)
        await result

    play(declare, prepared, join=False)


def test_fold_from_each_mark_is_the_fold_from_the_first_record() -> None:
    async def scene(there: Stage) -> None:
        await fill(there)
        there.signal(there.run_id_after(3), "answer", 3)
        await there.first(e.SignalBuffered)
        marks = [event.lwm for event in there.of(e.CheckpointEnd)]

        whole = folded(there, 0)

        assert len(marks) >= 2
        assert marks == sorted(marks)
        assert marks[-1] > 0
        for mark in marks:
            part = folded(there, mark)
            assert not part.is_partial
            assert shown(part) == shown(whole)

    play_with_checkpoints(scene)


def test_signal_that_came_before_its_run_is_behind_the_mark() -> None:
    async def scene(there: Stage) -> None:
        run_id = there.run_id_after(0)
        there.signal(run_id, "later", 7)
        await there.first(e.SignalBuffered)
        there.start("asks", 0)
        for number in range(4):
            await there.end_of(there.start("busy", number))
        # So few events that no run is so old that it would be written anew for its age.
        mark = (await there.first(e.CheckpointEnd)).lwm

        whole, part = folded(there, 0), folded(there, mark)

        assert [signal.name for signal in whole.runs[run_id].signals] == ["later"]
        assert mark > 0
        assert shown(part) == shown(whole)

    play_with_checkpoints(scene)


def test_open_runs_are_written_anew_only_when_their_record_is_far_back() -> None:
    async def scene(there: Stage) -> None:
        await fill(there, checkpoints=5)

        bases: dict[str, int] = {}
        gaps: list[int] = []
        for record in there.history:
            event = record.event
            if isinstance(event, e.RunSnapshot):
                gaps.append(record.offset - bases[event.run_id])
            if isinstance(event, e.RunSnapshot | e.RunAccepted):
                bases[event.run_id] = record.offset
        assert gaps
        assert min(gaps) >= SPANS_KEPT * EVENTS_BETWEEN

    play_with_checkpoints(scene)


def test_new_owner_begins_at_the_mark_and_goes_on_with_every_open_run() -> None:
    async def scene(there: Stage) -> None:
        asking = await fill(there)
        hint = there.cluster.group(APP).checkpoints[0]
        await there.members[0].kill()
        there.cluster.delete_records(there.topics.history.name, 0, hint)
        there.join("successor")

        for run_id in asking:
            there.signal(run_id, "answer", 7)
        results = [await there.result_of(run_id) for run_id in asking]

        assert hint > 0
        assert results == [[0, 7], [2, 7], [4, 7]]

    play_with_checkpoints(scene)


def test_idempotency_keys_are_known_behind_a_mark() -> None:
    async def scene(there: Stage) -> None:
        await fill(there)
        await there.members[0].kill()
        there.join("successor")

        there.start("busy", 0, key="busy-0")

        await there.first(e.RunDeduplicated)

    play_with_checkpoints(scene)


class TrimmedWhileRead(MemoryReader):
    """Of the history, records are deleted when the first of them were delivered."""

    def __init__(self, cluster: MemoryCluster, before: int) -> None:
        super().__init__(cluster, asyncio.get_running_loop())
        self._before: int | None = before
        self._trimmed = cluster

    def open(self, topic: str, partition: int, offset: int, sink: BatchSink) -> None:
        def take(batch: Batch) -> None:
            sink(batch)
            if topic == f"{APP}.history" and self._before is not None:
                self._trimmed.delete_records(topic, partition, self._before)
                self._before = None

        super().open(topic, partition, offset, take)


def test_history_that_is_trimmed_while_it_is_folded_is_folded_from_its_new_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "BATCH_RECORDS_MAX", 2)

    async def scene(there: Stage) -> None:
        asking = await fill(there)
        group = there.cluster.group(APP)
        await there.members[0].kill()
        mark = group.checkpoints.pop(0)
        successor = there.join("successor")
        successor.journal.reader = TrimmedWhileRead(there.cluster, mark)

        there.signal(asking[0], "answer", 7)

        assert await there.result_of(asking[0]) == [0, 7]
        assert there.cluster.log(there.topics.history.name, 0).low == mark > 2

    play_with_checkpoints(scene)


@pytest.mark.parametrize(
    "wrong", ["in the middle of a run", "beyond the end", "at the end", "after the mark"]
)
def test_hint_that_is_wrong_costs_a_fold_from_the_start_and_nothing_else(wrong: str) -> None:
    async def scene(there: Stage) -> None:
        asking = await fill(there)
        end = there.decoded[-1].offset
        mark = there.of(e.CheckpointEnd)[-1].lwm
        hints = {
            "in the middle of a run": 9,
            "beyond the end": end + 500,
            "at the end": end + 1,
            "after the mark": end - 1,
        }
        await there.members[0].kill()
        there.cluster.group(APP).checkpoints[0] = hints[wrong]
        successor: Member = there.join("successor")

        there.signal(asking[2], "answer", 7)

        assert await there.result_of(asking[2]) == [4, 7]
        assert successor.state is not None
        assert mark > 0

    play_with_checkpoints(scene)


def test_history_that_lacks_what_is_needed_faults_its_shard_visibly() -> None:
    async def scene(there: Stage) -> None:
        run_id = there.start("asks", 1)
        await there.first(e.WaitOpened, run_id)
        await there.members[0].kill()
        low = there.decoded[-1].offset
        there.cluster.delete_records(there.topics.history.name, 0, low)
        successor = there.join("successor")

        await there.until(
            lambda: successor.state is not None and successor.state.value == "faulted"
        )

        owner = next(iter(successor.worker.owners()))
        assert owner.fault is not None
        assert f"begins at {low}" in owner.fault

    async def alone() -> None:
        app = App(APP)
        declare(app)
        there = Stage(app)
        there.join()
        try:
            await scene(there)
        finally:
            await there.close()

    asyncio.run(alone())


def test_runs_that_only_wait_leave_the_memory_and_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leader, "LIVE_RUNS_MAX", 2)

    async def scene(there: Stage) -> None:
        asking = [there.start("asks", number) for number in range(10)]
        await there.until(lambda: len(there.of(e.WaitOpened)) >= 10)
        owner = there.members[0].worker.owners()[0]
        assert owner.leader is not None
        await there.until(lambda: owner.leader is not None and owner.leader.live_runs <= 2)

        for run_id in asking:
            there.signal(run_id, "answer", 7)

        assert [await there.result_of(run_id) for run_id in asking] == [
            [2 * number, 7] for number in range(10)
        ]

    play_with_checkpoints(scene)
