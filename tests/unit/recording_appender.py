"""An appender that holds what was appended until the test reports on it."""

from __future__ import annotations

from stepfold.core import events as e
from stepfold.journal.codec import decode_event
from stepfold.journal.port import Headers, Report, ReportSink


class RecordingAppender:
    def __init__(self) -> None:
        self.values: list[bytes] = []
        self.sinks: list[ReportSink] = []

    def append(
        self,
        topic: str,
        partition: int,
        key: bytes,
        value: bytes,
        headers: Headers,
        on_report: ReportSink,
    ) -> None:
        self.values.append(value)
        self.sinks.append(on_report)

    def renew(self, reason: str) -> None:
        for sink in self.sinks:
            sink(Report(None, 0, reason))

    def report(self, number: int, offset: int | None, error: str | None = None) -> None:
        self.sinks[number](Report(offset, 1_000, error))

    @property
    def events(self) -> list[e.Event]:
        return [decode_event(value, 0).event for value in self.values]

    @property
    def seqs(self) -> list[int]:
        return [decode_event(value, 0).seq for value in self.values]
