"""A decoder for each kind of record: plain Python, made once from the schemas.

An Avro library interprets the schema again for each field of each record, and puts a dict
between the bytes and the object: 5.9 µs for an event of twelve fields, most of what a fold
took. The function that is made here says the same field by field (`source_of` shows it) and
fills the object's slots from its own variables, in 2.4 µs.

A schema of an earlier release only lacks what was added since, and that has defaults; so its
decoder sets these, and takes no longer. Bytes that end too early or too late, and lengths that
are negative, are refused: IndexError, LookupError and ValueError say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

LONG_BYTES_MAX = 10
"""Of 64 bits, at seven to a byte."""

_LONGS = tuple((n >> 1) ^ -(n & 1) for n in range(128))
"""Longs of one byte, which most are."""
_SIZES = {n: n >> 1 for n in range(0, 128, 2)}
"""Lengths of one byte; the missing ones would be negative."""


class Shape(NamedTuple):
    """What a decoder makes: an object whose slots hold these expressions.

    slots: by slot, in terms of the record's fields, each with an `f_` before its name.
    items: by array, a call that makes one item, in terms of its fields with an `i_`.
    scope: what these expressions name.
    """

    type: type[Any]
    slots: Mapping[str, str]
    items: Mapping[str, str]
    scope: Mapping[str, Any]


def decoder_of(
    shape: Shape, written: Sequence[Any], present: Sequence[Any], given: Sequence[str], result: str
) -> Callable[..., Any]:
    """`decode(v, p, *given)`: reads the bytes v from p to their end.

    written, present: the fields of the writer's schema and of the present one. result: an
    expression for what is returned, in terms of fields, of `given`, and of x, the object.
    """
    scope: dict[str, Any] = {
        **shape.scope,
        "x_type": shape.type,
        "new": object.__new__,
        "longs": _LONGS,
        "sizes": _SIZES,
        "long": _long,
        "size": _size,
        "wrong_end": _wrong_end,
        **{f"set_{name}": shape.type.__dict__[name].__set__ for name in shape.slots},
    }
    exec(source_of(shape, written, present, given, result), scope)
    decode: Callable[..., Any] = scope["decode"]
    return decode


def source_of(
    shape: Shape, written: Sequence[Any], present: Sequence[Any], given: Sequence[str], result: str
) -> str:
    lines = [f"def decode({', '.join(('v', 'p', *given))}):"]
    lines += _taken(shape, written, present)
    lines += ["    if p != len(v): raise wrong_end(p, len(v))", "    x = new(x_type)"]
    lines += [f"    set_{name}(x, {expression})" for name, expression in shape.slots.items()]
    return "\n".join([*lines, f"    return {result}", ""])


def _taken(shape: Shape, written: Sequence[Any], present: Sequence[Any]) -> list[str]:
    lines: list[str] = []
    wanted = {field["name"]: field for field in present}
    for field in written:
        name, kind = field["name"], field["type"]
        if isinstance(kind, str):
            lines += _indented(_TAKE[kind], f"f_{name}", 1)
        else:
            now = wanted[name]["type"]["items"]["fields"] if name in wanted else ()
            lines += _array(f"f_{name}", kind["items"]["fields"], now, shape.items.get(name, "()"))
    return lines + _defaults("f_", written, present, 1)


def _array(target: str, written: Sequence[Any], present: Sequence[Any], item: str) -> list[str]:
    """Blocks of items: a count, which is negative if the block's size in bytes follows it."""
    item_lines = [
        line
        for field in written
        for line in _indented(_TAKE[field["type"]], f"i_{field['name']}", 3)
    ]
    return [
        "    items = []",
        *_indented(_TAKE["long"], "count", 1),
        "    while count:",
        "        if count < 0:",
        "            count = -count",
        *_indented(_TAKE["long"], "block_bytes", 3),
        "        for _ in range(count):",
        *item_lines,
        *_defaults("i_", written, present, 3),
        f"            items.append({item})",
        *_indented(_TAKE["long"], "count", 2),
        f"    {target} = tuple(items)",
    ]


def _defaults(prefix: str, written: Sequence[Any], present: Sequence[Any], depth: int) -> list[str]:
    """Fields that the writer did not have yet."""
    had = {field["name"] for field in written}
    missing = [field for field in present if field["name"] not in had]
    return [f"{'    ' * depth}{prefix}{field['name']} = {_default(field)!r}" for field in missing]


def _default(field: Any) -> Any:
    default = field["default"]
    if field["type"] == "bytes":
        return default.encode("iso-8859-1")  # as Avro writes bytes in a schema
    return () if default == [] else default


def _indented(lines: Sequence[str], target: str, depth: int) -> list[str]:
    return ["    " * depth + line.replace("TARGET", target) for line in lines]


_TAKE_LONG = (
    "n = v[p]; p += 1",
    "if n < 128: TARGET = longs[n]",
    "else: TARGET, p = long(v, p, n)",
)
_TAKE_SIZE = ("n = v[p]; p += 1", "if n < 128: n = sizes[n]", "else: n, p = size(v, p, n)")
_TAKE: Mapping[str, Sequence[str]] = {
    "long": _TAKE_LONG,
    "boolean": ("TARGET = v[p] != 0; p += 1",),
    "bytes": (*_TAKE_SIZE, "TARGET = v[p : p + n]; p += n"),
    "string": (*_TAKE_SIZE, "TARGET = v[p : p + n].decode() if n else ''; p += n"),
}
"""By Avro type: the lines that take a value of the bytes v, from p on, as TARGET."""


def take_long(value: bytes, at: int) -> tuple[int, int]:
    """The long that begins there, and where it ends."""
    first = value[at]
    return (_LONGS[first], at + 1) if first < 128 else _long(value, at + 1, first)


def _long(value: bytes, at: int, first: int) -> tuple[int, int]:
    """A long of several bytes, the first of which is taken, and where it ends."""
    number, shift = first & 127, 7
    for byte in value[at : at + LONG_BYTES_MAX - 1]:
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return (number >> 1) ^ -(number & 1), at
        shift += 7
    if at == len(value):
        raise IndexError("it ends within a long")
    raise ValueError(f"a long of more than {LONG_BYTES_MAX} bytes")


def _size(value: bytes, at: int, first: int) -> tuple[int, int]:
    number, at = _long(value, at, first)
    if number < 0:
        raise ValueError(f"a length of {number}")
    return number, at


def _wrong_end(at: int, end: int) -> Exception:
    if at > end:
        return IndexError(f"it ends {at - end} bytes too early")
    return ValueError(f"{end - at} bytes follow its end")
