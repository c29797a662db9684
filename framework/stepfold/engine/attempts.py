"""Starts the attempts of a shard's steps when their time has come, and records how they end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

from stepfold.core import decide
from stepfold.core.errors import PayloadError, PayloadTooLargeError
from stepfold.core.retry import Retry
from stepfold.core.run import Run, RunStatus, StepStatus
from stepfold.engine.executor import PAYLOAD_BYTES_MAX, AttemptKey, Ended, Executor
from stepfold.engine.guard import Guard
from stepfold.engine.history import ShardHistory
from stepfold.engine.live import LiveRun
from stepfold.engine.results import result_events
from stepfold.engine.surroundings import Surroundings
from stepfold.journal.port import ShardId
from stepfold.sdk.calls import StepCall

UNPROVEN_MAX = 5_000
"""Events ahead of their proof; more than these, and no further attempt starts."""

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
        self._shard_id = shard_id
        self._history = history
        self._executor: Executor = around.executor
        self._worker_id = around.worker_id
        self._live = live
        self._retry = retry
        self._go_on = go_on
        self._attend = attend
        self._waiting: set[tuple[str, str]] = set()
        self._guard = guard

    def attach(self) -> None:
        """Take the results of this shard's attempts from now on, those kept so far at once.

        What still runs, and is not open any more, was lost to another owner: it is ended.
        """
        for key in self._executor.running_of(self._shard_id):
            run = self._history.shard.runs.get(key.run_id)
            step = None if run is None else run.steps.get(key.step)
            if step is None or step.status is not StepStatus.OPEN or step.attempt != key.attempt:
                self._executor.cancel(key)
        self._executor.attach(self._shard_id, self._guard(self.ended))

    def detach(self) -> None:
        self._executor.detach(self._shard_id)

    def want(self, live: LiveRun, call: StepCall, now: int) -> None:
        """Start the step's next attempt if it may start now; else it stays asked for."""
        run = live.run
        step = run.steps.get(call.step)
        if step is not None and (step.status is not StepStatus.BACKOFF or step.next_at > now):
            return
        if run.paused or self.is_draining or run.status is not RunStatus.OPEN:
            return
        if not self._has_to_wait(run.run_id, call.step):
            self._start(live, call)

    def abandon(self, run: Run, step_id: str, reason: str) -> None:
        """The workflow does not wait for the step any more, or has ended."""
        attempt = run.steps[step_id].attempt
        self._history.append_all(decide.cancel_attempt(run, step_id, reason), run)
        self._executor.cancel(AttemptKey(run.run_id, step_id, attempt))

    def lose(self, run: Run) -> None:
        """Attempts of older epochs are lost, but for those that this process still runs."""
        for step_id, step in run.steps.items():
            key = AttemptKey(run.run_id, step_id, step.attempt)
            if step.status is StepStatus.OPEN and self._executor.runs(key, self._shard_id):
                step.epoch = self._history.writer.epoch
        self._history.append_all(decide.lose_attempts(self._history.shard, run), run)

    def ended(self, ended: Ended) -> None:
        """A result of an attempt, from the executor; a late one yields nothing."""
        run = self._history.shard.runs.get(ended.key.run_id)
        if not self._history.is_certain:
            self._executor.keep(self._shard_id, ended)
        elif run is not None:
            self._attend(run, partial(self._record, ended))

    def _record(self, ended: Ended, run: Run) -> None:
        if run.run_id not in self._live:
            self._go_on(run)  # only its code knows the policy of the step
        live = self._live.get(run.run_id)
        call = live.steps.get(ended.key.step) if live is not None else None
        policy = call.retry if call is not None else self._retry
        now = self._history.clock.now_ms()
        if self._history.append_all(result_events(run, ended, policy, now), run):
            step = run.steps[ended.key.step]
            if live is not None and step.status is StepStatus.BACKOFF:
                live.has_backed_off(step.next_at)
            self._go_on(run)

    def _has_to_wait(self, run_id: str, step_id: str) -> bool:
        """Whether there is no room for an attempt now; it is asked for again when there is."""
        key = (run_id, step_id)
        if key in self._waiting:
            return True
        writer = self._history.writer
        if self._executor.is_full:
            wait: Callable[[Callable[[], None]], None] = self._executor.when_room
        elif writer.unproven > UNPROVEN_MAX:
            wait = writer.when_caught_up
        else:
            return False
        self._waiting.add(key)
        wait(self._guard(partial(self._want_again, run_id, step_id)))
        return True

    def _want_again(self, run_id: str, step_id: str) -> None:
        self._waiting.discard((run_id, step_id))
        live = self._live.get(run_id)
        call = live.steps.get(step_id) if live is not None else None
        if live is not None and call is not None and self._history.is_certain:
            now = self._history.clock.now_ms()
            self._attend(live.run, lambda _: self.want(live, call, now))
            if live.is_behind:
                self._go_on(live.run)

    def _start(self, live: LiveRun, call: StepCall) -> None:
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
            now=self._history.clock.now_ms(),
        )
        for event in started:
            if refused is not None:
                self._history.append(event, tenant=run.tenant)
                self._refuse(run, call.step, event.attempt, refused)
                continue
            key = AttemptKey(run.run_id, call.step, event.attempt)
            execute = partial(self._execute, live, call, key)
            self._history.append(event, tenant=run.tenant, when_proven=execute)
            self._executor.reserve(self._shard_id, key)

    def _execute(self, live: LiveRun, call: StepCall, key: AttemptKey) -> None:
        step = live.run.steps.get(call.step)
        if step is None or step.status is not StepStatus.OPEN or step.attempt != key.attempt:
            self._executor.release(key)  # given up while the proof was under way
            return
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
