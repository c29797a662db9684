"""Checks all shards of an app, several at a time, each process with a share of its own."""

from __future__ import annotations

import gc
import heapq
import multiprocessing
import os
import signal
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple, TypeAlias

from stepfold.core.errors import NotFoundError, StepfoldError
from stepfold.journal.port import Scan
from stepfold.verify.checker import ShardChecker
from stepfold.verify.deliveries import Settled, check_deliveries
from stepfold.verify.report import Report, merged
from stepfold.verify.sources import check_sources
from stepfold.verify.story import ShardStory

RECORDS_PER_PROCESS_MIN = 50_000
"""A further process is worth its start, of a third of a second, from so many records on."""

Answer: TypeAlias = "Mapping[int, Report] | StepfoldError"


class Verified(NamedTuple):
    report: Report
    seconds: float
    processes: int


def verify_app(scan: Scan, app: str, *, processes: int | None = None) -> Verified:
    """Check every partition of the app's history that the scan has, and their sources.

    processes: None: as many as this machine has cores and the log is long for.
    """
    begun = time.perf_counter()
    history = f"{app}.history"
    extents = {p: scan.extent(history, p) for p in history_partitions(scan, app)}
    sizes = {p: extent.end - extent.first for p, extent in extents.items()}
    wanted = processes or min(
        os.cpu_count() or 1, 1 + sum(sizes.values()) // RECORDS_PER_PROCESS_MIN
    )
    shares = _shares(sizes, wanted)
    if len(shares) == 1:
        found = verify_shards(scan, app, shares[0])
    else:
        found = _verify_in_processes(scan, app, shares)
    settled = {p: Settled(found[p], extents[p].settled) for p in sorted(found)}
    for partition, violation in check_deliveries(app, settled):
        found[partition].add(violation)
    report = merged(found[partition] for partition in sorted(found))
    return Verified(report, time.perf_counter() - begun, len(shares))


def history_partitions(scan: Scan, app: str) -> Sequence[int]:
    """Raises NotFoundError when there are none."""
    found = scan.partitions(f"{app}.history")
    if not found:
        raise NotFoundError(
            f"there is no history of app {app!r}: nothing holds a partition of {app}.history;"
            " check the name, or create its topics with `stepfold topics apply`"
        )
    return found


def verify_shards(scan: Scan, app: str, partitions: Sequence[int]) -> dict[int, Report]:
    return {partition: verify_shard(scan, app, partition) for partition in partitions}


def verify_shard(scan: Scan, app: str, partition: int) -> Report:
    history = f"{app}.history"
    extent = scan.extent(history, partition)
    checker = ShardChecker(ShardStory(app, partition, extent.topic_id))
    for records in scan.read(history, partition, extent.first, extent.end):
        checker.take_all(records)
    checker.finish()
    check_sources(checker, scan)
    return checker.report


def _shares(sizes: Mapping[int, int], wanted: int) -> list[list[int]]:
    """Partitions dealt out, the longest first, to whoever has the least so far."""
    count = max(1, min(wanted, len(sizes)))
    loads = [(0, number) for number in range(count)]
    shares: list[list[int]] = [[] for _ in range(count)]
    for partition in sorted(sizes, key=lambda p: -sizes[p]):
        load, number = heapq.heappop(loads)
        shares[number].append(partition)
        heapq.heappush(loads, (load + sizes[partition], number))
    return shares


def _verify_in_processes(
    scan: Scan, app: str, shares: Sequence[Sequence[int]]
) -> dict[int, Report]:
    # Spawned: a Kafka client does not survive a fork. No pool: its processes would stay
    # behind if this one were killed; these end when nobody takes their answer.
    context = multiprocessing.get_context("spawn")
    running: dict[Any, BaseProcess] = {}
    found: dict[int, Report] = {}
    try:
        for share in shares:
            ours, theirs = context.Pipe(duplex=False)
            work = (theirs, scan, app, share)
            process: BaseProcess = context.Process(target=_work, args=work, daemon=True)
            process.start()
            running[ours] = process
            theirs.close()
        while running:
            for ready in wait(list(running)):
                found.update(_answer_of(ready, running[ready]))
                running.pop(ready).join()
    finally:
        for process in running.values():
            process.terminate()
    return found


def _answer_of(ready: Any, process: BaseProcess) -> Mapping[int, Report]:
    try:
        answer: Answer = ready.recv()
    except EOFError:
        process.join()
        raise StepfoldError(
            f"a process of the check ended with code {process.exitcode} before it had answered;"
            " with --processes 1 it is done in this one, and says why"
        ) from None
    if isinstance(answer, StepfoldError):
        raise answer
    return answer


def _work(answers: Any, scan: Scan, app: str, partitions: Sequence[int]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    gc.disable()  # what is remembered has no cycles, and to look for some costs 7 %
    try:
        answer: Answer = verify_shards(scan, app, partitions)
    except StepfoldError as error:
        answer = error
    answers.send(answer)
