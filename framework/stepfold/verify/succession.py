"""Which records count: rule R5, written a second time.

A history is a succession of owners. Each begins with a claim that names its
predecessor; a claim that names another one than the owner at that point is void. Of the
owner's own records count those numbered 0, 1, 2… as they come; whatever is not the next
one is void, as is every record of somebody who is not the owner.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from stepfold.core.ids import NO_EPOCH, Epoch


class Void(Enum):
    """Why a record does not count."""

    FENCED = "fenced"
    """Its writer was not the owner: not any more, or never."""
    DUPLICATE = "duplicate"
    GAP = "gap"
    """A record before it is missing."""
    CLAIM = "void_claim"
    """A claim that names another predecessor than the owner."""


class Succession:
    """Takes the records of a history in order.

    `offset_of` knows where each event of the owner lies, at the price of one entry for each
    time that somebody else's record came in between.
    """

    def __init__(self) -> None:
        self.owner = NO_EPOCH
        self.next_seq = 0
        self.last_offset = -1
        self.unproven_from: int | None = None
        """The owner's first event that its writer could not prove (rule R8): it lies elsewhere
        than the writer had to expect."""
        self._shifts: list[tuple[int, int]] = [(0, 0)]  # from seq on: offset - seq

    def void_event(self, epoch: Epoch, seq: int) -> Void:
        """Why an event does not count that is not the owner's next one."""
        if epoch != self.owner:
            return Void.FENCED
        return Void.DUPLICATE if seq < self.next_seq else Void.GAP

    def claimed(self, offset: int, nonce: int) -> None:
        """Take a claim that counts."""
        self.owner = Epoch(offset, nonce)
        self.next_seq = 0
        self.last_offset = offset
        self.unproven_from = None
        self._shifts = [(0, offset + 1)]

    def advance(self, offset: int, seq: int) -> None:
        """Take an event that counts."""
        self.next_seq = seq + 1
        self.last_offset = offset
        if offset - seq != self._shifts[-1][1]:
            self._shifts.append((seq, offset - seq))
            if self.unproven_from is None:
                self.unproven_from = seq

    def offset_of(self, seq: int) -> int | None:
        """Where the owner's event of this number lies; -1 is the claim; None: there is none."""
        if seq == -1:
            return self.owner.offset
        if seq >= self.next_seq:
            return None
        shifts = (seq + shift for first, shift in reversed(self._shifts) if first <= seq)
        return next(shifts, None)

    def join(self, evidence: Iterable[tuple[int, Epoch, int | None]], first_offset: int) -> None:
        """Begin in the middle, at first_offset, from what the first records there say.

        evidence: offset, epoch and number of events; offset, predecessor and None of claims.
        Owners only grow in offset, so the latest that was claimed before here is the owner
        here; its first event here has the next number.
        """
        before = [each for each in evidence if each[1].offset < first_offset]
        if not before:
            return
        self.owner = max(epoch for _, epoch, _ in before)
        self.last_offset = first_offset - 1
        own = ((offset, seq) for offset, epoch, seq in before if epoch == self.owner)
        for offset, seq in own:
            if seq is not None:
                self.next_seq = seq
                self._shifts = [(seq, offset - seq)]
                return
