"""One shard from candidate to leader and back: fold, lease, claim, fold to the claim, lead.

Section 3 of the protocol. Membership in the group only makes this process a candidate;
what it may do follows from the log alone. Whatever goes wrong while leading (a proof
that fails, a newer claim, a client that died) has one answer: drop the state, read the
log, and claim again if the group still names this process. Attempts that run meanwhile
go on, and are adopted when the log shows that nobody else led in between.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from stepfold.core import events as e
from stepfold.core.errors import CodecError
from stepfold.core.ids import Epoch
from stepfold.core.shard import Shard, Verdict, begin_at, evolve
from stepfold.engine.claiming import append_claim, new_claim
from stepfold.engine.guard import Guard
from stepfold.engine.intake import Intake
from stepfold.engine.leader import Leader
from stepfold.engine.surroundings import Surroundings
from stepfold.journal.codec import decode_event
from stepfold.journal.port import (
    Appender,
    AppTopics,
    Batch,
    Lease,
    Membership,
    Reader,
    ShardId,
)
from stepfold.journal.writer import HistoryWriter
from stepfold.sdk.app import App

logger = logging.getLogger(__name__)

LEASE_RETRY_S = 0.2
LEASE_TRIES_MAX = 25
CLAIM_BACKOFF_MIN_S = 0.2
CLAIM_BACKOFF_MAX_S = 5.0
FOLD_SLICE_RECORDS = 2_000
"""Records folded before the loop gets its turn."""
PROOF_TIMEOUT_S = 2.0
"""For proofs, before and after the attempts' grace of 20 s: all of it stays below 25 s."""
PROOF_LOOK_S = 0.005
RELIEF_INTERVAL_S = 0.2


class ShardState(Enum):
    """Section 3 of the protocol, as far as this process takes part in it."""

    FOLDING = "folding"
    CLAIMING = "claiming"
    LEADING = "leading"
    DRAINING = "draining"
    LIMBO = "limbo"
    FAULTED = "faulted"
    UNASSIGNED = "unassigned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The parts of the journal that an owner uses."""

    appender: Appender
    reader: Reader
    membership: Membership
    topics: AppTopics


class ShardOwner:
    def __init__(
        self, *, shard_id: ShardId, app: App, log: Log, around: Surroundings, build: str
    ) -> None:
        self.shard_id = shard_id
        self.state = ShardState.UNASSIGNED
        self.fault: str | None = None
        self.leader: Leader | None = None
        self._app = app
        self._log = log
        self._around = around
        self._build = build
        self._loop = asyncio.get_running_loop()
        self._batches: asyncio.Queue[Batch] = asyncio.Queue()
        self._shard = Shard()
        self._position = 0
        self._nonce = -1
        self._is_claim_folded = False
        self._uncertain: asyncio.Future[str] | None = None
        self._intakes: list[Intake] = []

    async def run(self) -> None:
        """Own the shard until cancelled; claims again whenever a proof fails."""
        failures = 0
        try:
            while True:
                if await self._become_leader():
                    failures = 0
                    reason = await self._lead()
                    logger.warning("shard is folded again", extra=self._extra(reason=reason))
                failures += 1
                backoff = min(CLAIM_BACKOFF_MIN_S * 2**failures, CLAIM_BACKOFF_MAX_S)
                # Two candidates that lost the same race must not meet again.
                await asyncio.sleep(backoff * self._around.dice.uniform(0.5, 1.0))
        except (CodecError, ShardFaultError) as error:
            self.fault = str(error)
            self.state = ShardState.FAULTED
            logger.error("shard is faulted", extra=self._extra(reason=self.fault))
        finally:
            self._stop_leading()

    async def drain(self, grace_s: float) -> None:
        """Let running attempts end, record them, and say that the shard is free (rule R14)."""
        leader = self.leader
        if leader is None or self.state is not ShardState.LEADING:
            return
        self.state = ShardState.DRAINING
        leader.drain()
        for intake in self._intakes:
            intake.close()
        # An attempt whose start is not proven yet is not running yet, but it will.
        await self._wait_proven(leader.writer)
        await self._around.executor.wait_idle(self.shard_id, grace_s)
        if leader.writer.is_certain:
            leader.append(e.Drained(reason="release", open_attempts=leader.open_attempts))
        await self._wait_proven(leader.writer)

    async def _wait_proven(self, writer: HistoryWriter) -> None:
        deadline = self._loop.time() + PROOF_TIMEOUT_S
        while writer.is_certain and writer.unproven:
            if self._loop.time() > deadline:
                return
            await asyncio.sleep(PROOF_LOOK_S)

    # Becoming the leader

    async def _become_leader(self) -> bool:
        self.state = ShardState.FOLDING
        history = self._log.topics.history.name
        try:
            await self._fold_all()
            self._check_opened()
            if not await self._hold_lease():
                return False
            self.state = ShardState.CLAIMING
            epoch = await self._claim()
            if epoch is None:
                return False
        finally:
            self._log.reader.close(history, self.shard_id.partition)
        # From a callback: the loops of runs must not be entered from inside a task.
        started: asyncio.Future[None] = self._loop.create_future()
        self._loop.call_soon(self._start_leading_then, epoch, started)
        await started
        return True

    async def _fold_all(self) -> None:
        """Fold to the end, from the last checkpoint if its hint holds (rule R23)."""
        hint = await self._log.membership.checkpoint(self.shard_id.partition)
        for start in (hint, 0) if hint else (0,):
            self._open_history(start)
            await self._fold_until(lambda batch: batch.at_end)
            if not self._shard.is_partial:
                return
            logger.warning("no checkpoint ends behind it", extra=self._extra(offset=start))
        raise ShardFaultError(
            f"history of {self.shard_id} begins at {self._shard.begun_at}, and no checkpoint behind"
            " that shows all open runs: records were deleted that were needed; restore the topic"
        )

    def _open_history(self, offset: int) -> None:
        # Partial even if there is nothing behind the offset: an empty state would be a lie.
        self._shard, self._position = Shard(begun_at=offset, is_partial=offset > 0), offset
        self._batches = batches = asyncio.Queue[Batch]()
        history, partition = self._log.topics.history.name, self.shard_id.partition
        self._log.reader.open(history, partition, offset, batches.put_nowait)

    async def _fold_until(self, done: Callable[[Batch], bool]) -> None:
        while True:
            batch = await self._batches.get()
            begin = batch.position if batch.position > self._position else 0
            is_begun = self._shard.chain.last_offset >= 0
            is_elsewhere = begin > 0 or (self._position > 0 and not is_begun)
            if batch.error is not None and is_elsewhere:
                # Trimmed up to there, or the hint is of another time: both show in the fold.
                self._open_history(begin)
                continue
            if batch.error is not None:
                raise ShardFaultError(
                    f"history of {self.shard_id} cannot be read at {self._position}:"
                    f" {batch.error}; restore the topic, or `stepfold topics diff`"
                )
            for start in range(0, len(batch.records), FOLD_SLICE_RECORDS):
                for record in batch.records[start : start + FOLD_SLICE_RECORDS]:
                    self._fold(record.offset, record.value or b"")
                await asyncio.sleep(0)
            self._position = max(self._position, batch.position)
            if done(batch):
                return

    def _fold(self, offset: int, value: bytes) -> None:
        recorded = decode_event(value, offset)
        event = recorded.event
        self._is_claim_folded |= isinstance(event, e.Claimed) and event.nonce == self._nonce
        if self._shard.is_partial and self._shard.chain.last_offset < 0:
            begin_at(self._shard, recorded)
        verdict = self._shard.chain.judge(recorded)
        if verdict in (Verdict.APPLIES, Verdict.CLAIMS):
            evolve(self._shard, recorded.event, recorded.at, self._shard.chain.epoch)
        self._position = offset + 1

    def _check_opened(self) -> None:
        """Rule R2: the topics are still those that the history was opened with."""
        opened, topics = self._shard.opened, self._log.topics
        if opened is None:
            return
        was = (opened.history_topic_id, opened.inbox_topic_id, opened.control_topic_id)
        now = (topics.history.topic_id, topics.inbox.topic_id, topics.control.topic_id)
        if was != now or opened.partitions != topics.history.partitions:
            raise ShardFaultError(
                f"the topics of app {self.shard_id.app!r} are not those that its history was opened"
                f" with (ids {was}, {opened.partitions} partitions; now {now},"
                f" {topics.history.partitions}): a topic was re-created or changed; restore it"
            )

    async def _hold_lease(self) -> bool:
        for _ in range(LEASE_TRIES_MAX):
            taken = self._shard.intake.get(
                (self._log.topics.inbox.topic_id, self.shard_id.partition)
            )
            offset = None if taken is None else taken.offset + 1
            lease = await self._log.membership.check_lease(self.shard_id.partition, offset)
            if lease is not Lease.UNKNOWN:
                return lease is Lease.HELD
            await asyncio.sleep(LEASE_RETRY_S)
        return False

    async def _claim(self) -> Epoch | None:
        """Append a claim and fold up to it; None when it turned out void."""
        topics, chain = self._log.topics, self._shard.chain
        claim = new_claim(chain, self._around, build=self._build, unsafe=topics.unsafe)
        self._nonce, self._is_claim_folded = claim.nonce, False
        report = await append_claim(
            self._log.appender,
            topics.history.name,
            self.shard_id.partition,
            claim,
            self._around,
        )
        if report.offset is None:
            return None
        # Before anything is decided here: this machine's clock may be minutes off, and all
        # timers that seem to be due by it would fire.
        self._around.clock.observe(report.timestamp)
        # Where it landed only the log knows for sure. A report may name another place, and
        # one that nobody ever writes to would be waited for without end.
        await self._fold_until(lambda _: self._is_claim_folded)
        epoch = self._shard.chain.epoch
        # It is partial if what was folded before was trimmed while the claim was under way.
        return epoch if epoch.nonce == claim.nonce and not self._shard.is_partial else None

    # Leading

    def _start_leading_then(self, epoch: Epoch, started: asyncio.Future[None]) -> None:
        if started.cancelled():
            return  # the shard was lost or revoked before it was this callback's turn
        try:
            self._start_leading(epoch)
        except Exception as error:  # noqa: BLE001 - whoever awaits it raises it
            started.set_exception(error)
        else:
            started.set_result(None)

    def _start_leading(self, epoch: Epoch) -> None:
        self._uncertain = self._loop.create_future()
        topics = self._log.topics
        writer = HistoryWriter(
            appender=self._log.appender,
            topic=topics.history.name,
            partition=self.shard_id.partition,
            epoch=epoch,
            on_uncertain=self._is_uncertain,
            on_proof=self._around.clock.observe,
            on_error=self._broke,
        )
        guard = Guard(self._broke)
        self.leader = leader = Leader(
            shard_id=self.shard_id,
            topics=topics,
            app=self._app,
            shard=self._shard,
            writer=writer,
            around=self._around,
            appender=self._log.appender,
            note_checkpoint=self._note_checkpoint,
            guard=guard,
        )
        if self._shard.opened is None:
            leader.append(self._opening())
        leader.start()
        self._intakes = [
            Intake(leader, source, self._log.reader, self._log.appender, guard)
            for source in (topics.control, topics.inbox)
        ]
        for intake in self._intakes:
            intake.open()
        self.state = ShardState.LEADING
        logger.info("shard is led here", extra=self._extra(runs=len(self._shard.runs)))

    def _note_checkpoint(self, lwm: int) -> None:
        self._log.membership.note_checkpoint(self.shard_id.partition, lwm)

    def _opening(self) -> e.ShardOpened:
        topics = self._log.topics
        return e.ShardOpened(
            app=self.shard_id.app,
            history_topic_id=topics.history.topic_id,
            inbox_topic_id=topics.inbox.topic_id,
            control_topic_id=topics.control.topic_id,
            partitions=topics.history.partitions,
            fold_version=e.FOLD_VERSION,
            created_by=self._around.worker_id,
        )

    async def _lead(self) -> str:
        """Until a proof fails; says why."""
        assert self._uncertain is not None
        committed = -1
        try:
            while True:
                done, _ = await asyncio.wait((self._uncertain,), timeout=RELIEF_INTERVAL_S)
                if done:
                    return self._uncertain.result()
                for intake in self._intakes:
                    intake.relieve()
                if self.leader is not None:
                    self.leader.relieve()
                    self.leader.checkpoints.begin_if_due()
                inbox = self._intakes[-1].position
                leader = self.leader
                if leader is not None and not leader.writer.unproven and inbox != committed:
                    committed = inbox
                    self._log.membership.commit(self.shard_id.partition, inbox)
        finally:
            self._stop_leading()

    def _is_uncertain(self, reason: str) -> None:
        if self._uncertain is not None and not self._uncertain.done():
            self._uncertain.set_result(reason)

    def _broke(self, error: Exception) -> None:
        """What no rule foresees: to go on could skip what it was about, so nobody does."""
        logger.error("shard broke", extra=self._extra(), exc_info=error)
        if self._uncertain is not None and not self._uncertain.done():
            why = f"{type(error).__name__}: {error}"
            self._uncertain.set_exception(
                ShardFaultError(
                    f"{self.shard_id} cannot be led: {why}; report it with the stack in the log of"
                    " this worker, and restart the worker to try again"
                )
            )

    def _stop_leading(self) -> None:
        if self.state is not ShardState.FAULTED:
            self.state = ShardState.LIMBO
        for intake in self._intakes:
            intake.close()
        self._intakes = []
        if self.leader is not None:
            self.leader.stop()
            self.leader = None

    def _extra(self, **more: object) -> dict[str, object]:
        return {"app": self.shard_id.app, "partition": self.shard_id.partition, **more}


class ShardFaultError(Exception):
    """The history does not allow this process to lead the shard; a person has to look."""
