"""What a check found, of one shard or of a whole app; made to be sent between processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from stepfold.verify.story import Deliveries

VIOLATIONS_KEPT_MAX = 1_000
"""Of one shard. A broken history can break a rule with every record; all are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    invariant: str
    rule: str
    topic: str
    partition: int
    offset: int
    run_id: str
    step: str
    sentence: str


@dataclass(slots=True)
class Report:
    records: int = 0
    kinds: Counter[str] = field(default_factory=Counter[str])
    """Events that count, by kind; claims are among them."""
    void: Counter[str] = field(default_factory=Counter[str])
    """Records that do not count, by reason."""
    unchecked: Counter[str] = field(default_factory=Counter[str])
    """Events of kinds that no rule knows."""
    runs: Counter[str] = field(default_factory=Counter[str])
    """Runs by state, as the log ends."""
    source_records: int = 0
    """Records of inbox and control whose fate was looked for."""
    source_pending: int = 0
    """Those behind the folded positions: not taken in yet."""
    copies_unchecked: int = 0
    """Copies in the DLQ that could not be compared: the DLQ is not here, or has dropped them."""
    deliveries: Counter[str] = field(default_factory=Counter[str])
    """Between shards of the app: `decided` and `taken`; the difference is under way."""
    sent: dict[str, Deliveries] = field(default_factory=dict[str, Deliveries])
    """Of one shard, for the comparison with the others; see `deliveries`."""
    taken: dict[str, Deliveries] = field(default_factory=dict[str, Deliveries])
    is_whole: bool = True
    """Whether the history was there from its first record."""
    broken: Counter[str] = field(default_factory=Counter[str])
    """Violations by rule, those included that are not kept."""
    violations: list[Violation] = field(default_factory=list[Violation])

    def add(self, violation: Violation) -> None:
        self.broken[f"{violation.invariant} {violation.rule}"] += 1
        if len(self.violations) < VIOLATIONS_KEPT_MAX:
            self.violations.append(violation)

    @property
    def violated(self) -> int:
        return self.broken.total()


def merged(reports: Iterable[Report]) -> Report:
    """The sum of what was counted; violations in the order of the reports."""
    whole = Report()
    for report in reports:
        whole.records += report.records
        whole.source_records += report.source_records
        whole.source_pending += report.source_pending
        whole.copies_unchecked += report.copies_unchecked
        for name in ("kinds", "void", "unchecked", "runs", "deliveries", "broken"):
            getattr(whole, name).update(getattr(report, name))
        whole.violations.extend(report.violations)
    return whole


def facts(report: Report, *, seconds: float, processes: int) -> dict[str, Any]:
    """The report as JSON."""
    kinds = report.kinds
    return {
        "records": report.records,
        "events": kinds.total() - kinds["Claimed"],
        "claims": kinds["Claimed"],
        "void": dict(sorted(report.void.items())),
        "runs": dict(sorted(report.runs.items())),
        "attempts": kinds["AttemptStarted"],
        "failures": kinds["AttemptFailed"] + kinds["AttemptTimedOut"],
        "lost": kinds["AttemptLost"],
        "triggers": {
            "accepted": kinds["RunAccepted"],
            "deduplicated": kinds["RunDeduplicated"],
            "rejected": kinds["IntakeRejected"],
            "gaps": kinds["IntakeGap"],
        },
        "deliveries": {name: report.deliveries[name] for name in ("decided", "taken")},
        "sources": {
            "checked": report.source_records,
            "pending": report.source_pending,
            "copies_unchecked": report.copies_unchecked,
        },
        "unchecked_kinds": dict(sorted(report.unchecked.items())),
        "seconds": round(seconds, 3),
        "records_per_s": round(report.records / seconds) if seconds else None,
        "processes": processes,
        "violated": report.violated,
        "violated_rules": dict(sorted(report.broken.items())),
        "violations": [asdict(violation) for violation in report.violations],
    }


def text(report: Report, *, seconds: float, processes: int) -> str:
    """The report for people: what was found, then what was looked at."""
    found = facts(report, seconds=seconds, processes=processes)
    triggers, sources = found["triggers"], found["sources"]
    lines = [*map(_line, report.violations), *_not_shown(report)]
    rows = [
        ("events", f"{found['events']:,} that count, {found['claims']:,} claims"),
        ("void records", _counts(found["void"])),
        ("runs", _counts(found["runs"])),
        (
            "attempts",
            f"{found['attempts']:,}, of which {found['failures']:,} failed and"
            f" {found['lost']:,} were lost",
        ),
        ("triggers", _counts(triggers)),
        ("sources", f"{sources['checked']:,} records compared, {sources['pending']:,} not due yet"),
        ("rate", f"{_rate(found)} in {seconds:.2f} s, by {processes} processes"),
    ]
    if report.deliveries.total():
        rows.append(("deliveries", _counts(found["deliveries"])))
    if sources["copies_unchecked"]:
        rows.append(("DLQ", f"{sources['copies_unchecked']:,} copies could not be compared"))
    if found["unchecked_kinds"]:
        rows.append(("not checked", _counts(found["unchecked_kinds"])))
    lines += [f"{name:<14}{value}" for name, value in rows]
    total = report.violated
    lines.append("no violation" if not total else f"{total:,} violations")
    return "\n".join(lines)


def _line(violation: Violation) -> str:
    about = " ".join(filter(None, (violation.run_id, violation.step)))
    place = f"{violation.topic}/{violation.partition}/{violation.offset}"
    return (
        f"{violation.invariant} {violation.rule}  {place}  {about or '-'}\n    {violation.sentence}"
    )


def _not_shown(report: Report) -> list[str]:
    if report.violated == len(report.violations):
        return []
    return [f"… and {report.violated - len(report.violations):,} more: {_counts(report.broken)}"]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "none"


def _rate(found: dict[str, Any]) -> str:
    rate = found["records_per_s"]
    return f"{found['records']:,} records" + ("" if rate is None else f", {rate:,} a second")
