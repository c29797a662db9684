"""Every rule that can be left out, bounds where that shows, and the promise it breaks first."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from stepfold.core.shard import Chain
from stepfold.journal.writer import HistoryWriter
from tests.model import left_out
from tests.model.attempts import Attempts
from tests.model.attempts import Without as WithoutOfAttempts
from tests.model.checkpoints import CheckpointMachine
from tests.model.checkpoints import Without as WithoutOfCheckpoints
from tests.model.configurations import exploring
from tests.model.deliveries import OpenOutbox
from tests.model.elections import Elections
from tests.model.intake import Intakes, OpenIntake
from tests.model.outbox import Outboxes
from tests.model.search import Outcome
from tests.model.worlds import Faults

ATTEMPTS = Faults(2, timeouts=1, copies=1)
LOST = Faults(2, losses=1)
LOST_AND_BACK = Faults(3, losses=1)
"""A worker loses the shard, another leads it, and the first comes back to what it still runs."""
OUTBOX = Faults(2, special=1)


class Mutation(NamedTuple):
    """rule: its number in docs/protocol.md. left_out: what happens instead. promise: the first
    to break.
    """

    rule: str
    left_out: str
    promise: str
    explore: Callable[[], Outcome]

    def __str__(self) -> str:
        return f"{self.rule}: {self.left_out}"


def _chain(kind: type[Chain], faults: Faults = ATTEMPTS) -> Callable[[], Outcome]:
    return exploring(lambda: Attempts(steps=2, workers=2, faults=faults, chain=kind))


def _writer(kind: type[HistoryWriter], faults: Faults = ATTEMPTS) -> Callable[[], Outcome]:
    return exploring(lambda: Attempts(steps=2, workers=2, faults=faults, writer=kind))


def _leader(without: WithoutOfAttempts, faults: Faults) -> Callable[[], Outcome]:
    return exploring(lambda: Attempts(steps=2, workers=2, faults=faults, without=without))


def _outbox(kind: type[OpenOutbox]) -> Callable[[], Outcome]:
    return exploring(lambda: Outboxes(targets=(0, 0), workers=2, faults=OUTBOX, outbox=kind))


def _intake(kind: type[OpenIntake]) -> Callable[[], Outcome]:
    return exploring(lambda: Intakes(workers=2, faults=OUTBOX, intake=kind))


def _checkpoints(without: WithoutOfCheckpoints) -> Callable[[], Outcome]:
    return exploring(lambda: CheckpointMachine(records_max=9, claims=1, trims=1, without=without))


MUTATIONS = (
    Mutation(
        "R4",
        "every claim counts, whichever epoch it names",
        "P7",
        _chain(left_out.ChainWithoutComparison),
    ),
    Mutation(
        "R4",
        WithoutOfAttempts.FOLD_TO_CLAIM.value,
        "P6",
        _leader(WithoutOfAttempts.FOLD_TO_CLAIM, ATTEMPTS),
    ),
    Mutation(
        "R4",
        "claims of the same offset have the same nonce",
        "P9",
        exploring(lambda: Elections(has_numbers=False)),
    ),
    Mutation(
        "R2",
        "proven events are relied on where elections may be unclean",
        "P1",
        exploring(lambda: Elections(keeps_proven=True)),
    ),
    Mutation(
        "R5",
        "an event counts if its epoch is in force, whatever its number",
        "P6",
        _chain(left_out.ChainWithoutNumbers),
    ),
    Mutation(
        "R5",
        "an event counts though others are missing before it",
        "P6",
        _chain(left_out.ChainWithGaps),
    ),
    Mutation(
        "R8",
        "what is delivered is proven, wherever it landed",
        "P1",
        _writer(left_out.WriterOnAcknowledgement),
    ),
    Mutation(
        "R8",
        "each report is judged alone, and one without an offset passed over",
        "P1",
        _writer(left_out.WriterWithoutEarlier, Faults(2, timeouts=1, silences=1)),
    ),
    Mutation(
        "R8",
        "a failed report is passed over, and the events after it go on",
        "P1",
        _writer(left_out.WriterPastFailures),
    ),
    Mutation(
        "R8",
        "the offset of a failed report is read",
        "P1",
        _writer(left_out.WriterOfFailedOffsets),
    ),
    Mutation(
        "R9",
        WithoutOfAttempts.PROOF.value,
        "P1",
        _leader(WithoutOfAttempts.PROOF, ATTEMPTS),
    ),
    Mutation(
        "R9",
        "a delivery is sent when its event is handed over",
        "P2",
        exploring(lambda: Outboxes(targets=(0, 0), workers=2, faults=OUTBOX, sends_at_once=True)),
    ),
    Mutation(
        "R9",
        "a delivery is sent when its event is delivered, wherever that landed",
        "P2",
        exploring(
            lambda: Outboxes(
                targets=(0, 0), workers=2, faults=OUTBOX, writer=left_out.WriterOnAcknowledgement
            )
        ),
    ),
    Mutation(
        "R16",
        "intake begins at the offset that was committed",
        "P4",
        exploring(lambda: Intakes(workers=2, faults=OUTBOX, opens_at_committed=True)),
    ),
    Mutation(
        "R16",
        "a record is taken though an event stands for it",
        "P4",
        _intake(left_out.IntakeTakesAgain),
    ),
    Mutation(
        "R16",
        "a record is rejected while its copy is on its way to the DLQ",
        "P4",
        _intake(left_out.IntakeRejectsAtOnce),
    ),
    Mutation(
        "R16",
        "a copy for the DLQ is taken for made, whatever its report says",
        "P4",
        _intake(left_out.IntakeCopiedAnyway),
    ),
    Mutation(
        "R17",
        "a target takes whatever is later than all before",
        "P3",
        exploring(
            lambda: Outboxes(targets=(0, 0), workers=2, faults=OUTBOX, is_next=left_out.is_new)
        ),
    ),
    Mutation(
        "R17",
        "a target takes everything",
        "P4",
        exploring(
            lambda: Outboxes(targets=(0, 0), workers=2, faults=OUTBOX, is_next=left_out.is_any)
        ),
    ),
    Mutation(
        "R18",
        "of what failed, that delivery alone is sent again",
        "P3",
        _outbox(left_out.OutboxSendsOne),
    ),
    Mutation(
        "R18",
        "a report counts though its delivery was sent before a failure",
        "P3",
        _outbox(left_out.OutboxHearsAll),
    ),
    Mutation(
        "R18",
        "a new owner takes what was intended before it for delivered",
        "P3",
        _outbox(left_out.OutboxWithoutStart),
    ),
    Mutation(
        "R19",
        WithoutOfAttempts.LOST.value,
        "P10",
        _leader(WithoutOfAttempts.LOST, LOST),
    ),
    Mutation(
        "R19",
        WithoutOfAttempts.TOKEN.value,
        "P6",
        _leader(WithoutOfAttempts.TOKEN, LOST_AND_BACK),
    ),
    Mutation(
        "R19",
        WithoutOfAttempts.SAME_ATTEMPT.value,
        "P10",
        _leader(WithoutOfAttempts.SAME_ATTEMPT, LOST_AND_BACK),
    ),
    Mutation(
        "R22",
        "a checkpoint's mark is its own beginning, whatever runs are open",
        "P7",
        exploring(
            lambda: CheckpointMachine(
                records_max=9, claims=1, kind=left_out.CheckpointsMarkTheirOwn
            )
        ),
    ),
    Mutation(
        "R23",
        WithoutOfCheckpoints.COMPLETENESS.value,
        "P7",
        _checkpoints(WithoutOfCheckpoints.COMPLETENESS),
    ),
    Mutation(
        "R24",
        WithoutOfCheckpoints.MARK.value,
        "P8",
        _checkpoints(WithoutOfCheckpoints.MARK),
    ),
    Mutation(
        "R24",
        WithoutOfCheckpoints.MARK_AS_BEGIN.value,
        "P8",
        _checkpoints(WithoutOfCheckpoints.MARK_AS_BEGIN),
    ),
    Mutation(
        "R24",
        WithoutOfCheckpoints.PROOF.value,
        "P8",
        _checkpoints(WithoutOfCheckpoints.PROOF),
    ),
)
