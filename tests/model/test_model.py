"""Within its bounds, every order of events keeps every promise, and every rule is needed for it."""

from __future__ import annotations

import pytest

from tests.model.configurations import PROMISES, QUICK, Configuration
from tests.model.mutations import MUTATIONS, Mutation


@pytest.mark.parametrize("configuration", QUICK, ids=str)
def test_no_order_of_events_breaks_a_promise(configuration: Configuration) -> None:
    """Larger ones: `python -m tests.model`."""
    outcome = configuration.explore()

    assert outcome.wrong == "", "\n".join(outcome.trace)
    assert outcome.is_exhausted


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_a_promise_breaks_without_the_rule(mutation: Mutation) -> None:
    outcome = mutation.explore()

    broken, _, _ = outcome.wrong.partition(":")
    assert broken == mutation.promise, "\n".join(outcome.trace)
    assert outcome.trace


def test_every_promise_is_broken_by_some_rule_left_out() -> None:
    untested = PROMISES.keys() - {mutation.promise for mutation in MUTATIONS}

    # Within a run, what could complete a step twice breaks the order of its attempts first.
    assert untested == {"P5"}
