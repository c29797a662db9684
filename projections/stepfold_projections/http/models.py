"""What the API takes and gives, as pydantic models; the OpenAPI document comes from them.

Times are RFC 3339 in UTC. A value that a run recorded is given as the JSON that it is.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from stepfold_projections.runs import Status
from stepfold_projections.trace import AttemptStatus, StepStatus, TimerStatus, WaitStatus

PAGE_DEFAULT = 50
PAGE_MAX = 500
EVENTS_PAGE_DEFAULT = 1_000
EVENTS_PAGE_MAX = 5_000
AFTER_TIMEOUT_MAX_S = 60.0
AFTER_TIMEOUT_S = 10.0
TEXT_MAX = 1_000


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Text = Annotated[str, Field(max_length=TEXT_MAX)]


class ReadQuery(Request):
    after: str | None = Field(
        default=None,
        description="A `position` that a POST gave: wait until the projection has passed it.",
    )
    timeout: float = Field(
        default=AFTER_TIMEOUT_S, ge=0, le=AFTER_TIMEOUT_MAX_S, description="Seconds for `after`."
    )


class RunsQuery(ReadQuery):
    app: Text | None = None
    workflow: Text | None = None
    status: list[Status] | None = Field(
        default=None, description="Repeated, or separated by commas."
    )
    tenant: Text | None = None
    step: Text | None = Field(default=None, description="Runs that began a step of this name.")
    error: Text | None = Field(default=None, description="Part of an error's type or message.")
    q: Text | None = Field(default=None, description="CEL; not in this version.")
    since: datetime | None = Field(default=None, alias="from", description="Accepted since then.")
    until: datetime | None = Field(default=None, alias="to", description="Accepted before then.")
    limit: int = Field(default=PAGE_DEFAULT, ge=1, le=PAGE_MAX)
    cursor: Text | None = Field(default=None, description="`next_cursor` of the page before.")


class RunQuery(ReadQuery):
    as_of: int | None = Field(
        default=None, ge=0, description="The run as it was at this offset of its history."
    )


class EventsQuery(RunQuery):
    limit: int = Field(default=EVENTS_PAGE_DEFAULT, ge=1, le=EVENTS_PAGE_MAX)
    cursor: int | None = Field(default=None, ge=0, description="Events behind this offset.")


class Error(BaseModel):
    type: str
    message: str
    stack: str = ""


class OpenWaitModel(BaseModel):
    kind: str = Field(
        description="signal; child: a run that was started; definition: no worker has the workflow."
    )
    name: str
    expires_at: datetime | None


class RunSummary(BaseModel):
    id: str
    app: str
    workflow: str
    status: Status
    tenant: str
    event_name: str
    event_id: str
    idempotency_key: str
    accepted_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    updated_at: datetime
    duration_ms: int | None = Field(description="From acceptance to end.")
    steps_total: int
    steps_completed: int
    attempts_total: int
    failures: int = Field(description="Attempts that failed or timed out.")
    losses: int = Field(description="Attempts whose process died; not failures.")
    error: Error | None
    reason: str
    partition: int
    waiting_for: list[OpenWaitModel]
    stalled: str | None = Field(description="What should have happened by now, if anything.")


class RunList(BaseModel):
    runs: list[RunSummary]
    next_cursor: str | None


class Attempt(BaseModel):
    number: int
    status: AttemptStatus
    started_at: datetime
    ended_at: datetime | None
    took_ms: int | None
    error: Error | None
    is_retryable: bool | None
    next_at: datetime | None
    worker_id: str
    offset: int = Field(description="Of AttemptStarted in the history partition.")
    end_offset: int | None


class Step(BaseModel):
    step: str
    status: StepStatus
    started_at: datetime
    ended_at: datetime | None
    input: Any
    output: Any
    error: Error | None
    attempts: list[Attempt]


class Wait(BaseModel):
    id: str
    kind: str = Field(description="signal, child, event or definition.")
    name: str
    status: WaitStatus
    opened_at: datetime
    ended_at: datetime | None
    expires_at: datetime | None
    value: Any
    error: Error | None


class Timer(BaseModel):
    id: str
    purpose: str
    status: TimerStatus
    set_at: datetime
    due: datetime
    ended_at: datetime | None


class SignalModel(BaseModel):
    id: str
    name: str
    at: datetime
    status: str
    value: Any


class RequestModel(BaseModel):
    kind: str
    at: datetime
    by: str
    reason: str


class RejectionModel(BaseModel):
    at: datetime
    offset: int
    reason: str


class KafkaPlace(BaseModel):
    topic: str
    partition: int
    offset: int


class ParentModel(BaseModel):
    id: str
    step: str = Field(description="The step that waits for the result; empty: none does.")


class RunDetail(RunSummary):
    input: Any
    output: Any
    steps: list[Step]
    waits: list[Wait]
    timers: list[Timer]
    signals: list[SignalModel]
    requests: list[RequestModel]
    rejections: list[RejectionModel] = Field(
        description="Signals and requests that the run's owner did not take."
    )
    trigger: KafkaPlace = Field(description="The record that started the run.")
    parent: ParentModel | None = Field(description="The run that started this one, if one did.")
    first_event: KafkaPlace
    last_event: KafkaPlace


class EventModel(BaseModel):
    kind: str
    at: datetime
    offset: int
    epoch: str
    seq: int
    fields: dict[str, Any] = Field(description="As the Avro schema of the kind names them.")


class EventList(BaseModel):
    topic: str
    partition: int
    events: list[EventModel]
    next_cursor: int | None


class SendBody(Request):
    name: str = Field(min_length=1, max_length=TEXT_MAX)
    data: Any = None
    id: str | None = Field(default=None, max_length=TEXT_MAX, description="Repeated: no new run.")
    key: str | None = Field(default=None, max_length=TEXT_MAX)


class StartBody(Request):
    input: Any = None
    idempotency_key: str | None = Field(default=None, max_length=TEXT_MAX)


class SignalBody(Request):
    name: str = Field(min_length=1, max_length=200)
    payload: Any = None


class ReasonBody(Request):
    reason: str = Field(default="", max_length=TEXT_MAX)


class Accepted(BaseModel):
    """Kafka has acknowledged it. `position` is for `?after=` of a GET."""

    position: str


class Started(Accepted):
    id: str


class AppModel(BaseModel):
    name: str
    partitions: int
    faults: list[str]


class AppList(BaseModel):
    apps: list[AppModel]


class WorkflowModel(BaseModel):
    app: str
    workflow: str
    runs: dict[Status, int]


class WorkflowList(BaseModel):
    workflows: list[WorkflowModel]


class Stats(BaseModel):
    runs: dict[Status, int]
    stalled: int
    nudges: int
    records_projected: int
    is_caught_up: bool
