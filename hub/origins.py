"""What a version's lineage says of where it comes from, read into records.

A lineage is what a training run recorded, or what came with a pulled version: JSON that another
program may have written. So every part of it is looked at before it is believed, and what is not as
expected is not known.
"""

from collections.abc import Mapping
from typing import Any

from hub.facts import DatasetFacts, LintFacts

_WORST_FIRST = ("error", "warning", "info")


def dataset_of(lineage: Mapping[str, Any]) -> DatasetFacts | None:
    """The data set that a version was trained on, with what the lint said of it."""
    facts = part(lineage, "dataset")
    if not facts:
        return None
    return DatasetFacts(
        name=text(facts, "name"),
        digest=text(facts, "digest"),
        format=text(facts, "format"),
        rows=count(facts, "rows"),
        training_rows=count(facts, "training_rows"),
        validation_rows=count(facts, "validation_rows"),
        lint=_lint(part(lineage, "lint")),
    )


def _lint(report: Mapping[str, Any]) -> LintFacts | None:
    if not report:
        return None
    counts = part(report, "counts")
    findings = report.get("findings")
    lines = []
    for finding in findings if isinstance(findings, list) else ():
        if isinstance(finding, dict) and text(finding, "rule"):
            rows = count(finding, "count")
            counted = f" ({rows} row{'s' if rows != 1 else ''})" if rows else ""
            lines.append(
                f"{text(finding, 'severity')}: {text(finding, 'rule')}:"
                f" {text(finding, 'reason')}{counted}"
            )
    return LintFacts({name: count(counts, name) or 0 for name in counts}, tuple(lines))


def lint_summary(lint: LintFacts | None) -> str:
    """One line: `1 warning, 1 info`, or `nothing found`."""
    if lint is None:
        return "not known"
    order = sorted(lint.counts, key=lambda name: (*_WORST_FIRST, name).index(name))
    found = [
        f"{lint.counts[name]} {name}{'s' if lint.counts[name] != 1 and name != 'info' else ''}"
        for name in order
        if lint.counts[name]
    ]
    return ", ".join(found) or "nothing found"


def origin_of(lineage: Mapping[str, Any]) -> str:
    """Where an imported version was pulled from last; '' for one that was made here."""
    pulled = lineage.get("pulled")
    last = pulled[-1] if isinstance(pulled, list) and pulled else None
    if isinstance(last, dict):
        commit = text(last, "commit")
        return text(last, "from") + (f"@{commit[:12]}" if commit else "")
    return text(lineage, "source") if lineage.get("kind") == "imported" else ""


def part(facts: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = facts.get(name)
    return value if isinstance(value, dict) else {}


def text(facts: Mapping[str, Any], name: str) -> str:
    value = facts.get(name)
    return value if isinstance(value, str) else ""


def count(facts: Mapping[str, Any], name: str) -> int | None:
    value = facts.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def number(facts: Mapping[str, Any], name: str) -> float | None:
    value = facts.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
