"""Leads one shard under one epoch: commands in, events out, effects on proof.

Everything that happens to a run passes through here, one thing after the other, on the
worker's loop. State is evolved when an event is appended, so the next decision sees it
at once and a step's completion and its successor's start share one round trip; but
nothing leaves this object (a user's code called, a timer trusted, an answer given)
before the event that stands for it is proven (rules R8 and R9). If a proof fails, the
leader ends and all its state is dropped: the next one folds the log.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable

from stepfold.core import decide, effects
from stepfold.core import events as e
from stepfold.core.commands import Signal
from stepfold.core.errors import PayloadError
from stepfold.core.run import Run, RunStatus, StepStatus
from stepfold.core.shard import Shard, evolve
from stepfold.engine.executor import AttemptKey, Ended
from stepfold.engine.live import LiveRun, Wanted, any_backoff, is_loop_timer
from stepfold.engine.results import DEFINITION_WAIT, definition_found, ending, result_events
from stepfold.engine.surroundings import Surroundings
from stepfold.engine.timers import Wakes
from stepfold.journal.port import AppTopics, ShardId
from stepfold.journal.writer import HistoryWriter, WhenProven
from stepfold.sdk.activation import WorkflowInstance
from stepfold.sdk.app import App
from stepfold.sdk.calls import (
    Call,
    Cancelled,
    End,
    Errored,
    SignalCall,
    SleepCall,
    StepCall,
)

logger = logging.getLogger(__name__)

UNPROVEN_MAX = 5_000
"""Events ahead of their proof; more than these, and no further attempt starts."""


class Leader:
    def __init__(
        self,
        *,
        shard_id: ShardId,
        topics: AppTopics,
        app: App,
        shard: Shard,
        writer: HistoryWriter,
        around: Surroundings,
    ) -> None:
        self.shard_id = shard_id
        self.topics = topics
        self.app = app
        self.shard = shard
        self.writer = writer
        self.is_draining = False
        self._around = around
        self.clock = around.clock
        self._live: dict[str, LiveRun] = {}
        self._wakes = Wakes(around.clock, self._wake_id)
        self._last_at = 0
        self._stalled: deque[tuple[str, str]] = deque()

    # Life

    def start(self) -> None:
        """Take up all that is pending: there is no other path for a new owner."""
        for source in (self.topics.inbox, self.topics.control):
            if (source.topic_id, self.shard_id.partition) not in self.shard.intake:
                self.append(
                    e.IntakeOpened(
                        topic=source.name,
                        topic_id=source.topic_id,
                        partition=self.shard_id.partition,
                        start_offset=0,
                    )
                )
        for run in list(self.shard.runs.values()):
            self._lose_attempts(run)
            self.go_on(run)
        self._around.executor.attach(self.shard_id, self.attempt_ended)

    def stop(self) -> None:
        """Forget everything; running attempts are the executor's and go on."""
        self.writer.stop()
        self._around.executor.detach(self.shard_id)
        self._wakes.stop()
        for live in self._live.values():
            live.close()
        self._live.clear()

    @property
    def open_attempts(self) -> int:
        return sum(
            step.status is StepStatus.OPEN
            for run in self.shard.runs.values()
            for step in run.steps.values()
        )

    # Events

    def append(
        self, event: e.Event, *, tenant: str = "", when_proven: WhenProven | None = None
    ) -> None:
        """Write the event and let the state follow at once; effects wait for the proof."""
        now = max(self.clock.now_ms(), self._last_at)
        self._last_at = now
        self.writer.append(event, at=now, tenant=tenant, when_proven=when_proven)
        evolve(self.shard, event, now, self.writer.epoch)

    def append_all(self, events: Iterable[e.Event], run: Run) -> bool:
        """Append events of one run; whether there were any."""
        some = False
        for event in events:
            self.append(event, tenant=run.tenant)
            some = True
        return some

    # Runs

    def go_on(self, run: Run) -> None:
        """Do what is due, run the workflow's code as far as it gets, ask for what it wants."""
        if not self.writer.is_certain or run.is_terminal:
            return
        if run.status is RunStatus.PARKED:
            if run.cancel_reason is not None:
                self._end(run, Cancelled(reason=run.cancel_reason))
            return
        live = self._live.get(run.run_id) or self._bring_to_life(run)
        if live is None:
            return
        self._deliver_buffered(live)
        while live.is_behind:
            wanted = live.catch_up()
            self._ask(live, wanted)
            if wanted.end is not None:
                self._end(run, wanted.end)
                return
            self._deliver_buffered(live)
        self._record_idle_timers(live)
        self._schedule(live)

    def look_again(self, run_id: str) -> None:
        """Somebody thinks that the run stands still."""
        self._wake_id(run_id)

    def resumed(self, run: Run) -> None:
        """Paused or parked before: start what was held back."""
        self._wake(run)

    def refusal_of(self, signal: Signal) -> str | None:
        """Why a signal is not what its run waits for; such a one must not end the wait."""
        live = self._live.get(signal.run_id)
        if live is None:
            return None
        wait_id = next(
            (w for w, wait in live.run.waits.items() if wait.name == signal.name), signal.name
        )
        return live.instance.refusal_of(wait_id, signal.payload)

    def _deliver_buffered(self, live: LiveRun) -> None:
        for delivery in decide.buffered_deliveries(live.run):
            refusal = live.instance.refusal_of(delivery.wait_id, delivery.payload)
            if refusal is None:
                self.append(delivery, tenant=live.run.tenant)
            else:
                self._drop_buffered(live.run, delivery, refusal)

    def _drop_buffered(self, run: Run, delivery: e.WaitResolved, refusal: str) -> None:
        name = run.waits[delivery.wait_id].name
        logger.warning("early signal is dropped", extra={"run_id": run.run_id, "reason": refusal})
        expired = e.SignalExpired(run_id=run.run_id, signal_id=delivery.signal_id, name=name)
        self.append(expired, tenant=run.tenant)

    def _bring_to_life(self, run: Run) -> LiveRun | None:
        definition = self.app.workflows.get(run.workflow)
        if definition is None:
            if run.cancel_reason is not None:
                self._end(run, Cancelled(reason=run.cancel_reason))
            elif DEFINITION_WAIT not in run.waits:
                logger.warning(
                    "run waits for a workflow that is not deployed here",
                    extra={"run_id": run.run_id, "workflow": run.workflow},
                )
                self.append(
                    e.WaitOpened(
                        run_id=run.run_id,
                        wait_id=DEFINITION_WAIT,
                        kind="definition",
                        name=run.workflow,
                        expires_at=0,
                    ),
                    tenant=run.tenant,
                )
            return None
        if DEFINITION_WAIT in run.waits:
            self.append(definition_found(run), tenant=run.tenant)
        instance = WorkflowInstance(
            definition,
            run_id=run.run_id,
            app=run.app,
            tenant=run.tenant,
            event_name=run.event_name,
            event_id=run.event_id,
            event_data=run.payload,
            started_at=run.accepted_at,
        )
        live = LiveRun(run, instance)
        self._live[run.run_id] = live
        return live

    def _ask(self, live: LiveRun, wanted: Wanted) -> None:
        for call in wanted.calls:
            self._want(live, call)
        for gone in wanted.abandoned:
            self._abandon(live.run, gone, "the workflow gave the step up")

    def _want(self, live: LiveRun, call: Call) -> None:
        run = live.run
        match call:
            case StepCall():
                self._want_step(live, call)
            case SleepCall(timer_id=timer_id, due=due):
                if timer_id not in run.timers:
                    self._set_timer(run, timer_id, due, "sleep")
            case SignalCall(wait_id=wait_id, name=name, expires_at=expires_at):
                if wait_id not in run.waits:
                    opened = e.WaitOpened(
                        run_id=run.run_id,
                        wait_id=wait_id,
                        kind="signal",
                        name=name,
                        expires_at=expires_at,
                    )
                    self.append(opened, tenant=run.tenant)

    def _want_step(self, live: LiveRun, call: StepCall) -> None:
        """Start the step's next attempt if it may start now; else it stays asked for."""
        run = live.run
        step = run.steps.get(call.step)
        if step is not None and (
            step.status is not StepStatus.BACKOFF or step.next_at > self.clock.now_ms()
        ):
            return
        if run.paused or self.is_draining or run.status is not RunStatus.OPEN:
            return
        if self._around.executor.is_full or self.writer.unproven > UNPROVEN_MAX:
            self._stalled.append((run.run_id, call.step))
            return
        self._start_attempt(live, call)

    def _start_attempt(self, live: LiveRun, call: StepCall) -> None:
        run = live.run
        try:
            payload = call.encode_input()
            refused = None
        except PayloadError as error:
            payload, refused = b"", error
        started = decide.start_attempt(
            run,
            call.step,
            payload=payload,
            timeout_ms=call.timeout_ms,
            worker_id=self._around.worker_id,
            now=self.clock.now_ms(),
        )
        if not started:
            return
        key = AttemptKey(run.run_id, call.step, started[0].attempt)
        if refused is None:
            self.append(
                started[0], tenant=run.tenant, when_proven=lambda: self._execute(live, call, key)
            )
            return
        self.append(started[0], tenant=run.tenant)
        self._fail(run, call.step, key.attempt, refused)

    def _execute(self, live: LiveRun, call: StepCall, key: AttemptKey) -> None:
        step = live.run.steps.get(call.step)
        if step is None or step.status is not StepStatus.OPEN or step.attempt != key.attempt:
            return  # given up while the proof was under way
        context = live.instance.step_context(call.step, key.attempt)
        self._around.executor.start(self.shard_id, key, call, context)

    def _fail(self, run: Run, step_id: str, attempt: int, error: Exception) -> None:
        failed = decide.fail_attempt(
            run,
            step_id,
            attempt,
            error=(type(error).__name__, str(error), ""),
            policy=None,
            delay_ms=None,
            took_ms=0,
            now=self.clock.now_ms(),
        )
        self.append_all(failed, run)

    def _abandon(self, run: Run, gone: str, reason: str) -> None:
        """gone: the id of a step, a timer or a wait."""
        step = run.steps.get(gone)
        if step is not None:
            self.append_all(decide.cancel_attempt(run, gone, reason), run)
            self._around.executor.cancel(AttemptKey(run.run_id, gone, step.attempt))
        elif gone in run.timers:
            self.append(e.TimerCancelled(run_id=run.run_id, timer_id=gone), tenant=run.tenant)
        elif gone in run.waits:
            self.append(e.WaitExpired(run_id=run.run_id, wait_id=gone), tenant=run.tenant)

    def _end(self, run: Run, end: End) -> None:
        """The workflow returned, raised or was cancelled; what it left behind is given up."""
        for step_id, step in run.steps.items():
            if step.status in (StepStatus.OPEN, StepStatus.BACKOFF):
                self._abandon(run, step_id, "the run ended")
        self.append(ending(run, end), tenant=run.tenant)
        live = self._live.pop(run.run_id, None)
        if live is not None:
            live.close()

    # Results

    def attempt_ended(self, ended: Ended) -> None:
        """A result of an attempt, from the executor; a late one yields nothing."""
        run = self.shard.runs.get(ended.key.run_id)
        if run is None or not self.writer.is_certain:
            return
        live = self._live.get(run.run_id)
        call = live.steps.get(ended.key.step) if live is not None else None
        policy = call.retry if call is not None else self.app.retry
        if self.append_all(result_events(run, ended, policy, self.clock.now_ms()), run):
            self.go_on(run)
        while self._stalled and not self._around.executor.is_full:
            self._start_stalled(*self._stalled.popleft())

    def _start_stalled(self, run_id: str, step_id: str) -> None:
        live = self._live.get(run_id)
        call = live.steps.get(step_id) if live is not None else None
        if live is not None and call is not None:
            self._want_step(live, call)
            self.go_on(live.run)

    def _lose_attempts(self, run: Run) -> None:
        """Attempts of older epochs are lost, but for those that this process still runs."""
        for step_id, step in run.steps.items():
            key = AttemptKey(run.run_id, step_id, step.attempt)
            if step.status is StepStatus.OPEN and self._around.executor.runs(key, self.shard_id):
                step.epoch = self.writer.epoch
        self.append_all(decide.lose_attempts(self.shard, run), run)

    # Time

    def _set_timer(self, run: Run, timer_id: str, due: int, purpose: str) -> None:
        event = e.TimerSet(run_id=run.run_id, timer_id=timer_id, due=due, purpose=purpose)
        self.append(event, tenant=run.tenant)

    def _record_idle_timers(self, live: LiveRun) -> None:
        """A timer of the workflow's loop costs an event only when the run goes idle on it."""
        run = live.run
        for timer_id in [t for t in run.timers if is_loop_timer(t) and t not in live.timers]:
            self.append(e.TimerCancelled(run_id=run.run_id, timer_id=timer_id), tenant=run.tenant)
        if not live.timers or any(
            step.status in (StepStatus.OPEN, StepStatus.BACKOFF) for step in run.steps.values()
        ):
            return
        timer_id, due = min(live.timers.items(), key=lambda timer: timer[1])
        if timer_id not in run.timers:
            self._set_timer(run, timer_id, due, "timer")

    def _schedule(self, live: LiveRun) -> None:
        run = live.run
        due = min(live.timers.values(), default=None)
        if run.timers or run.waits or run.deadline or any_backoff(run, live):
            other = effects.wake_at(run)
            due = other if due is None else min(due, other) if other is not None else due
        if due is None or (live.wake_at is not None and live.wake_at <= due):
            return
        live.wake_at = due
        self._wakes.add(due, run.run_id)

    def _wake_id(self, run_id: str) -> None:
        run = self.shard.runs.get(run_id)
        if run is not None and self.writer.is_certain:
            self._wake(run)

    def _wake(self, run: Run) -> None:
        live = self._live.get(run.run_id)
        now = self.clock.now_ms()
        if live is not None:
            live.wake_at = None
        if run.deadline and run.deadline <= now:
            message = "the run took longer than the timeout of its workflow"
            self._end(run, Errored(error_type="RunTimeout", error_message=message, error_stack=""))
            return
        due_events = decide.due_events(run, now)
        self.append_all(due_events, run)
        if live is not None:
            fired_ids = {event.timer_id for event in due_events if isinstance(event, e.TimerFired)}
            for timer_id, due in live.timers.items():
                if due <= now and timer_id not in fired_ids:
                    fired = e.TimerFired(run_id=run.run_id, timer_id=timer_id, due=due)
                    self.append(fired, tenant=run.tenant)
            for call in list(live.steps.values()):
                self._want_step(live, call)
        self.go_on(run)
