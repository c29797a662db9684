"""A record of a history as a line for people, or as JSON; whatever it is, it can be told.

What a record's bytes say is told even where it does not count, and why it does not. Bytes
that nobody can read are told as what they are.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from stepfold.core import events as e
from stepfold.core.errors import CodecError
from stepfold.core.ids import Epoch, Position
from stepfold.journal.port import LogRecord
from stepfold.verify.reading import AnyEvent, Reader, UnknownEvent, evidence
from stepfold.verify.succession import Succession, Void

VALUE_CHARACTERS_MAX = 60
"""Of one value in a line; JSON has all of it."""
HEX_BYTES_MAX = 24
"""Of a record that cannot be read."""
KIND_HEADER = "sf-kind"
TIMES = frozenset({"due", "deadline", "next_at", "timeout_at", "expires_at", "ttl_at"})
"""Fields that hold milliseconds since 1970; 0 is none."""
NOWHERE = (Position("", -1, -1, -1), e.NOWHERE, e.NO_PARENT)
"""What stands for "none" in an event."""
APART = frozenset({"run_id", "step", "attempt", "token", "key_id", "payload_encoding"})
"""Fields that have a place of their own in a line, or none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    partition: int
    offset: int
    timestamp: int
    kind: str
    """Empty: the bytes cannot be read."""
    run_id: str
    step: str
    attempt: int
    epoch: Epoch | None
    seq: int
    void: Void | None
    fields: Mapping[str, Any]
    """All of the event, ready for JSON."""
    runs: frozenset[str]
    """The runs that it is about; a trigger can start several."""

    def line(self) -> str:
        step = f"{self.step}#{self.attempt}" if self.attempt else self.step
        about = " ".join(filter(None, (self.run_id, step)))
        void = f"VOID ({self.void.value})" if self.void is not None else ""
        place = f"{self.partition}/{self.offset}"
        parts = (self.kind or "UNREADABLE", about, _facts(self.fields), void)
        return f"{place:>10}  {_time(self.timestamp)}  " + "  ".join(filter(None, parts))

    def as_json(self) -> dict[str, Any]:
        return {
            "partition": self.partition,
            "offset": self.offset,
            "at": _time(self.timestamp),
            "kind": self.kind or None,
            "run_id": self.run_id or None,
            "step": self.step or None,
            "attempt": self.attempt or None,
            "epoch": self.epoch and list(self.epoch),
            "seq": self.seq,
            "void": self.void and self.void.value,
            "fields": dict(self.fields),
        }


class Teller:
    """Tells the records of one history partition, in order from the first that it gets."""

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._reader = Reader()
        self._succession = Succession()

    def begin(self, records: Sequence[LogRecord]) -> None:
        """The first records that will come. From them it learns who is the owner there."""
        if records and records[0].offset:
            self._succession.join(evidence(self._reader, records), records[0].offset)

    def tell(self, record: LogRecord) -> Told:
        value = record.value or b""
        try:
            epoch, seq, event = self._reader.read(value, record.offset)
        except CodecError as error:
            return self._unreadable(record, value, error)
        fields: Mapping[str, Any] = _fields(event)
        kind = type(event).__name__
        if isinstance(event, UnknownEvent):
            kind, fields = _named(record) or event.kind, {"bytes": value[:HEX_BYTES_MAX].hex()}
        return Told(
            partition=self._partition,
            offset=record.offset,
            timestamp=record.timestamp,
            kind=kind,
            run_id=getattr(event, "run_id", ""),
            step=getattr(event, "step", ""),
            attempt=getattr(event, "attempt", 0),
            epoch=None if isinstance(event, e.Claimed) else epoch,
            seq=seq,
            void=self._judge(record.offset, epoch, seq, event),
            fields=fields,
            runs=frozenset(_runs(event)),
        )

    def _judge(self, offset: int, epoch: Epoch, seq: int, event: AnyEvent) -> Void | None:
        succession = self._succession
        if isinstance(event, e.Claimed):
            if (event.prev_epoch_offset, event.prev_epoch_nonce) != succession.owner:
                return Void.CLAIM
            succession.claimed(offset, event.nonce)
            return None
        if epoch != succession.owner or seq != succession.next_seq:
            return succession.void_event(epoch, seq)
        succession.advance(offset, seq)
        return None

    def _unreadable(self, record: LogRecord, value: bytes, error: CodecError) -> Told:
        return Told(
            partition=self._partition,
            offset=record.offset,
            timestamp=record.timestamp,
            kind="",
            run_id="",
            step="",
            attempt=0,
            epoch=None,
            seq=-1,
            void=None,
            fields={"error": str(error), "bytes": value[:HEX_BYTES_MAX].hex(), "size": len(value)},
            runs=frozenset(),
        )


def _runs(event: AnyEvent) -> Iterator[str]:
    if isinstance(event, e.RunAccepted):
        yield from (start.run_id for start in event.runs)
    elif run_id := getattr(event, "run_id", ""):
        yield run_id


def _named(record: LogRecord) -> str | None:
    """The kind as the headers say, which an unknown schema does not."""
    names = (value for name, value in record.headers if name == KIND_HEADER and value)
    name = next(names, None)
    return None if name is None else name.decode(errors="replace")


def _fields(event: Any) -> dict[str, Any]:
    encoding = getattr(event, "payload_encoding", "")
    return {
        field.name: _plain(getattr(event, field.name), encoding)
        for field in dataclasses.fields(event)
    }


def _plain(value: Any, encoding: str = "") -> Any:
    """As JSON can hold it."""
    if isinstance(value, bytes):
        return _of_bytes(value, encoding)
    if isinstance(value, Position | e.Origin | e.Parent) and value in NOWHERE:
        return None
    if isinstance(value, tuple):
        values = cast("Any", value)
        names: tuple[str, ...] | None = getattr(values, "_fields", None)
        plain = [_plain(each) for each in values]
        return plain if names is None else dict(zip(names, plain, strict=True))
    if dataclasses.is_dataclass(value):
        return {"kind": type(value).__name__, **_fields(value)}
    return value


def _of_bytes(value: bytes, encoding: str) -> object:
    """Payloads and the states in snapshots are JSON; whatever is not, is shown as hex."""
    if encoding in ("", "json"):
        try:
            return json.loads(value or b"null")
        except ValueError:
            pass
    return value.hex()


def _facts(fields: Mapping[str, Any]) -> str:
    shown = (
        f"{name}={_cut(_value(name, value))}"
        for name, value in fields.items()
        if name not in APART and value not in ("", 0, None, False, [])
    )
    return " ".join(shown)


def _value(name: str, value: Any) -> str:
    if name in TIMES:
        return _time(value)
    if name == "source":
        return f"{value['partition']}/{value['offset']}"
    if name == "runs":
        return ",".join(start["workflow"] for start in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= VALUE_CHARACTERS_MAX else f"{line[:VALUE_CHARACTERS_MAX]}…"


def _time(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1_000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
