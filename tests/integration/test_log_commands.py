"""`stepfold log` on real Kafka, as its users run it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from stepfold import App, Client, Event, Retry, current_run, event, step
from stepfold.core import events as e
from stepfold.core.ids import parse_run_id
from stepfold.engine.worker import Worker
from stepfold.journal.codec import decode_event, encode_event
from stepfold.journal.kafka import KafkaJournal
from stepfold.journal.scan import KafkaScan
from tests.commands import Ended, begin, run

RUNS = 4
TIMEOUT_S = 40.0
FLUSH_S = 10.0
INTERRUPTED = 130


@dataclass(frozen=True)
class Played:
    """An app whose runs are over, and whose worker has left."""

    servers: str
    app: str
    run_id: str
    """Of a run that waited for a signal."""
    folder: Path

    def log(self, *arguments: str) -> Ended:
        return run("log", *arguments, "--bootstrap-servers", self.servers, cwd=self.folder)

    def verified(self, *arguments: str) -> dict[str, Any]:
        ended = self.log("verify", self.app, "--json", *arguments)
        facts: dict[str, Any] = json.loads(ended.out)
        assert ended.code == (1 if facts["violated"] else 0), ended.err
        return facts

    def append(self, partition: int, value: bytes) -> None:
        producer = Producer({"bootstrap.servers": self.servers})
        producer.produce(f"{self.app}.history", value, partition=partition)
        assert producer.flush(FLUSH_S) == 0


def declare(app: App) -> None:
    @step(retry=Retry(attempts=3, min_delay="10ms", jitter=0))
    async def flaky(number: int) -> int:
        if current_run().attempt == 1:
            raise ConnectionError("503 from the tool")
        return number * 2

    @app.workflow
    async def double(number: int) -> int:  # pyright: ignore[reportUnusedFunction]
        return await flaky(number)

    @app.workflow(on=event("test/go"))
    async def agent(number: int) -> list[Any]:  # pyright: ignore[reportUnusedFunction]
        found: list[Any] = await asyncio.gather(
            *(step.invoke("double", "double", number + more) for more in range(3))
        )
        await step.sleep("nap", "20ms")
        return [*found, await step.wait_for_signal("approval", bool, timeout="1h")]


async def play(servers: str, app: App) -> str:
    journal = KafkaJournal(
        bootstrap_servers=servers, config={}, instance_id=app.name, unsafe_dev=True
    )
    worker = Worker(journal, [app], worker_id="test")
    stopping = asyncio.Event()
    working = asyncio.create_task(worker.run(ready=lambda: None, stopping=stopping))
    async with Client(servers) as client, asyncio.timeout(TIMEOUT_S):
        receipts = [await client.send(app.name, Event("test/go", data=n)) for n in range(RUNS)]
        await client.send(app.name, Event("test/nobody"))
        handles = [(await receipt.runs())[0] for receipt in receipts]
        for handle in handles:
            await client.signal(handle.id, "approval", True)
        results = [await handle.result() for handle in handles]
    stopping.set()
    await working
    assert [result[0] for result in results] == [2 * n for n in range(RUNS)]
    return handles[0].id


@pytest.fixture
def played(kafka_bootstrap: str, new_app: Callable[[int], str], tmp_path: Path) -> Played:
    app = App(new_app(2))
    declare(app)
    producer = Producer({"bootstrap.servers": kafka_bootstrap})
    producer.produce(f"{app.name}.inbox", b"\xff neither JSON nor Avro", partition=0)
    assert producer.flush(FLUSH_S) == 0
    run_id = asyncio.run(play(kafka_bootstrap, app))
    return Played(kafka_bootstrap, app.name, run_id, tmp_path)


def test_log_of_real_runs_is_verified_from_kafka_and_from_files(played: Played) -> None:
    live = played.verified()
    exported = played.log("export", played.app, "--to", "saved")
    files = sorted(map(str, (played.folder / "saved").iterdir()))
    saved = played.verified("--from", *files)
    folder = played.verified("--from", "saved", "--processes", "2")

    assert exported.code == 0
    assert len(files) == 8
    assert live["runs"] == {"completed": RUNS * 4}
    assert live["triggers"] == {
        "accepted": RUNS * 4,
        "deduplicated": 0,
        "rejected": 1,
        "gaps": 0,
    }
    assert live["failures"] == RUNS * 3
    assert live["deliveries"] == {"decided": RUNS * 6, "taken": RUNS * 6}
    assert live["sources"]["checked"] >= RUNS * 8 + 2
    assert live["sources"]["pending"] == 0
    assert live["unchecked_kinds"] == {}
    assert live["violations"] == []
    for facts in (live, saved, folder):
        del facts["seconds"], facts["records_per_s"], facts["processes"]
    assert saved == folder == live


def test_forged_completion_is_reported_and_told(played: Played) -> None:
    """Written as the owner would write it: only what it says is wrong."""
    topic, partition = f"{played.app}.history", parse_run_id(played.run_id).partition
    scan = KafkaScan(played.servers, {})
    extent = scan.extent(topic, partition)
    records = [r for b in scan.read(topic, partition, 0, extent.end) for r in b]
    recorded = [decode_event(record.value or b"", record.offset) for record in records]
    last = recorded[-1]
    done = next(r.event for r in reversed(recorded) if isinstance(r.event, e.StepCompleted))
    forged = replace(done, payload=b'"forged"')
    played.append(partition, encode_event(forged, epoch=last.epoch, seq=last.seq + 1, at=last.at))

    verified = played.log("verify", played.app)
    told = played.log("tail", played.app, "--partition", str(partition), "-n", "1")

    assert verified.code == 1
    line, sentence = verified.out.splitlines()[:2]
    assert line == (
        f"I4 nothing-of-a-run-follows-its-end  {topic}/{partition}/{extent.end}"
        f"  {done.run_id} {done.step}"
    )
    assert sentence.strip().startswith("StepCompleted comes after the run ended at offset")
    assert verified.out.splitlines()[-1] == "1 violations"
    assert told.out.count("\n") == 1
    assert f"{partition}/{extent.end}" in told.out
    assert f"StepCompleted  {done.run_id} {done.step}#" in told.out
    assert "payload=forged" in told.out


def test_one_run_is_told_from_its_acceptance_to_its_end(played: Played) -> None:
    ended = played.log("tail", played.app, "--run", played.run_id, "--json")
    records = [json.loads(line) for line in ended.out.splitlines()]

    assert ended.code == 0
    assert [records[0]["kind"], records[-1]["kind"]] == ["RunAccepted", "RunCompleted"]
    assert {record["run_id"] for record in records} == {played.run_id}
    assert {record["void"] for record in records} == {None}
    resolved = next(record for record in records if record["kind"] == "WaitResolved")
    assert resolved["fields"]["payload"] is True
    assert records[0]["fields"]["source"]["partition"] == records[0]["partition"]


def test_tail_follows_and_shows_what_it_cannot_read(played: Played) -> None:
    following = begin(
        *("log", "tail", played.app, "--follow", "--lines", "0"),
        *("--bootstrap-servers", played.servers),
        cwd=played.folder,
    )
    with following as program:
        assert program.stderr is not None
        assert program.stdout is not None
        assert program.stderr.readline().startswith("following")

        played.append(1, b"somebody else's")
        line = program.stdout.readline()
        os.killpg(program.pid, signal.SIGINT)

        assert "UNREADABLE" in line
        assert b"somebody else's".hex() in line
        assert program.wait(TIMEOUT_S) == INTERRUPTED


def test_whole_history_is_told_in_the_order_of_time(played: Played) -> None:
    everything = played.log("tail", played.app, "--from-start", "--json")
    last = played.log("tail", played.app, "--json", "-n", "2")
    records = [json.loads(line) for line in everything.out.splitlines()]

    assert len(records) == played.verified()["records"]
    assert [record["at"] for record in records] == sorted(record["at"] for record in records)
    assert len(last.out.splitlines()) == 4


def test_app_that_is_not_there_is_not_found(played: Played) -> None:
    for command in (("verify",), ("tail",), ("export", "--to", "nowhere")):
        ended = played.log(command[0], "no-such-app", *command[1:])

        assert ended.code == 5
        assert "there is no history of app 'no-such-app'" in ended.err


def test_files_that_are_no_exports_are_refused(played: Played) -> None:
    (played.folder / "notes.txt").write_text("no export")

    missing = played.log("verify", played.app, "--from", "missing.records")
    other = played.log("verify", played.app, "--from", "notes.txt")
    misplaced = played.log("verify", played.app, "notes.txt")

    assert (missing.code, other.code, misplaced.code) == (3, 3, 2)
    assert "missing.records cannot be read" in missing.err
    assert "is no exported partition" in other.err
    assert "put --from before" in misplaced.err
