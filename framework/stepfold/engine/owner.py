"""One shard from candidate to leader and back: take it over, lead it, let it go.

Section 3 of the protocol. Membership in the group only makes this process a candidate;
what it may do follows from the log alone. Whatever goes wrong while leading (a proof
that fails, a newer claim, a client that died) has one answer: drop the state, read the
log, and claim again if the group still names this process. Attempts that run meanwhile
go on, and are adopted when the log shows that nobody else led in between.
"""

from __future__ import annotations

import asyncio
import logging

from stepfold.core import events as e
from stepfold.core.shard import Chain
from stepfold.engine.guard import Guard
from stepfold.engine.intake import Intake
from stepfold.engine.leader import Leader
from stepfold.engine.shard_states import ShardFaultError, ShardState, ShardUnreadableError
from stepfold.engine.surroundings import Surroundings
from stepfold.engine.takeover import ClaimPace, Log, Taken, Takeover
from stepfold.journal.port import ShardId
from stepfold.journal.writer import HistoryWriter
from stepfold.sdk.app import App

logger = logging.getLogger(__name__)

CLAIM_BACKOFF_MIN_S = 0.2
CLAIM_BACKOFF_MAX_S = 5.0
UNREADABLE_RETRY_S = 10.0
"""Until a topic that could not be read is tried again; rights come back, and topics do."""
PROOF_TIMEOUT_S = 2.0
"""For proofs, before and after the attempts' grace of 20 s: all of it stays below 25 s."""
PROOF_LOOK_S = 0.005
RELIEF_INTERVAL_S = 0.2


class ShardOwner:
    def __init__(
        self,
        *,
        shard_id: ShardId,
        app: App,
        log: Log,
        around: Surroundings,
        build: str,
        pace: ClaimPace,
    ) -> None:
        self.shard_id = shard_id
        self.state = ShardState.UNASSIGNED
        self.fault: str | None = None
        self.leader: Leader | None = None
        self.led_until: Chain | None = None
        """How far the history is known to be this process's own, once it has led."""
        self._app = app
        self._log = log
        self._around = around
        self._limits = around.limits
        self._build = build
        self._pace = pace
        self._loop = asyncio.get_running_loop()
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
        """Let running attempts end, record them, and say that the shard is free (rule R14).

        Results that have no proof yet have all of the grace for it, in which Kafka may come
        back: they are kept nowhere else.
        """
        leader = self.leader
        if leader is None or self.state not in (ShardState.LEADING, ShardState.DEGRADED):
            return
        self.state = ShardState.DRAINING
        deadline = self._loop.time() + grace_s
        leader.drain()
        for intake in self._intakes:
            intake.close()
        # An attempt whose start is not proven yet is not running yet, but it will.
        await self._wait_proven(leader.writer, PROOF_TIMEOUT_S)
        left_s = max(0.0, deadline - self._loop.time())
        await self._around.executor.wait_idle(self.shard_id, left_s)
        if leader.writer.is_certain:
            leader.append(e.Drained(reason="release", open_attempts=leader.open_attempts))
        await self._wait_proven(leader.writer, max(PROOF_TIMEOUT_S, deadline - self._loop.time()))

    async def _wait_proven(self, writer: HistoryWriter, timeout_s: float) -> None:
        deadline = self._loop.time() + timeout_s
        while writer.is_certain and writer.unproven:
            if self._loop.time() > deadline:
                return
            await asyncio.sleep(PROOF_LOOK_S)

    # Becoming the leader

    async def _become_leader(self) -> bool:
        self.state = ShardState.FOLDING
        takeover = Takeover(
            shard_id=self.shard_id,
            log=self._log,
            around=self._around,
            build=self._build,
            pace=self._pace,
            on_claiming=self._is_claiming,
        )
        taken = await takeover.run()
        if taken is None:
            return False
        # From a callback: the loops of runs must not be entered from inside a task.
        started: asyncio.Future[None] = self._loop.create_future()
        self._loop.call_soon(self._start_leading_then, taken, started)
        await started
        return True

    def _is_claiming(self) -> None:
        self.state = ShardState.CLAIMING

    # Leading

    def _start_leading_then(self, taken: Taken, started: asyncio.Future[None]) -> None:
        if started.cancelled():
            return  # the shard was lost, or is given up, since it was taken
        try:
            self._start_leading(taken)
        except Exception as error:  # noqa: BLE001 - whoever awaits it raises it
            started.set_exception(self._fault_of(error))
        else:
            started.set_result(None)

    def _start_leading(self, taken: Taken) -> None:
        self._uncertain = self._loop.create_future()
        topics = self._log.topics
        guard = Guard(self._broke)
        writer = HistoryWriter(
            appender=self._log.appender,
            topic=topics.history.name,
            partition=self.shard_id.partition,
            epoch=taken.epoch,
            on_uncertain=self._is_uncertain,
            on_proof=guard(self._proven),
            on_error=self._broke,
            now_s=self._loop.time,
        )
        self.leader = leader = Leader(
            shard_id=self.shard_id,
            topics=topics,
            app=self._app,
            shard=taken.shard,
            writer=writer,
            around=self._around,
            appender=self._log.appender,
            note_checkpoint=self._note_checkpoint,
            guard=guard,
        )
        if taken.shard.opened is None:
            leader.append(self._opening())
        leader.start(in_order=taken.in_order)
        self._intakes = [
            Intake(leader, source, self._log.reader, self._log.appender, guard)
            for source in (topics.control, topics.inbox)
        ]
        for intake in self._intakes:
            intake.open()
        self.state, self.fault = ShardState.LEADING, None
        logger.info("shard is led here", extra=self._extra(runs=len(taken.shard.runs)))

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
        relieve = Guard(self._broke)(self._relieve)
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

    def _relieve(self) -> None:
        """What has to be seen to from time to time."""
        leader = self.leader
        if leader is None:
            return
        self._watch_proofs(leader)
        for intake in self._intakes:
            intake.relieve()
        leader.relieve()
        leader.checkpoints.begin_if_due()
        inbox = self._intakes[-1].position
        if not leader.writer.unproven and inbox != self._committed:
            self._committed = inbox
            self._log.membership.commit(self.shard_id.partition, inbox)

    def _watch_proofs(self, leader: Leader) -> None:
        """Rule R12: begin nothing while proofs do not come, and doubt the client in the end."""
        stalled_s = leader.writer.stalled_s
        if self.state is ShardState.LEADING and stalled_s >= self._limits.degraded_after_s:
            self.state = ShardState.DEGRADED
            leader.hold()
            logger.warning(
                "history does not answer",
                extra=self._extra(unproven=leader.writer.unproven, stalled_s=round(stalled_s, 1)),
            )
        stalled_at = self._loop.time() - stalled_s
        if stalled_s >= self._limits.renew_after_s and self._around.progress.is_elsewhere(
            self.shard_id, stalled_at
        ):
            self._log.appender.renew(
                f"no proof for {self.shard_id} in {stalled_s:.0f} s, while other shards got theirs"
            )

    def _proven(self, at: int) -> None:
        self._around.clock.observe(at)
        self._around.progress.note(self.shard_id, self._loop.time())
        if self.state is ShardState.DEGRADED and self.leader is not None:
            self.state = ShardState.LEADING
            logger.info("history answers again", extra=self._extra())
            self.leader.release()

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
            self.led_until = self.leader.writer.proven
            self.leader.stop()
            self.leader = None

    def _extra(self, **more: object) -> dict[str, object]:
        return {"app": self.shard_id.app, "partition": self.shard_id.partition, **more}
