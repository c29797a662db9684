"""The store's tables, for every database that SQLAlchemy Core speaks to."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

meta = Table(
    "stepfold_meta",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

shards = Table(
    "stepfold_shards",
    metadata,
    Column("app", String(64), primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("history_topic_id", String(64), nullable=False),
    Column("next_offset", BigInteger, nullable=False),
    Column("epoch_offset", BigInteger, nullable=False),
    Column("epoch_nonce", BigInteger, nullable=False),
    Column("next_seq", BigInteger, nullable=False),
    Column("last_offset", BigInteger, nullable=False),
    Column("inbox_topic_id", String(64), nullable=False),
    Column("control_topic_id", String(64), nullable=False),
    Column("inbox_offset", BigInteger, nullable=False),
    Column("control_offset", BigInteger, nullable=False),
    Column("worker_id", Text, nullable=False),
    Column("is_drained", Boolean, nullable=False),
    Column("void_records", BigInteger, nullable=False),
    Column("fault", Text, nullable=False),
)

runs = Table(
    "stepfold_runs",
    metadata,
    Column("run_id", String(64), primary_key=True),
    Column("app", String(64), nullable=False),
    Column("workflow", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("def_hash", Text, nullable=False),
    Column("event_name", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("idempotency_key", Text, nullable=False),
    Column("accepted_at", BigInteger, nullable=False),
    Column("accepted_offset", BigInteger, nullable=False),
    Column("status", String(16), nullable=False),
    Column("is_paused", Boolean, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("last_offset", BigInteger, nullable=False),
    Column("last_epoch_offset", BigInteger, nullable=False),
    Column("last_epoch_nonce", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("steps", Integer, nullable=False),
    Column("steps_completed", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("error_type", Text, nullable=False),
    Column("error_message", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("deadline", BigInteger, nullable=False),
    Column("due_at", BigInteger, nullable=True),
    Column("open_attempts", JSON, nullable=False),
    Column("backoffs", JSON, nullable=False),
    Column("timers", JSON, nullable=False),
    Column("waits", JSON, nullable=False),
    # Lists are newest first, of everything or of one app, workflow, status or tenant.
    Index("stepfold_runs_by_time", "accepted_at", "run_id"),
    Index("stepfold_runs_by_workflow", "app", "workflow", "accepted_at", "run_id"),
    Index("stepfold_runs_by_status", "status", "accepted_at", "run_id"),
    Index("stepfold_runs_by_tenant", "tenant", "accepted_at", "run_id"),
    Index("stepfold_runs_by_due", "due_at", "run_id"),
)

events = Table(
    "stepfold_events",
    metadata,
    Column("app", String(64), primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("offset", BigInteger, primary_key=True),
    Column("run_id", String(64), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("step", Text, nullable=True),
    Column("value", LargeBinary, nullable=False),
    Index("stepfold_events_by_run", "run_id", "offset"),
)
Index(
    "stepfold_events_by_step",
    events.c.step,
    events.c.run_id,
    sqlite_where=events.c.step.is_not(None),
    postgresql_where=events.c.step.is_not(None),
)
