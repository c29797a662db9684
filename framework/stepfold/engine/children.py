"""The runs and events that a shard's runs ask for, and the end of the waiting for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from stepfold.core import children
from stepfold.core.errors import PayloadError, PayloadTooLargeError, StepfoldError
from stepfold.core.ids import short_topic_id
from stepfold.core.run import Run
from stepfold.engine.directory import Answer, Directory
from stepfold.engine.executor import PAYLOAD_BYTES_MAX
from stepfold.engine.guard import Guard
from stepfold.engine.history import ShardHistory
from stepfold.journal.port import AppTopics
from stepfold.sdk.calls import ChildCall, EventCall


class Children:
    """shard_name: `<app>/<partition>`. go_on: lets a run's code take up what was recorded."""

    def __init__(
        self,
        *,
        app: str,
        shard_name: str,
        history: ShardHistory,
        directory: Directory,
        go_on: Callable[[Run], None],
        guard: Guard,
    ) -> None:
        self._app = app
        self._shard_name = shard_name
        self._history = history
        self._directory = directory
        self._go_on = go_on
        self._guard = guard

    def want(self, run: Run, call: ChildCall | EventCall) -> None:
        """Ask for a child, or send an event; what the log shows as asked for is not repeated."""
        if call.step in run.children or call.step in run.given_up:
            return
        app = call.app or self._app
        topics = self._directory.topics_of(app)
        if topics is None:
            found = partial(self._found, run.run_id, call)
            self._directory.ask(app, self._guard(found))
        else:
            self._send(run, call, app, topics)

    def give_up(self, run: Run, step: str, reason: str) -> None:
        event = children.give_up_child(self._history.shard, run, step, reason)
        self._history.append(event, tenant=run.tenant)

    def give_up_all(self, run: Run, reason: str) -> None:
        for step in list(run.children):
            self.give_up(run, step, reason)

    def time_out(self, run: Run, now: int) -> None:
        """End the waits that are due."""
        due = children.due_children(self._history.shard, run, now)
        self._history.append_all(due, run)

    def _found(self, run_id: str, call: ChildCall | EventCall, answer: Answer) -> None:
        run = self._history.shard.runs.get(run_id)
        if run is None or not self._history.is_certain:
            return
        if isinstance(answer, StepfoldError):
            self._refuse(run, call, answer)
        else:
            self._send(run, call, call.app or self._app, answer)
        self._go_on(run)

    def _send(self, run: Run, call: ChildCall | EventCall, app: str, topics: AppTopics) -> None:
        try:
            if isinstance(call, ChildCall):
                self._request(run, call, app, topics)
            else:
                self._send_event(run, call, app, topics)
        except PayloadError as error:
            self._refuse(run, call, error)

    def _request(self, run: Run, call: ChildCall, app: str, topics: AppTopics) -> None:
        event = children.request_child(
            self._history.shard,
            run,
            call.step,
            shard_name=self._shard_name,
            app=app,
            workflow=call.workflow,
            payload=_bounded(call.encode_input(), f"the input of child {call.step!r}"),
            topic=short_topic_id(topics.inbox.topic_id),
            partitions=topics.control.partitions,
            is_awaited=call.is_awaited,
            expires_at=call.expires_at,
        )
        self._history.append(event, tenant=run.tenant)

    def _send_event(self, run: Run, call: EventCall, app: str, topics: AppTopics) -> None:
        event = children.send_event(
            self._history.shard,
            run,
            call.step,
            app=app,
            name=call.name,
            payload=_bounded(call.encode_data(), f"the data of event {call.name!r}"),
            event_id=call.event_id,
            key=call.key,
            partitions=topics.inbox.partitions,
        )
        self._history.append(event, tenant=run.tenant)

    def _refuse(self, run: Run, call: ChildCall | EventCall, error: StepfoldError) -> None:
        event = children.refuse_call(run, call.step, (type(error).__name__, str(error)))
        self._history.append(event, tenant=run.tenant)


def _bounded(payload: bytes, what: str) -> bytes:
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise PayloadTooLargeError(what, len(payload), PAYLOAD_BYTES_MAX)
    return payload
