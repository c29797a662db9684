"""The app, and the run that most machines are about."""

from __future__ import annotations

from stepfold import App, step
from stepfold.core import events as e
from stepfold.core.ids import Position, run_id_of, short_topic_id

INBOX = "inbox-topic-id"
CONTROL = "control-topic-id"
TOPIC_SHORT = short_topic_id(INBOX)
RUN = run_id_of(0, TOPIC_SHORT, 0)
WORKFLOW = "w"


def app_of_steps(steps: int) -> App:
    """Its workflow runs so many steps, one after the other."""
    app = App("a")

    @app.workflow(name=WORKFLOW)
    async def in_turn() -> None:  # pyright: ignore[reportUnusedFunction]
        for number in range(steps):
            await step.run(step_name(number), _nothing)

    return app


def step_name(number: int) -> str:
    return f"step {number + 1}"


async def _nothing() -> None:
    """What a step does is not the protocol's business."""


def beginning() -> tuple[e.Event, ...]:
    """A shard that was opened, and began to read its inbox and its control topic."""
    return (
        e.ShardOpened(
            app="a",
            history_topic_id="history-topic-id",
            inbox_topic_id=INBOX,
            control_topic_id=CONTROL,
            partitions=1,
            fold_version=e.FOLD_VERSION,
            created_by="w",
        ),
        e.IntakeOpened(topic="a.inbox", topic_id=INBOX, partition=0, start_offset=0),
        e.IntakeOpened(topic="a.control", topic_id=CONTROL, partition=0, start_offset=0),
    )


def run_accepted() -> e.RunAccepted:
    return e.RunAccepted(
        source=Position(INBOX, 0, 0, 0),
        run_id=RUN,
        app="a",
        event_name="",
        event_id="",
        payload=b"",
        payload_encoding="none",
        key_id="",
        runs=(e.RunStart(RUN, WORKFLOW, "", "", "", 0),),
    )
