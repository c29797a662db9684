"""An event: what triggers runs, as senders make it and as workflows get it."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Data = TypeVar("Data")


class Event(BaseModel, Generic[Data]):
    """name: what happened ("agent/run"). data: anything JSON can hold.

    id: a second event of the same id within a day leads to the first one's runs; made up
    when missing. key: events of one key go to one partition, in order; default: the id.
    """

    model_config = ConfigDict(frozen=True)

    name: str = Field(min_length=1, max_length=512)
    data: Data | None = None
    id: str | None = Field(default=None, max_length=512)
    key: str | None = Field(default=None, max_length=512)

    def __init__(self, name: str | None = None, /, **fields: Any) -> None:
        if name is not None:
            fields["name"] = name
        super().__init__(**fields)
