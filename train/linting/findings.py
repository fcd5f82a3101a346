"""What the lint hands out: findings by rule, the report that holds them, and their JSON.

Only records; `train.linting.lint` makes them. The JSON is kept with data sets and lineages, so keys
are added to it and never renamed.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from train.data.rows import Row

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")

_SUMMED_RULES = 4
_BAR = 32


@dataclass(frozen=True)
class Finding:
    """One rule's verdict on some rows; `rows` is empty where it is about the set as a whole.

    `like` names for each row the one that it repeats or resembles, or is empty. `fixable` says
    that `hub data lint --fix` mends it.
    """

    rule: str
    severity: Severity
    reason: str
    rows: tuple[Row, ...] = ()
    like: tuple[Row, ...] = ()
    fixable: bool = False

    def places(self, limit: int | None = None) -> list[dict[str, Any]]:
        """File and number of the rows, the first `limit` of them."""
        places: list[dict[str, Any]] = [
            {"file": row.file, "row": row.number} for row in self.rows[:limit]
        ]
        for place, other in zip(places, self.like, strict=False):
            place["like"] = {"file": other.file, "row": other.number}
        return places

    def where(self, limit: int) -> str:
        """The first rows for people: `train.jsonl:3, 7, 12, …`; each like `9 (like 4)`."""
        if not self.rows:
            return ""
        parts: list[str] = []
        file = None
        for at, row in enumerate(self.rows[:limit]):
            place = f"{row.number}" if row.file == file else f"{row.file}:{row.number}"
            file = row.file
            if self.like:
                other = self.like[at]
                name = other.number if other.file == row.file else f"{other.file}:{other.number}"
                place += f" (like {name})"
            parts.append(place)
        return ", ".join(parts) + (", …" if len(self.rows) > limit else "")

    def __str__(self) -> str:
        return f"{self.rule}: {self.reason}{self._shown_rows()}"

    def _shown_rows(self) -> str:
        if not self.rows:
            return ""
        first = ", ".join(str(row.number) for row in self.rows[:5])
        more = f" and {len(self.rows) - 5} more" if len(self.rows) > 5 else ""
        return f" (row{'s' if len(self.rows) > 1 else ''} {first}{more} of {self.rows[0].file})"


@dataclass(frozen=True)
class TokenStatistics:
    """Tokens of the set under the base's tokenizer and chat template.

    `trained` is what the loss is taken on; `limit` the most that a row may have, where known.
    `histogram` counts rows by tokens: (from, to, rows), both ends included, without gaps.
    """

    total: int
    trained: int
    longest: int
    shortest: int = 0
    median: int = 0
    p95: int = 0
    limit: int | None = None
    histogram: tuple[tuple[int, int, int], ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "total": self.total,
            "trained": self.trained,
            "longest": self.longest,
            "shortest": self.shortest,
            "median": self.median,
            "p95": self.p95,
            "limit": self.limit,
            "histogram": [{"from": a, "to": b, "rows": count} for a, b, count in self.histogram],
        }

    def lines(self) -> list[str]:
        """The statistics and the histogram as text, a line a bucket."""
        share = self.trained / self.total if self.total else 0
        of = f" of {self.limit}" if self.limit else ""
        shown = [
            f"{self.total:,} tokens, {self.trained:,} ({share:.0%}) trained on; a row has "
            f"{self.shortest} to {self.longest}{of}, median {self.median}, 95% under {self.p95 + 1}"
        ]
        most = max((count for _, _, count in self.histogram), default=0)
        width = len(str(self.histogram[-1][1])) if self.histogram else 0
        for first, last, count in self.histogram:
            bar = "█" * round(_BAR * count / most) or ("▏" if count else "")
            over = " over the limit" if self.limit and count and first > self.limit else ""
            shown.append(f"  {first:>{width}}-{last:<{width}}  {bar:<{_BAR}} {count:,}{over}")
        return shown


@dataclass(frozen=True)
class LintReport:
    """Findings, errors first. `ignored` names the rules that were told to be silent."""

    dataset: str
    rows: int
    findings: tuple[Finding, ...]
    tokens: TokenStatistics | None = None
    ignored: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """No errors: the set can be trained on."""
        return not self.errors

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def counts(self) -> dict[str, int]:
        """Findings by severity."""
        found = Counter(finding.severity for finding in self.findings)
        return {severity: found[severity] for severity in SEVERITIES}

    @property
    def summary(self) -> str:
        """One line: `400 rows; 2 warnings: near-duplicate (18), pii (3); 24,310 tokens`."""
        parts = [f"{self.rows:,} row{'' if self.rows == 1 else 's'}"]
        for severity, count in self.counts.items():
            if count:
                plural = "s" if count > 1 and severity != "info" else ""
                parts.append(f"{count} {severity}{plural}: {self._rules_of(severity)}")
        if not self.findings:
            parts.append("nothing found")
        if self.tokens is not None:
            parts.append(f"{self.tokens.total:,} tokens, {self.tokens.trained:,} trained on")
        return "; ".join(parts)

    def _rules_of(self, severity: str) -> str:
        rows: Counter[str] = Counter()
        for finding in self.findings:
            if finding.severity == severity:
                rows[finding.rule] += len(finding.rows)
        names = [f"{rule} ({count})" if count else rule for rule, count in rows.items()]
        more = [f"{len(names) - _SUMMED_RULES} more"] if len(names) > _SUMMED_RULES else []
        return ", ".join(names[:_SUMMED_RULES] + more)

    def to_json(self, *, max_rows: int | None = None) -> dict[str, Any]:
        """All of it; each finding lists its first `max_rows` rows and how many there are."""
        return {
            "dataset": self.dataset,
            "rows": self.rows,
            "ok": self.ok,
            "summary": self.summary,
            "counts": self.counts,
            "ignored": list(self.ignored),
            "tokens": self.tokens.to_json() if self.tokens else None,
            "findings": [
                {
                    "rule": finding.rule,
                    "severity": finding.severity,
                    "reason": finding.reason,
                    "count": len(finding.rows),
                    "fixable": finding.fixable,
                    "rows": finding.places(max_rows),
                }
                for finding in self.findings
            ],
        }
