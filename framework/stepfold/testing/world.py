"""What the engine runs on in a sandbox: a log in memory, and attempts on the test's clock."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from functools import partial

from stepfold.core.errors import KafkaError
from stepfold.engine.execution import Result, TimedOut
from stepfold.engine.executor import AttemptKey, Executor
from stepfold.engine.places import ATTEMPTS_RUNNING_MAX, Places
from stepfold.journal.memory import MemoryCluster, MemoryJournal
from stepfold.journal.port import Appender, AppTopics, Headers, Report, ReportSink, TopicFacts
from stepfold.sdk.calls import StepCall
from stepfold.testing.clock import ManualClock

TOPIC_ID_LENGTH = 22


class SandboxCluster(MemoryCluster):
    """Topics have ids that follow from their names: a test sees the same run ids each time."""

    def create_topic(self, name: str, partitions: int) -> TopicFacts:
        facts = super().create_topic(name, partitions)
        topic_id = hashlib.sha256(name.encode()).hexdigest()[:TOPIC_ID_LENGTH]
        self._topics[name] = facts._replace(topic_id=topic_id)
        return self._topics[name]


class CountingAppender:
    """An Appender that knows how many of its appends have no report yet."""

    def __init__(self, inner: Appender) -> None:
        self.outstanding = 0
        self._inner = inner

    def append(
        self,
        topic: str,
        partition: int,
        key: bytes,
        value: bytes,
        headers: Headers,
        on_report: ReportSink,
    ) -> None:
        self.outstanding += 1
        report = partial(self._reported, on_report)
        self._inner.append(topic, partition, key, value, headers, report)

    def renew(self, reason: str) -> None:
        self._inner.renew(reason)

    def _reported(self, on_report: ReportSink, report: Report) -> None:
        try:
            on_report(report)
        finally:
            self.outstanding -= 1


class SandboxJournal:
    """A Journal on memory. Apps that are only sent to get their topics when they are looked for."""

    def __init__(self, cluster: SandboxCluster, member: str) -> None:
        self._cluster = cluster
        self._inner = MemoryJournal(cluster, member)
        self.appender = CountingAppender(self._inner.appender)
        self.reader = self._inner.reader
        self.membership = self._inner.membership
        self.close = self._inner.close
        self.kill = self._inner.kill

    async def topics(self, app: str) -> AppTopics:
        try:
            return self._cluster.topics(app)
        except KafkaError:
            return self._cluster.create_app(app, 1)


class ClockedExecutor(Executor):
    """Attempts time out when the test's clock says so."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: ManualClock) -> None:
        # No process dies of a step here; and who waits for real time would look idle.
        super().__init__(loop, places=Places(loop, suspects_first=ATTEMPTS_RUNNING_MAX))
        self._clock = clock
        self._expired: set[AttemptKey] = set()

    @property
    def is_ending(self) -> bool:
        """Whether attempts are being stopped, by their timeouts or because nobody wants them."""
        return bool(self._expired or self._cancelled)

    async def _outcome(self, key: AttemptKey, call: StepCall) -> Result:
        unlimited = replace(call, timeout_ms=None)
        if call.timeout_ms is None:
            return await super()._outcome(key, unlimited)
        attempt = asyncio.ensure_future(super()._outcome(key, unlimited))
        expired: asyncio.Future[None] = self._loop.create_future()

        def expire() -> None:
            self._expired.add(key)
            expired.set_result(None)

        alarm = self._clock.call_at(self._clock.now_ms() + call.timeout_ms, expire)
        try:
            await asyncio.wait((attempt, expired), return_when=asyncio.FIRST_COMPLETED)
            return attempt.result() if attempt.done() else TimedOut(call.timeout_ms)
        finally:
            alarm.cancel()
            attempt.cancel()
            await asyncio.wait((attempt,))
            self._expired.discard(key)
