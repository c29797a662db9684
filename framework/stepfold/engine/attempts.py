"""Starts the attempts of a shard's steps when their time has come, and records how they end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

from stepfold.core import decide
from stepfold.core import events as e
from stepfold.core.errors import PayloadError, PayloadTooLargeError
from stepfold.core.retry import Retry
from stepfold.core.run import Run, RunStatus, Step, StepStatus
from stepfold.engine.execution import PAYLOAD_BYTES_MAX, Died
from stepfold.engine.executor import AttemptKey, Ended, Executor
from stepfold.engine.guard import Guard
from stepfold.engine.history import ShardHistory
from stepfold.engine.live import LiveRun
from stepfold.engine.places import Kind
from stepfold.engine.results import result_events
from stepfold.engine.surroundings import Surroundings
from stepfold.journal.port import ShardId
from stepfold.sdk.calls import StepCall

logger = logging.getLogger(__name__)

Attend: TypeAlias = Callable[[Run, Callable[[Run], object]], None]


class Attempts:
    """live: the runs in memory. go_on: lets a run's code take up what was recorded.

    attend: does some work for a run; if it fails, that concerns no other run.
    """

    def __init__(
        self,
        *,
        shard_id: ShardId,
        history: ShardHistory,
        around: Surroundings,
        live: Mapping[str, LiveRun],
        retry: Retry,
        go_on: Callable[[Run], None],
        attend: Attend,
        guard: Guard,
    ) -> None:
        self.is_draining = False
        self._is_held = False
        self._held: dict[tuple[str, str], None] = {}  # in the order in which they were asked for
        self._shard_id = shard_id
        self._history = history
        self._executor: Executor = around.executor
        self._worker_id = around.worker_id
        self._max_lost = around.limits.max_lost
        self._live = live
        self._retry = retry
        self._go_on = go_on
        self._attend = attend
        self._guard = guard

    def attach(self) -> None:
        """Take the results of this shard's attempts from now on, unsettled ones at once.

        What still runs, and is not open any more, was lost to another owner: it is ended.
        """
        self._executor.keep_only(self._shard_id, self._is_open)
        self._executor.attach(self._shard_id, self._guard(self.ended))

    def detach(self) -> None:
        self._executor.detach(self._shard_id)

    def want(self, live: LiveRun, call: StepCall, now: int) -> None:
        """Start the step's next attempt if it may start now; else it stays asked for."""
        run = live.run
        step = run.steps.get(call.step)
        if step is not None and step.status is StepStatus.OPEN:
            self._begin_late(live, call, step)
            return
        if step is not None and step.status is not StepStatus.BACKOFF:
            return
        if step is not None and step.next_at > now:
            live.has_backed_off(step.next_at)
            return
        if run.paused or self.is_draining or run.status is not RunStatus.OPEN:
            return
        kind = self._kind_of(run, step)
        if not self._has_to_wait(run, call.step, kind):
            self._start(live, call, kind)

    def hold(self) -> None:
        """Start nothing until `release`; what is asked for meanwhile is started then."""
        self._is_held = True

    def release(self) -> None:
        self._is_held = False
        held, self._held = self._held, {}
        for run_id, step_id in held:
            self._want_again(run_id, step_id)

    def abandon(self, run: Run, step_id: str, reason: str) -> None:
        """The workflow does not wait for the step any more, or has ended."""
        attempt = run.steps[step_id].attempt
        self._history.append_all(decide.cancel_attempt(run, step_id, reason), run)
        self._executor.cancel(self._shard_id, AttemptKey(run.run_id, step_id, attempt))

    def lose(self, run: Run, *, in_order: bool) -> None:
        """Attempts of older epochs are lost, but for those that this process still has.

        in_order: the owner before this one was done with the shard; it did not die.
        """
        kept = {
            step_id
            for step_id, step in run.steps.items()
            if self._executor.has(AttemptKey(run.run_id, step_id, step.attempt), self._shard_id)
        }
        shard = self._history.shard
        lost = decide.lose_attempts(shard, run, kept=kept, in_order=in_order)
        self._history.append_all(lost, run)

    def ended(self, ended: Ended) -> None:
        """What came of an attempt, from the executor; of a late one nothing is recorded."""
        if not self._history.is_certain:
            return  # the executor keeps it for whoever leads next
        run = self._history.shard.runs.get(ended.key.run_id)
        if run is None:
            self._executor.settle(self._shard_id, ended.key)
        else:
            self._attend(run, partial(self._record, ended))

    def _record(self, ended: Ended, run: Run) -> None:
        if run.run_id not in self._live:
            self._go_on(run)  # only its code knows the policy of the step
        live = self._live.get(run.run_id)
        events = self._events_of(run, live, ended)
        settle = partial(self._executor.settle, self._shard_id, ended.key)
        if not events:
            settle()
            return
        self._history.append_all(events[:-1], run)
        self._history.append(events[-1], tenant=run.tenant, when_proven=settle)
        step = run.steps[ended.key.step]
        if live is not None and step.status is StepStatus.BACKOFF:
            live.has_backed_off(step.next_at)
        self._go_on(run)

    def _events_of(self, run: Run, live: LiveRun | None, ended: Ended) -> tuple[e.Event, ...]:
        if isinstance(ended.result, Died):
            logger.warning(
                "isolated attempt lost its process",
                extra={
                    "run_id": ended.key.run_id,
                    "step": ended.key.step,
                    "attempt": ended.key.attempt,
                    "reason": ended.result.evidence,
                },
            )
        call = live.steps.get(ended.key.step) if live is not None else None
        policy = call.retry if call is not None else self._retry
        return result_events(run, ended, policy, self._max_lost, self._history.clock.now_ms())

    def _is_open(self, key: AttemptKey) -> bool:
        run = self._history.shard.runs.get(key.run_id)
        step = None if run is None else run.steps.get(key.step)
        return step is not None and step.status is StepStatus.OPEN and step.attempt == key.attempt

    def _kind_of(self, run: Run, step: Step | None) -> Kind:
        if step is None or step.lost == 0:
            return Kind.ORDINARY
        if step.lost < decide.isolated_from(self._max_lost):
            return Kind.SUSPECT
        if self._executor.can_isolate(run.app):
            return Kind.ISOLATED
        self._executor.note_not_isolated(run.app)
        return Kind.SUSPECT

    def _has_to_wait(self, run: Run, step_id: str, kind: Kind) -> bool:
        """Whether there is no room for an attempt now; it is asked for again when there is."""
        places, writer = self._executor.places, self._history.writer
        if places.has_room(kind) and not (self._is_held or writer.is_full):
            return False
        name = (run.run_id, step_id)
        again = self._guard(partial(self._want_again, *name))
        if self._is_held:
            self._held[name] = None
        elif places.has_room(kind):
            writer.when_caught_up(again)
        else:
            step = run.steps.get(step_id)
            since = step.first_started_at if step is not None else 0
            places.ask((self._shard_id, name), kind, again, since=since)
        return True

    def _want_again(self, run_id: str, step_id: str) -> None:
        live = self._live.get(run_id)
        call = live.steps.get(step_id) if live is not None else None
        if live is not None and call is not None and self._history.is_certain:
            now = self._history.clock.now_ms()
            self._attend(live.run, lambda _: self.want(live, call, now))
            # It may not be due any more: the broker's time was corrected meanwhile.
            if live.is_behind or self._is_backed_off(live.run, step_id):
                self._go_on(live.run)

    def _is_backed_off(self, run: Run, step_id: str) -> bool:
        step = run.steps.get(step_id)
        return step is not None and step.status is StepStatus.BACKOFF

    def _begin_late(self, live: LiveRun, call: StepCall, step: Step) -> None:
        """Execute an attempt that was started here, when the shard was lost before the proof.

        It is in the folded history now, and a claim of ours behind it, so it is proven.
        """
        key = AttemptKey(live.run.run_id, call.step, step.attempt)
        if self._executor.take_unbegun(key, self._shard_id):
            kind = self._kind_of(live.run, step)
            self._executor.reserve(self._shard_id, key, kind)
            self._execute(live, call, key, kind)

    def _start(self, live: LiveRun, call: StepCall, kind: Kind) -> None:
        run = live.run
        is_first = call.step not in run.steps
        try:
            payload, refused = _input_of(call) if is_first else b"", None
        except PayloadError as error:
            payload, refused = b"", error
        started = decide.start_attempt(
            run,
            call.step,
            payload=payload,
            timeout_ms=call.timeout_ms,
            worker_id=self._worker_id,
            isolated=kind is Kind.ISOLATED,
            now=self._history.clock.now_ms(),
        )
        for event in started:
            if refused is not None:
                self._history.append(event, tenant=run.tenant)
                self._refuse(run, call.step, event.attempt, refused)
                continue
            key = AttemptKey(run.run_id, call.step, event.attempt)
            execute = partial(self._execute, live, call, key, kind)
            self._history.append(event, tenant=run.tenant, when_proven=execute)
            self._executor.reserve(self._shard_id, key, kind)

    def _execute(self, live: LiveRun, call: StepCall, key: AttemptKey, kind: Kind) -> None:
        step = live.run.steps.get(call.step)
        if step is None or step.status is not StepStatus.OPEN or step.attempt != key.attempt:
            self._executor.release(key)  # given up while the proof was under way
        elif kind is Kind.ISOLATED:
            replay = live.replay(key.step, key.attempt, call.timeout_ms)
            self._executor.start_isolated(self._shard_id, key, replay)
        else:
            context = live.instance.step_context(call.step, key.attempt)
            self._executor.start(self._shard_id, key, call, context)

    def _refuse(self, run: Run, step_id: str, attempt: int, error: PayloadError) -> None:
        failed = decide.fail_attempt(
            run,
            step_id,
            attempt,
            error=(type(error).__name__, str(error), ""),
            policy=None,
            delay_ms=None,
            took_ms=0,
            now=self._history.clock.now_ms(),
        )
        self._history.append_all(failed, run)


def _input_of(call: StepCall) -> bytes:
    """Raises PayloadError when it cannot be stored."""
    payload = call.encode_input()
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise PayloadTooLargeError(
            f"the input of step {call.step!r}", len(payload), PAYLOAD_BYTES_MAX
        )
    return payload
