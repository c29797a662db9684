"""Leads one shard under one epoch: commands in, events out, effects on proof.

Everything that happens to a run passes through here, one thing after the other, on the
worker's loop. State is evolved when an event is appended, so the next decision sees it
at once and a step's completion and its successor's start share one round trip; but
nothing leaves this object (a user's code called, a timer trusted, an answer given)
before the event that stands for it is proven (rules R8 and R9). If a proof fails, the
leader ends and all its state is dropped: the next one folds the log.

What goes wrong with one run, against all expectation, parks that run and no other.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from stepfold.core import decide, effects
from stepfold.core import events as e
from stepfold.core.commands import Signal
from stepfold.core.run import Run, RunStatus, StepStatus
from stepfold.core.shard import Shard
from stepfold.engine.attempts import Attempts
from stepfold.engine.checkpoints import Checkpoints
from stepfold.engine.children import Children
from stepfold.engine.guard import Guard
from stepfold.engine.history import ShardHistory
from stepfold.engine.live import LiveRun, Wanted, is_loop_timer
from stepfold.engine.outbox import Outbox
from stepfold.engine.results import DEFINITION_WAIT, definition_found, ending
from stepfold.engine.signals import deliver_buffered, refusal_of
from stepfold.engine.surroundings import Surroundings
from stepfold.engine.timers import Wakes
from stepfold.journal.port import Appender, AppTopics, ShardId
from stepfold.journal.writer import HistoryWriter
from stepfold.sdk.activation import WorkflowInstance
from stepfold.sdk.app import App
from stepfold.sdk.calls import (
    Call,
    Cancelled,
    ChildCall,
    End,
    Errored,
    EventCall,
    Parked,
    SignalCall,
    SleepCall,
    StepCall,
)
from stepfold.sdk.failures import failure_of

logger = logging.getLogger(__name__)

RUNS_PER_SLICE = 200
"""Runs that a new leader brings to life before the loop gets its turn."""
LIVE_RUNS_MAX = 10_000
"""Runs of a shard whose code is in memory; of more, those that only wait leave it."""


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
        appender: Appender,
        note_checkpoint: Callable[[int], None],
        guard: Guard,
    ) -> None:
        self.shard_id = shard_id
        self.topics = topics
        self.app = app
        self.shard = shard
        self.writer = writer
        self.clock = around.clock
        self.history = ShardHistory(
            shard=shard,
            writer=writer,
            clock=around.clock,
            deliver=lambda outs: self._outbox.release(outs),
        )
        name = f"{shard_id.app}/{shard_id.partition}"
        self._outbox = Outbox(shard_name=name, history=self.history, appender=appender, guard=guard)
        self._children = Children(
            app=app.name,
            shard_name=name,
            history=self.history,
            directory=around.directory,
            go_on=self.go_on,
            guard=guard,
        )
        self.append = self.history.append
        self.checkpoints = Checkpoints(
            history=self.history,
            guard=guard,
            on_done=note_checkpoint,
            events_between=around.events_between_checkpoints,
        )
        self._guard = guard
        self._recovering: deque[str] = deque()
        self._live: dict[str, LiveRun] = {}
        self._wakes = Wakes(around.clock, guard(self._wake_id))
        self._attempts = Attempts(
            shard_id=shard_id,
            history=self.history,
            around=around,
            live=self._live,
            retry=app.retry,
            go_on=self.go_on,
            attend=self._attend,
            guard=guard,
        )

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
        self._outbox.start()
        for run in list(self.shard.runs.values()):
            self._attempts.lose(run)
        self._attempts.attach()
        self._recovering.extend(self.shard.runs)
        self._recover()

    def _recover(self) -> None:
        """Bring the open runs to life, some at a time: new triggers and results go on between."""
        for _ in range(min(RUNS_PER_SLICE, len(self._recovering))):
            run = self.shard.runs.get(self._recovering.popleft())
            if run is not None and run.run_id not in self._live:
                self.go_on(run)
        if self._recovering and self.writer.is_certain:
            self.clock.call_at(self.clock.now_ms(), self._guard(self._recover))

    def relieve(self) -> None:
        """Let runs leave the memory that have nothing to do; replay brings them back."""
        if len(self._live) > LIVE_RUNS_MAX:
            self.clock.call_at(self.clock.now_ms(), self._guard(self._let_idle_go))

    def _let_idle_go(self) -> None:
        for run_id in [run_id for run_id, live in self._live.items() if live.is_idle]:
            self._live.pop(run_id).close()

    def stop(self) -> None:
        """Forget everything; running attempts are the executor's and go on."""
        self.writer.stop()
        self._attempts.detach()
        self._wakes.stop()
        for live in self._live.values():
            live.close()
        self._live.clear()

    def drain(self) -> None:
        """Start no attempt any more."""
        self._attempts.is_draining = True

    @property
    def live_runs(self) -> int:
        """Runs whose code is in memory."""
        return len(self._live)

    @property
    def open_attempts(self) -> int:
        return sum(
            step.status is StepStatus.OPEN
            for run in self.shard.runs.values()
            for step in run.steps.values()
        )

    # Runs

    def go_on(self, run: Run) -> None:
        """Do what is due, run the workflow's code as far as it gets, ask for what it wants."""
        self._attend(run, self._go_on)

    def _attend(self, run: Run, work: Callable[[Run], object]) -> None:
        """What goes wrong there parks this run, and concerns no other.

        Not even SystemExit of an author's code: it would end the whole process.
        """
        try:
            work(run)
        except BaseException as error:
            logger.exception("run cannot go on, it is parked", extra={"run_id": run.run_id})
            self._park_broken(run, error)

    def _go_on(self, run: Run) -> None:
        if not self.writer.is_certain or run.is_terminal:
            return
        if run.status is RunStatus.PARKED:
            if run.cancel_reason is not None:
                self._end(run, Cancelled(reason=run.cancel_reason))
            return
        live = self._live.get(run.run_id) or self._bring_to_life(run)
        if live is None:
            if run.deadline:
                self._wakes.add(run.deadline, run.run_id)
            return
        # Not before the code has caught up: until then nobody knows what a wait takes.
        if not live.is_behind:
            deliver_buffered(self.history, live)
        while live.is_behind:
            wanted = live.catch_up()
            self._ask(live, wanted)
            if wanted.end is not None:
                self._end(run, wanted.end)
                return
            deliver_buffered(self.history, live)
        self._record_idle_timers(live)
        self._schedule(live)

    def _park_broken(self, run: Run, error: BaseException) -> None:
        """A fault of ours that concerns one run: it stands still, visibly, the others go on."""
        live = self._live.pop(run.run_id, None)
        if live is not None:
            live.close()
        if run.is_terminal:
            return
        failure = failure_of(error)
        place = failure.stack or failure.message
        message = f"stepfold failed on this run; please report it, then resume the run:\n{place}"
        self.append(decide.park(run, "engine_error", message, ""), tenant=run.tenant)

    def look_again(self, run_id: str) -> None:
        """Somebody thinks that the run stands still."""
        self._wake_id(run_id)

    def resumed(self, run: Run) -> None:
        """Paused or parked before: start what was held back."""
        self._attend(run, self._wake)

    def refusal_of(self, signal: Signal) -> str | None:
        """Why a signal is not what its run waits for; the run is brought to life to say so."""
        first = self.shard.aliases.get(signal.run_id)
        run_id = signal.run_id if first is None else first.run_id
        run = self.shard.runs.get(run_id)
        if run is not None and run_id not in self._live:
            self.go_on(run)
        live = self._live.get(run_id)
        return None if live is None else refusal_of(live, signal.name, signal.payload)

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
                self._attempts.want(live, call, self.clock.now_ms())
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
            case ChildCall() | EventCall():
                self._children.want(run, call)

    def _abandon(self, run: Run, gone: str, reason: str) -> None:
        """gone: the id of a step, a timer, a wait or a child."""
        if gone in run.steps:
            self._attempts.abandon(run, gone, reason)
        elif gone in run.children:
            self._children.give_up(run, gone, reason)
        elif gone in run.timers:
            self.append(e.TimerCancelled(run_id=run.run_id, timer_id=gone), tenant=run.tenant)
        elif gone in run.waits:
            self.append(e.WaitExpired(run_id=run.run_id, wait_id=gone), tenant=run.tenant)

    def _end(self, run: Run, end: End) -> None:
        """The workflow returned, raised or was cancelled; what it left behind is given up.

        A run that is parked keeps it: it may be resumed, and its code then waits for all of it.
        """
        if not isinstance(end, Parked):
            for step_id, step in run.steps.items():
                if step.status in (StepStatus.OPEN, StepStatus.BACKOFF):
                    self._abandon(run, step_id, "the run ended")
            self._children.give_up_all(run, "its parent ended")
        self.append(ending(self.shard, run, end), tenant=run.tenant)
        live = self._live.pop(run.run_id, None)
        if live is not None:
            live.close()

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
        attempt = live.next_attempt_at()
        due = [*live.timers.values(), *effects.alarms(live.run)]
        first = min(due if attempt is None else (*due, attempt), default=None)
        if first is None or (live.wake_at is not None and live.wake_at <= first):
            return
        live.wake_at = first
        self._wakes.add(first, live.run.run_id)

    def _wake_id(self, run_id: str) -> None:
        run = self.shard.runs.get(run_id)
        if run is not None and self.writer.is_certain:
            self._attend(run, self._wake)

    def _wake(self, run: Run) -> None:
        live = self._live.get(run.run_id)
        now = self.clock.now_ms()
        if live is not None:
            live.woken(now)
        if run.deadline and run.deadline <= now:
            message = "the run took longer than the timeout of its workflow"
            self._end(run, Errored(error_type="RunTimeout", error_message=message, error_stack=""))
            return
        due_events = decide.due_events(run, now)
        self.history.append_all(due_events, run)
        self._children.time_out(run, now)
        if live is not None:
            fired_ids = {event.timer_id for event in due_events if isinstance(event, e.TimerFired)}
            for timer_id, due in live.timers.items():
                if due <= now and timer_id not in fired_ids:
                    fired = e.TimerFired(run_id=run.run_id, timer_id=timer_id, due=due)
                    self.append(fired, tenant=run.tenant)
            for call in list(live.steps.values()):
                self._attempts.want(live, call, now)
        self.go_on(run)
