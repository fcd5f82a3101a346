"""What the lint hands out: findings by rule, and the report that holds them.

Only records and their JSON; `train.lint` makes them.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from train.rows import Row

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True)
class Finding:
    """One rule's verdict on some rows; `rows` is empty where it is about the set as a whole."""

    rule: str
    severity: Severity
    reason: str
    rows: tuple[Row, ...] = ()

    def places(self, limit: int | None = None) -> list[dict[str, Any]]:
        """File and number of the rows, the first `limit` of them."""
        return [{"file": row.file, "row": row.number} for row in self.rows[:limit]]

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
    """Tokens of the set under the base's chat template; `trained` is what the loss is taken on."""

    total: int
    trained: int
    longest: int

    def to_json(self) -> dict[str, int]:
        return {"total": self.total, "trained": self.trained, "longest": self.longest}


@dataclass(frozen=True)
class LintReport:
    """Findings, errors first."""

    dataset: str
    rows: int
    findings: tuple[Finding, ...]
    tokens: TokenStatistics | None = None

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

    def to_json(self, *, max_rows: int | None = None) -> dict[str, Any]:
        """All of it; each finding lists its first `max_rows` rows and how many there are."""
        return {
            "dataset": self.dataset,
            "rows": self.rows,
            "ok": self.ok,
            "counts": self.counts,
            "tokens": self.tokens.to_json() if self.tokens else None,
            "findings": [
                {
                    "rule": finding.rule,
                    "severity": finding.severity,
                    "reason": finding.reason,
                    "count": len(finding.rows),
                    "rows": finding.places(max_rows),
                }
                for finding in self.findings
            ],
        }
