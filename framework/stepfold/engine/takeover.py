"""How a candidate becomes the leader of a shard: fold, hold the lease, claim, fold to the claim.

Nothing here acts on what it folds. The claim is a compare-and-swap by position: it counts
only if the epoch that it names is still in force where it lands (rules R3 to R5).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from stepfold.core.ids import Epoch
from stepfold.core.shard import Shard
from stepfold.engine.claiming import append_claim, new_claim
from stepfold.engine.folding import Folding
from stepfold.engine.shard_states import ShardFaultError
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

logger = logging.getLogger(__name__)

LEASE_RETRY_S = 0.2
LEASE_TRIES_MAX = 25
CLAIMS_MAX = 5
CLAIMS_WITHIN_S = 60.0
"""At most so many claims of a shard in so much time (rule R4): each makes every reader of the
history begin a new epoch, and what keeps failing so often does not get well by haste."""
CLAIM_FOLD_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The parts of the journal that an owner uses."""

    appender: Appender
    reader: Reader
    membership: Membership
    topics: AppTopics
    watch: TopicsWatch


class ClaimPace:
    """When a shard may be claimed next. It outlives the owners that come and go with sessions."""

    def __init__(self) -> None:
        self._claimed_at: deque[float] = deque(maxlen=CLAIMS_MAX)

    def note(self, now_s: float) -> None:
        self._claimed_at.append(now_s)

    def delay_s(self, now_s: float) -> float:
        if len(self._claimed_at) < CLAIMS_MAX:
            return 0.0
        return max(0.0, self._claimed_at[0] + CLAIMS_WITHIN_S - now_s)


class Taken(NamedTuple):
    """A shard that is owned here from now on.

    in_order: whether the last owner said that it was done with it. What it left open was
    then not lost to a crash.
    """

    shard: Shard
    epoch: Epoch
    in_order: bool


class Takeover:
    """One try. on_claiming: is called when the fold is done and the lease is held."""

    def __init__(
        self,
        *,
        shard_id: ShardId,
        log: Log,
        around: Surroundings,
        build: str,
        pace: ClaimPace,
        on_claiming: Callable[[], None],
    ) -> None:
        self._shard_id = shard_id
        self._log = log
        self._around = around
        self._build = build
        self._pace = pace
        self._on_claiming = on_claiming
        self._loop = asyncio.get_running_loop()
        self._folding = Folding(log.reader, log.topics.history.name, shard_id.partition)

    async def run(self) -> Taken | None:
        """None: the shard is not to be had now. Raises ShardFaultError."""
        await asyncio.sleep(self._pace.delay_s(self._loop.time()))
        begun_at = self._loop.time()
        try:
            await self._folding.to_end(
                await self._log.membership.checkpoint(self._shard_id.partition)
            )
            await self._log.watch.look(since=begun_at)
            self._check_opened()
            if not await self._hold_lease():
                return None
            self._on_claiming()
            in_order = self._folding.is_in_order
            epoch = await self._claim()
        finally:
            self._folding.close()
        return None if epoch is None else Taken(self._shard, epoch, in_order)

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
                f"the topics of app {self._shard_id.app!r} are not those that its history was"
                f" opened with (ids {was}, {opened.partitions} partitions; now {now},"
                f" {topics.history.partitions}): a topic was re-created or changed; restore it"
            )

    async def _hold_lease(self) -> bool:
        for _ in range(LEASE_TRIES_MAX):
            taken = self._shard.intake.get(
                (self._log.topics.inbox.topic_id, self._shard_id.partition)
            )
            offset = None if taken is None else taken.offset + 1
            lease = await self._log.membership.check_lease(self._shard_id.partition, offset)
            if lease is not Lease.UNKNOWN:
                return lease is Lease.HELD
            await asyncio.sleep(LEASE_RETRY_S)
        return False

    async def _claim(self) -> Epoch | None:
        """Append a claim and fold up to it; None when it turned out void."""
        topics, chain = self._log.topics, self._shard.chain
        claim = new_claim(chain, self._around, build=self._build, unsafe=topics.unsafe)
        self._folding.expect(claim)
        self._pace.note(self._loop.time())
        report = await append_claim(
            self._log.appender,
            topics.history.name,
            self._shard_id.partition,
            claim,
            self._around,
        )
        if report.offset is None:
            place = {"app": self._shard_id.app, "partition": self._shard_id.partition}
            logger.warning("claim is not acknowledged", extra={**place, "reason": report.error})
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
