"""One record of each kind, with no field left at a value that a mistake would also give."""

from __future__ import annotations

import dataclasses
from typing import Any, cast, get_type_hints

from stepfold.core import events as e
from stepfold.core.commands import COMMAND_TYPES, Control, Trigger
from stepfold.core.ids import Epoch, Position, run_id_of

RUN = run_id_of(3, "0abcd", 1234)
EPOCH = Epoch(2**40, -(2**63))
SEQ = 7
AT = 1_790_000_000_123


def sample(cls: type[Any]) -> Any:
    hints = get_type_hints(cls)
    return cls(
        **{
            field.name: _value(field.name, hints[field.name], number)
            for number, field in enumerate(dataclasses.fields(cls), 1)
        }
    )


def sample_events() -> list[e.Event]:
    return [cast("e.Event", sample(cls)) for cls in e.EVENT_TYPES]


def sample_commands() -> list[Control | Trigger]:
    return [cast("Control | Trigger", sample(cls)) for cls in COMMAND_TYPES]


def _value(name: str, hint: Any, number: int) -> Any:
    if name == "run_id":
        return RUN
    if hint is int:
        return number * 2**34
    if hint is str:
        return f"{name} № {number}"
    if hint is bytes:
        return b'{"n": %d, "raw": "\x00\xff"}' % number
    if hint is bool:
        return True
    if hint is Position:
        return Position("topic-id", 3, number * 2**33, 9)
    return (
        e.RunStart(RUN, "agent", "hash", "tenant", "key", AT),
        e.RunStart(run_id_of(3, "0abcd", 1234, 1), "other", "", "", "", 0),
    )
