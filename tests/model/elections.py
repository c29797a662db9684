"""A log that loses its end in an unclean election: what an epoch's number is there for.

The engine refuses topics on which this can happen (R2), because nothing that was proven stays
proven then. What still holds is that nobody's events count under the claim of another: offsets
come again, and two claims may lie at the same one, but no two have the same number.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from stepfold.core import events as e
from stepfold.core.ids import NO_EPOCH, Epoch
from stepfold.core.shard import Chain
from tests.model.histories import claim_of
from tests.model.search import Label
from tests.model.worlds import name

EVENT = e.Drained(reason="", open_attempts=0)
RECORDS_MAX = 5


class Written(NamedTuple):
    """prev: a claim's, else None. seq: of an event. by: the number of the worker."""

    by: int
    epoch: Epoch
    seq: int
    prev: Epoch | None


class Election(NamedTuple):
    """epochs: under which each worker writes, and how many events it wrote. proven: offsets of
    events that their workers know to count, with those events.
    """

    log: tuple[Written, ...]
    epochs: tuple[tuple[Epoch, int], ...]
    proven: tuple[tuple[int, Written], ...]
    claims: int
    cuts: int
    wrong: str = ""


class Elections:
    """has_numbers: whether claims draw one. keeps_proven: whether proven events have to stay."""

    def __init__(self, *, has_numbers: bool = True, keeps_proven: bool = False) -> None:
        self._has_numbers = has_numbers
        self._keeps_proven = keeps_proven

    def initial(self) -> Election:
        return Election((), ((NO_EPOCH, 0), (NO_EPOCH, 0)), (), claims=3, cuts=1)

    def canonical(self, state: Election) -> Election:
        return state

    def stuck(self, state: Election) -> str:
        return ""

    def successors(self, state: Election) -> Iterator[tuple[Label, Election]]:
        for index, (epoch, seq) in enumerate(state.epochs):
            if len(state.log) == RECORDS_MAX:
                break
            if state.claims:
                yield ("{} folds the log, and claims", name(index)), self._claims(state, index)
            if epoch != NO_EPOCH:
                yield ("{} appends an event", name(index)), self._writes(state, index, epoch, seq)
        if state.cuts:
            for length in range(len(state.log)):
                cut = state._replace(log=state.log[:length], cuts=state.cuts - 1)
                label = ("an unclean election leaves {} of the {} records", length, len(state.log))
                yield label, self._checked(cut)

    def _claims(self, state: Election, index: int) -> Election:
        offset = len(state.log)
        number = 10 * state.claims + 1 if self._has_numbers else 0
        claim = Written(index, Epoch(offset, number), -1, _chain(state.log).epoch)
        epochs = _replaced(state.epochs, index, (claim.epoch, 0))
        claims = state.claims - 1
        return state._replace(log=(*state.log, claim), epochs=epochs, claims=claims)

    def _writes(self, state: Election, index: int, epoch: Epoch, seq: int) -> Election:
        offset = len(state.log)
        event = Written(index, epoch, seq, None)
        counts = _chain(state.log).admit(_recorded(offset, event))
        proven = state.proven
        if counts and offset == epoch.offset + 1 + seq:
            proven = (*proven, (offset, event))
        epochs = _replaced(state.epochs, index, (epoch, seq + 1))
        log = (*state.log, event)
        return self._checked(state._replace(log=log, epochs=epochs, proven=proven))

    def _checked(self, state: Election) -> Election:
        chain = Chain()
        owner = -1
        for offset, written in enumerate(state.log):
            if not chain.admit(_recorded(offset, written)):
                continue
            if written.prev is not None:
                owner = written.by
            elif written.by != owner:
                wrong = "P9: an event counts under the claim of another worker"
                return state._replace(wrong=wrong)
        if self._keeps_proven and any(
            offset >= len(state.log) or state.log[offset] != event for offset, event in state.proven
        ):
            return state._replace(wrong="P1: an event was proven that is not in the log any more")
        return state


def _chain(log: tuple[Written, ...]) -> Chain:
    chain = Chain()
    for offset, written in enumerate(log):
        chain.judge(_recorded(offset, written))
    return chain


def _recorded(offset: int, written: Written) -> e.Recorded:
    if written.prev is None:
        return e.Recorded(offset, written.epoch, written.seq, 0, EVENT)
    return e.Recorded(offset, NO_EPOCH, -1, 0, claim_of(written.prev, written.epoch.nonce))


def _replaced(
    epochs: tuple[tuple[Epoch, int], ...], index: int, epoch: tuple[Epoch, int]
) -> tuple[tuple[Epoch, int], ...]:
    return (*epochs[:index], epoch, *epochs[index + 1 :])
