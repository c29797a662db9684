"""Flow control as authors declare it; carried out by a later version."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Concurrency:
    """At most `limit` runs at once for each value of the CEL expression `key`."""

    limit: int
    key: str | None = None
