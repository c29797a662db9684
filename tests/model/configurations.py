"""What is searched: the full rules, with bounds that let a search end, and each rule left out.

A configuration is bounded by its workers, its steps or records, and by how often each fault may
happen. Within these bounds every order of events is tried.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from tests.model.attempts import Attempts
from tests.model.checkpoints import CheckpointMachine, Hints
from tests.model.elections import Elections
from tests.model.intake import Intakes
from tests.model.outbox import Outboxes
from tests.model.search import Machine, Outcome, State, search
from tests.model.worlds import Faults

S = TypeVar("S", bound=State)

PROMISES = {
    "P1": "effects follow from events that count, and those that are proven stay",
    "P2": "a delivery is made only if its event counts",
    "P3": "deliveries reach their target in order, without a gap",
    "P4": "what comes in is neither lost nor taken twice",
    "P5": "a step completes once, and nothing happens to a run that is over",
    "P6": "attempts of a step come one after the other, and each is executed once at most",
    "P7": "claims are made in knowledge of the epoch they replace, and all folds agree",
    "P8": "what is left of a trimmed history folds to what was there",
    "P9": "no event counts under the claim of another worker",
    "P10": "when faults end, everything that was promised comes",
}


class Configuration(NamedTuple):
    """bounds: in words, for people."""

    machine: str
    bounds: str
    explore: Callable[[], Outcome]

    def __str__(self) -> str:
        return f"{self.machine}: {self.bounds}"


def exploring(make: Callable[[], Machine[S]]) -> Callable[[], Outcome]:
    return lambda: search(make())


QUICK = (
    Configuration(
        "attempts",
        "2 workers, 2 steps; a time-out, a copy, a silence, a loss",
        exploring(
            lambda: Attempts(
                steps=2, workers=2, faults=Faults(2, timeouts=1, copies=1, silences=1, losses=1)
            )
        ),
    ),
    Configuration(
        "attempts",
        "2 workers, 2 steps; an attempt that fails, a loss",
        exploring(lambda: Attempts(steps=2, workers=2, faults=Faults(2, losses=1, special=1))),
    ),
    Configuration(
        "intake",
        "2 workers, 4 records; a time-out, a fault of DLQ or reader",
        exploring(lambda: Intakes(workers=2, faults=Faults(2, timeouts=1, special=1))),
    ),
    Configuration(
        "outbox",
        "2 workers, a delivery to each of 2 targets; a time-out, a failed delivery",
        exploring(
            lambda: Outboxes(targets=(0, 1), workers=2, faults=Faults(2, timeouts=1, special=1))
        ),
    ),
    Configuration(
        "outbox",
        "2 workers, 2 deliveries to one target; a time-out, a failed delivery",
        exploring(
            lambda: Outboxes(targets=(0, 0), workers=2, faults=Faults(2, timeouts=1, special=1))
        ),
    ),
    Configuration(
        "checkpoints",
        "9 records, a claim, a void record, a deletion; hints at all that counts",
        exploring(lambda: CheckpointMachine(records_max=9, claims=1, voids=1, trims=1)),
    ),
    Configuration(
        "checkpoints",
        "8 records, a claim, a replaced leader that writes on; hints at any record",
        exploring(lambda: CheckpointMachine(records_max=8, claims=1, hints=Hints.ANY)),
    ),
    Configuration(
        "elections", "2 workers, 5 records, 3 claims, an unclean one", exploring(Elections)
    ),
)
"""A few seconds of one core each: `make test`."""


LARGE = (
    Configuration(
        "attempts",
        "2 workers, 2 steps, 3 claims; a time-out, a copy, a silence, a loss",
        exploring(
            lambda: Attempts(
                steps=2, workers=2, faults=Faults(3, timeouts=1, copies=1, silences=1, losses=1)
            )
        ),
    ),
    Configuration(
        "attempts",
        "2 workers, 2 steps; a time-out, a copy, a crash, a loss, an attempt that fails",
        exploring(
            lambda: Attempts(
                steps=2,
                workers=2,
                faults=Faults(2, timeouts=1, copies=1, crashes=1, losses=1, special=1),
            )
        ),
    ),
    Configuration(
        "attempts",
        "2 workers, 3 steps; a time-out, a copy, a silence, a loss",
        exploring(
            lambda: Attempts(
                steps=3, workers=2, faults=Faults(2, timeouts=1, copies=1, silences=1, losses=1)
            )
        ),
    ),
    Configuration(
        "attempts",
        "3 workers, 1 step, 3 claims; a time-out, a loss",
        exploring(lambda: Attempts(steps=1, workers=3, faults=Faults(3, timeouts=1, losses=1))),
    ),
    Configuration(
        "intake",
        "2 workers, 4 records, 3 claims; 2 faults of DLQ or reader",
        exploring(lambda: Intakes(workers=2, faults=Faults(3, special=2))),
    ),
    Configuration(
        "outbox",
        "2 workers, 3 deliveries to one target; a failed delivery",
        exploring(lambda: Outboxes(targets=(0, 0, 0), workers=2, faults=Faults(2, special=1))),
    ),
    Configuration(
        "outbox",
        "2 workers, 3 deliveries to 2 targets; a failed delivery",
        exploring(lambda: Outboxes(targets=(0, 1, 0), workers=2, faults=Faults(2, special=1))),
    ),
    Configuration(
        "outbox",
        "2 workers, 2 deliveries, 3 claims; 2 failed deliveries",
        exploring(lambda: Outboxes(targets=(0, 0), workers=2, faults=Faults(3, special=2))),
    ),
    Configuration(
        "checkpoints",
        "11 records, a claim, a void record, a deletion; hints at all that counts",
        exploring(lambda: CheckpointMachine(records_max=11, claims=1, voids=1, trims=1)),
    ),
    Configuration(
        "checkpoints",
        "10 records, 2 claims, a void record, a deletion; hints at all that counts",
        exploring(lambda: CheckpointMachine(records_max=10, claims=2, voids=1, trims=1)),
    ),
    Configuration(
        "checkpoints",
        "9 records, a claim, a replaced leader that writes on; hints at any record",
        exploring(lambda: CheckpointMachine(records_max=9, claims=1, hints=Hints.ANY)),
    ),
)
"""Two and a half minutes of one core in all, and 800 MB: `make model`."""
