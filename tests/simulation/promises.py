"""The promises of the product, judged by what was seen from outside and what is on the log.

Nothing here is the engine's: what a history must look like is said in the words of the
contract, not in those of the code that wrote it. Each check names what it found with its
values, so that a trace of the seed can be searched for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.simulation import (
    promises_intake,
    promises_outbox,
    promises_runs,
    promises_signals,
    promises_steps,
)
from tests.simulation.evidence import Evidence

Check = Callable[[Evidence], Iterator[str]]

CHECKS: tuple[Check, ...] = (
    promises_intake.sources_are_taken_in_order_and_once,
    promises_intake.triggers_become_their_runs,
    promises_intake.garbage_on_control_is_copied,
    promises_intake.commits_follow_the_history,
    promises_steps.attempts_follow_the_rules,
    promises_steps.executions_have_proof,
    promises_steps.outcomes_are_what_the_code_did,
    promises_steps.nothing_runs_twice_at_once,
    promises_runs.runs_end_as_their_plan_allows,
    promises_runs.time_is_not_ahead,
    promises_runs.timers_are_set_and_fired_once,
    promises_runs.cancelled_runs_end_cancelled,
    promises_outbox.deliveries_arrive_once_and_in_order,
    promises_outbox.children_are_what_their_parents_saw,
    promises_outbox.events_of_runs_come_from_counting_ones,
    promises_signals.signals_are_delivered_once_and_not_lost,
)


def broken(evidence: Evidence) -> list[str]:
    found = list(evidence.stage.problems)
    for story in evidence.stories:
        found += story.problems
    for process in evidence.fleet.processes:
        found += [f"{process.name}: {failure}" for failure in process.loop.failures]
    for check in CHECKS:
        found += [f"{check.__name__}: {problem}" for problem in check(evidence)]
    return found
