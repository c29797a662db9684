"""The rule that the engine does not have yet: which records may be deleted (R24).

It has the signature that the core would have, so that the engine can take it over, or the
machine of checkpoints can be turned to the engine's.
"""

from __future__ import annotations

from collections.abc import Iterable


def trim_before(marks: Iterable[int], *, kept_from: int) -> int | None:
    """The offset before which a leader may delete; None: nothing.

    marks: those of checkpoints whose end is proven. kept_from: the first record that somebody
    still needs, by its age or for a projection. Not the lower of a mark and that offset: a fold
    may begin at a mark, and at no other record.
    """
    return max((mark for mark in marks if mark <= kept_from), default=None)
