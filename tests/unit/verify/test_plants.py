"""Each rule, with a violation that is planted in a log and has to be seen where it is."""

from __future__ import annotations

import re

import pytest

from stepfold.core import events as e
from stepfold.verify.rules import RULES
from tests.unit.house_sources import ROOT
from tests.unit.verify import plants_attempts, plants_links, plants_runs, plants_shard
from tests.unit.verify.logs import Log, lost, started
from tests.unit.verify.plants import Plant

MODULES = (plants_attempts, plants_links, plants_runs, plants_shard)
PLANTS: tuple[Plant, ...] = tuple(
    each for module in MODULES for each in vars(module).values() if isinstance(each, Plant)
)
# They need a log that begins in another way, and have tests of their own below.
ELSEWHERE = {"shard-opens-first", "shard-opens-on-its-own-topics"}


@pytest.mark.parametrize("planted", PLANTS, ids=lambda each: each.name)
def test_is_reported_where_it_is_and_alone(planted: Plant) -> None:
    log = Log().open()
    offset = planted.write(log)

    violations = log.violations()

    assert (planted.rule, offset) in [(v.rule, v.offset) for v in violations]
    assert {v.rule for v in violations} == {planted.rule, *planted.also}


def test_every_rule_has_its_plant() -> None:
    planted = {each.rule for each in PLANTS} | ELSEWHERE

    assert {rule.name for rule in RULES} <= planted


def test_losses_that_a_step_cannot_have_caused_need_not_be_counted() -> None:
    log = Log().open()
    run = log.accept()
    log.append(started(run, "plan"))
    log.append(e.Drained(reason="release", open_attempts=1))
    drained = log.epoch
    log.claim("worker-2")
    log.append(lost(run, "plan", 1, drained, times=0))
    log.append(started(run, "plan", 2, isolated=True))
    died = log.epoch
    log.claim("worker-3")
    log.append(lost(run, "plan", 2, died, times=0))

    assert log.violations() == []


def test_an_isolated_attempt_may_be_lost_by_the_owner_that_started_it() -> None:
    log = Log().open()
    run = log.accept()
    log.append(started(run, "plan", isolated=True))
    log.append(lost(run, "plan", 1, log.epoch))

    assert log.violations() == []


def test_a_history_that_begins_without_being_opened_is_reported() -> None:
    log = Log()
    log.claim()
    log.accept()

    assert ("shard-opens-first", 1) in log.broken()


def test_a_history_that_was_copied_into_another_topic_is_reported() -> None:
    log = Log().open()
    records = list(log.records)
    log.cluster.create_topic("research.history", 1)
    log.records.extend(records)

    assert log.broken() == [("shard-opens-on-its-own-topics", 1)]


def test_every_rule_is_named_in_the_documentation() -> None:
    documented = set(re.findall(r"`([a-z0-9-]+)`", (ROOT / "docs" / "verify.md").read_text()))

    assert {rule.name for rule in RULES} | {each.rule for each in PLANTS} <= documented
