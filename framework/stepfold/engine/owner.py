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
import math
from dataclasses import dataclass
from functools import partial

from stepfold.core import events as e
from stepfold.core.ids import Epoch
from stepfold.core.shard import Shard
from stepfold.engine.claiming import append_claim, new_claim
from stepfold.engine.folding import Folding
from stepfold.engine.guard import Guard
from stepfold.engine.intake import Intake
from stepfold.engine.leader import Leader
from stepfold.engine.shard_states import ShardFaultError, ShardState, ShardUnreadableError
from stepfold.engine.surroundings import Surroundings
from stepfold.engine.topics_watch import TopicsWatch
from stepfold.journal.port import (
    Appender,
    AppTopics,
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
CLAIM_FOLD_TIMEOUT_S = 30.0
PROOF_OVERDUE_S = 5.0
"""Without a proof for so long it is said (rule R12): nothing new begins, and nothing is lost."""
UNREADABLE_RETRY_S = 10.0
"""Until a topic that could not be read is tried again; rights come back, and topics do."""
PROOF_TIMEOUT_S = 2.0
"""For proofs, before and after the attempts' grace of 20 s: all of it stays below 25 s."""
PROOF_LOOK_S = 0.005
RELIEF_INTERVAL_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The parts of the journal that an owner uses."""

    appender: Appender
    reader: Reader
    membership: Membership
    topics: AppTopics
    watch: TopicsWatch


class Overdue:
    """Whether no proof came for so long that a person should hear of it; says so once."""

    def __init__(self) -> None:
        self._proven_seq = -1
        self._since = 0.0

    def is_to_be_said(self, writer: HistoryWriter, now: float) -> bool:
        if not writer.unproven or writer.proven_seq != self._proven_seq:
            self._proven_seq, self._since = writer.proven_seq, now
        if now - self._since < PROOF_OVERDUE_S:
            return False
        self._since = math.inf
        return True


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
        self._folding = self._new_folding()
        self._uncertain: asyncio.Future[str] | None = None
        self._committed = -1
        self._intakes: list[Intake] = []

    async def run(self) -> None:
        """Own the shard until cancelled; claims again whenever a proof fails."""
        failures = 0
        try:
            while True:
                try:
                    if await self._become_leader():
                        failures = 0
                        reason = await self._lead()
                        logger.warning("shard is folded again", extra=self._extra(reason=reason))
                except ShardUnreadableError as error:
                    self._note_fault(error)
                    await asyncio.sleep(UNREADABLE_RETRY_S)
                failures += 1
                backoff = min(CLAIM_BACKOFF_MIN_S * 2**failures, CLAIM_BACKOFF_MAX_S)
                # Two candidates that lost the same race must not meet again.
                await asyncio.sleep(backoff * self._around.dice.uniform(0.5, 1.0))
        except ShardFaultError as error:
            self._note_fault(error)
        finally:
            self._stop_leading()

    def _note_fault(self, error: ShardFaultError) -> None:
        self.fault = str(error)
        self.state = ShardState.FAULTED
        logger.error("shard is faulted", extra=self._extra(reason=self.fault))

    @property
    def records_held(self) -> int:
        """Records of inbox and control that were read, and for which no event stands yet."""
        return sum(intake.held for intake in self._intakes)

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
        self._folding, begun_at = self._new_folding(), self._loop.time()
        try:
            await self._folding.to_end(
                await self._log.membership.checkpoint(self.shard_id.partition)
            )
            await self._log.watch.look(since=begun_at)
            self._check_opened()
            if not await self._hold_lease():
                return False
            self.state = ShardState.CLAIMING
            epoch = await self._claim()
            if epoch is None:
                return False
        finally:
            self._folding.close()
        # From a callback: the loops of runs must not be entered from inside a task.
        started: asyncio.Future[None] = self._loop.create_future()
        self._loop.call_soon(self._start_leading_then, epoch, started)
        await started
        return True

    def _new_folding(self) -> Folding:
        return Folding(self._log.reader, self._log.topics.history.name, self.shard_id.partition)

    @property
    def _shard(self) -> Shard:
        return self._folding.shard

    def _check_opened(self) -> None:
        """Rule R2: the topics are still those that the history was opened with."""
        if self._log.watch.changed is not None:
            raise ShardFaultError(self._log.watch.changed)
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
        self._folding.expect(claim)
        report = await append_claim(
            self._log.appender,
            topics.history.name,
            self.shard_id.partition,
            claim,
            self._around,
        )
        if report.offset is None:
            logger.warning("claim is not acknowledged", extra=self._extra(reason=report.error))
            return None
        # Before anything is decided here: this machine's clock may be minutes off, and all
        # timers that seem to be due by it would fire.
        self._around.clock.observe(report.timestamp)
        try:
            # A report may name a place that is not there yet, and would not be for ever.
            async with asyncio.timeout(CLAIM_FOLD_TIMEOUT_S):
                await self._folding.until_claim()
        except TimeoutError:
            return None
        epoch = self._shard.chain.epoch
        # It is partial if what was folded before was trimmed while the claim was under way.
        return epoch if epoch.nonce == claim.nonce and not self._shard.is_partial else None

    # Leading

    def _start_leading_then(self, epoch: Epoch, started: asyncio.Future[None]) -> None:
        try:
            self._start_leading(epoch)
        except Exception as error:  # noqa: BLE001 - whoever awaits it raises it
            started.set_exception(self._fault_of(error))
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
        self.state, self.fault = ShardState.LEADING, None
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
        relieve = Guard(self._broke)(partial(self._relieve, Overdue()))
        try:
            while True:
                done, _ = await asyncio.wait((self._uncertain,), timeout=RELIEF_INTERVAL_S)
                if done:
                    return self._uncertain.result()
                if self._log.watch.changed is not None:
                    raise ShardFaultError(self._log.watch.changed)
                relieve()
        finally:
            self._stop_leading()

    def _relieve(self, overdue: Overdue) -> None:
        """What has to be seen to from time to time."""
        leader = self.leader
        if leader is None:
            return
        for intake in self._intakes:
            intake.relieve()
        leader.relieve()
        leader.checkpoints.begin_if_due()
        inbox = self._intakes[-1].position
        if not leader.writer.unproven and inbox != self._committed:
            self._committed = inbox
            self._log.membership.commit(self.shard_id.partition, inbox)
        if overdue.is_to_be_said(leader.writer, self._loop.time()):
            logger.warning(
                "history does not answer", extra=self._extra(unproven=leader.writer.unproven)
            )

    def _is_uncertain(self, reason: str) -> None:
        if self._uncertain is not None and not self._uncertain.done():
            self._uncertain.set_result(reason)

    def _broke(self, error: Exception) -> None:
        """What no rule foresees: to go on could skip what it was about, so nobody does."""
        fault = self._fault_of(error)
        if self._uncertain is not None and not self._uncertain.done():
            self._uncertain.set_exception(fault)

    def _fault_of(self, error: Exception) -> ShardFaultError:
        if isinstance(error, ShardFaultError):
            return error
        logger.error("shard broke", extra=self._extra(), exc_info=error)
        why = f"{type(error).__name__}: {error}"
        return ShardFaultError(
            f"{self.shard_id} cannot be led: {why}; report it with the stack in the log of this"
            " worker, and restart the worker to try again"
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
