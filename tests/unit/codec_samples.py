"""One record of each kind, with no field left at a value that a mistake would also give."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, cast, get_type_hints

from stepfold.core import commands as c
from stepfold.core import events as e
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


def sample_commands() -> list[c.Command]:
    return [cast("c.Command", sample(cls)) for cls in c.COMMAND_TYPES]


def _value(name: str, hint: Any, number: int) -> Any:
    if name == "run_id":
        return RUN
    if name in _NESTED:
        return _NESTED[name](number)
    return _PLAIN[hint](name, number)


_PLAIN: dict[Any, Callable[[str, int], Any]] = {
    int: lambda name, number: number * 2**34,
    str: lambda name, number: f"{name} № {number}",
    bytes: lambda name, number: b'{"n": %d, "raw": "\x00\xff"}' % number,
    bool: lambda name, number: True,
}
_NESTED: dict[str, Callable[[int], Any]] = {
    "source": lambda number: Position("topic-id", 3, number * 2**33, 9),
    "origin": lambda number: e.Origin("research/3", number),
    "parent": lambda number: e.Parent("research/3", RUN, "plan"),
    "body": lambda number: sample(c.Cancel),
    "out": lambda number: (
        e.Out("research.control/3", number, sample(c.ResolveChild)),
        e.Out("research.inbox/1", number + 1, sample(c.Trigger)),
    ),
    "runs": lambda number: (
        e.RunStart(RUN, "agent", "hash", "tenant", "key", AT),
        e.RunStart(run_id_of(3, "0abcd", 1234, 1), "other", "", "", "", 0),
    ),
}
