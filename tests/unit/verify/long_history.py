"""A long history in files, to measure a check with: runs of ten steps, some attempts in vain.

python -m tests.unit.verify.long_history FOLDER --events 1000000
stepfold log verify research --from FOLDER
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stepfold.core import events as e
from stepfold.core.ids import Epoch, Position, run_id_of, short_topic_id
from stepfold.journal.codec import encode_event, event_headers, event_run_id
from stepfold.journal.port import Extent, LogRecord
from stepfold.verify.export import write_partition
from tests.unit.verify.logs import APP, START_MS, completed, failed, run_completed, started

PARTITIONS = 8
STEPS = 10
RUNS_AT_ONCE = 50
RETRIED = 20
"""One step in so many fails at first."""
INBOX_ID = "inbox-topic-id"
EPOCH = Epoch(0, 2**62 + 4711)


class LongHistory:
    """One partition; runs are interleaved, as an owner's are."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.records: list[LogRecord] = []
        self.inbox: list[LogRecord] = []

    def fill(self, events: int) -> None:
        self._claim()
        self._open()
        while len(self.records) < events:
            self._runs(RUNS_AT_ONCE)

    def write(self, folder: Path) -> None:
        kinds = (("history", "history-topic-id", self.records), ("inbox", INBOX_ID, self.inbox))
        for role, topic_id, records in kinds:
            topic = f"{APP}.{role}"
            path = folder / f"{topic}-{self.partition}.records"
            extent = Extent(topic_id, 0, len(records), len(records))
            write_partition(path, topic, self.partition, extent, [records])

    def _runs(self, count: int) -> None:
        runs = [self._accept() for _ in range(count)]
        for step in range(STEPS):
            name = f"search#{step + 1}" if step else "search"
            for run_id in runs:
                self._append(started(run_id, name))
            for number, run_id in enumerate(runs):
                self._end_step(run_id, name, in_vain=number % RETRIED == 0)
        for run_id in runs:
            self._append(run_completed(run_id))

    def _end_step(self, run_id: str, name: str, *, in_vain: bool) -> None:
        if in_vain:
            self._append(failed(run_id, name, next_at=self._now))
            self._append(started(run_id, name, 2))
        self._append(completed(run_id, name, 2 if in_vain else 1))

    def _accept(self) -> str:
        value = b'{"name": "agent/run", "data": {"query": "why"}}'
        offset = len(self.inbox)
        self.inbox.append(
            LogRecord(f"{APP}.inbox", self.partition, offset, 0, self._now, None, value, ())
        )
        run_id = run_id_of(self.partition, short_topic_id(INBOX_ID), offset)
        self._append(
            e.RunAccepted(
                source=Position(INBOX_ID, self.partition, offset, 0),
                run_id=run_id,
                app=APP,
                event_name="agent/run",
                event_id=f"{APP}.inbox/{self.partition}/{offset}",
                payload=b'{"query": "why"}',
                payload_encoding="json",
                key_id="",
                runs=(e.RunStart(run_id, "agent", "hash", "acme", "", 0),),
            )
        )
        return run_id

    def _claim(self) -> None:
        claim = e.Claimed(
            prev_epoch_offset=-1,
            prev_epoch_nonce=0,
            nonce=EPOCH.nonce,
            worker_id="worker-1",
            host="host",
            pid=1,
            build="",
            fold_version=1,
            closes_last_seq=-1,
            closes_last_offset=-1,
            unsafe=False,
        )
        self._write(claim, Epoch(-1, 0), -1)

    def _open(self) -> None:
        self._append(
            e.ShardOpened(
                app=APP,
                history_topic_id="history-topic-id",
                inbox_topic_id=INBOX_ID,
                control_topic_id="control-topic-id",
                partitions=PARTITIONS,
                fold_version=1,
                created_by="worker-1",
            )
        )
        self._append(
            e.IntakeOpened(
                topic=f"{APP}.inbox",
                topic_id=INBOX_ID,
                partition=self.partition,
                start_offset=0,
            )
        )

    def _append(self, event: e.Event) -> None:
        self._write(event, EPOCH, len(self.records) - 1)

    def _write(self, event: e.Event, epoch: Epoch, seq: int) -> None:
        offset, now = len(self.records), self._now
        value = encode_event(event, epoch=epoch, seq=seq, at=now, tenant="acme")
        headers = event_headers(event, epoch, seq)
        key = event_run_id(event).encode()
        record = LogRecord(f"{APP}.history", self.partition, offset, 0, now, key, value, headers)
        self.records.append(record)

    @property
    def _now(self) -> int:
        return START_MS + len(self.records)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--events", type=int, default=1_000_000)
    given = arguments.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    written = 0
    for partition in range(PARTITIONS):
        history = LongHistory(partition)
        history.fill(given.events // PARTITIONS)
        history.write(given.folder)
        written += len(history.records)
    sys.stdout.write(f"{written} records of history in {given.folder}\n")


if __name__ == "__main__":
    main()
