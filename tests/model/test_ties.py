"""Where the model keeps less than the engine does, nothing that decides can tell the difference.

It calls epochs by two names only, and keeps no offsets, but how late a leader's next record lands.
"""

from __future__ import annotations

from itertools import product

from stepfold.core import events as e
from stepfold.core.ids import NO_EPOCH, Epoch
from stepfold.core.shard import Chain
from stepfold.journal.writer import HistoryWriter
from tests.model.histories import Histories, claim_of
from tests.model.pen import NOW_MS
from tests.model.proofs import ELSEWHERE, EXACT, FAILED, NO_OFFSET, judgements
from tests.model.worlds import LEADING, NO_FAULTS, Worker, World, one_later

RECORDS = 4
SEQS = (0, 1)
EVENT = e.Drained(reason="", open_attempts=0)
CLAIM = -1
CLAIM_AT = 7
OWN, FOREIGN = 0, -1
"""As `one_later` names whose record it is that lands: the first worker's, or nobody's here."""
KINDS = tuple((writer_back, seq) for writer_back in (0, 1, 2) for seq in (CLAIM, *SEQS))
"""A record by what it names, the epoch in force or one of the two before, and its number."""


def test_which_records_count_is_the_same_with_epochs_by_two_names_only() -> None:
    for log in product(KINDS, repeat=RECORDS):
        assert _by_the_model(log) == _by_the_chain(log)


def test_a_record_lands_where_it_is_expected_exactly_if_its_writer_is_not_late() -> None:
    for landings in product((OWN, FOREIGN), repeat=RECORDS):
        world = World(0, (Worker(mode=LEADING, epoch=1),), (), NO_FAULTS, ())
        seq = 0
        for offset, landing in enumerate(landings, start=CLAIM_AT + 1):
            if landing == OWN:
                is_expected = offset == CLAIM_AT + 1 + seq
                assert (world.workers[0].late == 0) == is_expected
                seq += 1
            world = one_later(world, besides=landing)


def test_only_an_event_at_the_expected_offset_behind_proven_ones_is_proven() -> None:
    """The machine of elections says so by itself; the others ask the writer."""
    judged = judgements(HistoryWriter)

    for reports in product((EXACT, ELSEWHERE, NO_OFFSET, FAILED), repeat=3):
        is_proven = set(reports) == {EXACT}
        assert judged(reports).fired == ((2,) if is_proven else ())


def _by_the_chain(log: tuple[tuple[int, int], ...]) -> tuple[bool, ...]:
    chain = Chain()
    epochs = [Epoch(-9, 1), Epoch(-8, 1), NO_EPOCH]
    counted: list[bool] = []
    for offset, (back, seq) in enumerate(log):
        named = epochs[-1 - back]
        if seq == CLAIM:
            claim = claim_of(named, nonce=100 + offset)
            record = e.Recorded(offset, NO_EPOCH, -1, NOW_MS, claim)
        else:
            record = e.Recorded(offset, named, seq, NOW_MS, EVENT)
        counted.append(chain.admit(record))
        if chain.epoch != epochs[-1]:
            epochs.append(chain.epoch)
    return tuple(counted)


def _by_the_model(log: tuple[tuple[int, int], ...]) -> tuple[bool, ...]:
    histories = Histories()
    shard = histories.number(histories.empty())
    event = histories.event_number(EVENT, NOW_MS)
    counted: list[bool] = []
    for back, seq in log:
        if seq == CLAIM:
            counts, shard = histories.claim(shard, back == 0)
        else:
            counts, shard = histories.land(shard, back == 0, seq, event)
        counted.append(counts)
    return tuple(counted)
