"""Rows of more tokens than a run's `max_length`, and what `overlong` makes of them.

    error      the lint refuses the data (the default)
    drop       they are left out
    truncate   they are cut there, on the right; a row of which no answer is left is left out

What is left out or cut is a finding of the lint, with its rows, and so in the run's lineage.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Literal, Protocol

from train.data.rows import DataSet, Row
from train.linting.findings import Finding, LintReport

Overlong = Literal["error", "drop", "truncate"]

_LEFT_OUT = {"drop": "overlong", "truncate": "cut-away"}  # by mode, the rule that names the rows


class _Counted(Protocol):
    """Tokens of a row: of its longest conversation, and those learned from (within the cut)."""

    @property
    def longest(self) -> int: ...

    @property
    def trained(self) -> int: ...


def overlong_findings(
    long: Sequence[tuple[Row, _Counted]], limit: int, overlong: Overlong
) -> list[Finding]:
    """What becomes of the rows that are longer than `limit`."""
    most = max((tokens.longest for _, tokens in long), default=0)
    longer = f"longer than {limit} tokens (the longest has {most})"
    rows = tuple(row for row, _ in long)
    if overlong == "error":
        return _finding("overlong", "error", f"{longer}: its answer would be cut", rows)
    if overlong == "drop":
        return _finding("overlong", "warning", f"{longer}: left out of the training", rows)
    lost = tuple(row for row, tokens in long if not tokens.trained)
    cut = tuple(row for row, tokens in long if tokens.trained)
    gone = f"longer than {limit} tokens, with no answer before the cut: left out of the training"
    return [
        *_finding("overlong", "warning", f"{longer}: cut there, the rest is not learned", cut),
        *_finding("cut-away", "warning", gone, lost),
    ]


def fitting(dataset: DataSet, report: LintReport, overlong: Overlong) -> DataSet:
    """The rows that are trained on."""
    rule = _LEFT_OUT.get(overlong)
    out = _ids(row for found in report.findings if found.rule == rule for row in found.rows)
    return dataset.with_rows(row for row in dataset.rows if id(row) not in out) if out else dataset


def told(report: LintReport) -> list[str]:
    """Lines for a person: what was left out, and what was cut."""
    rules = ("overlong", "cut-away")
    return [
        f"{len(found.rows):,} of {report.rows:,} rows: {found}"
        for found in report.findings
        if found.rule in rules and found.severity == "warning"
    ]


def _finding(rule: str, severity: Literal["error", "warning"], reason: str, rows: tuple[Row, ...]
) -> list[Finding]:  # fmt: skip
    return [Finding(rule, severity, reason, rows)] if rows else []


def _ids(rows: Iterable[Row]) -> Collection[int]:
    return {id(row) for row in rows}
