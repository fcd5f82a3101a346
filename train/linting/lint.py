"""What ruins a fine-tune and can be seen in its data, before any computing is spent on it.

Each rule (`train.linting.rules`) has a name that stays, a severity and a reason in one line, and
names its rows. An error refuses training; a warning deserves a look; an info is for knowing. Rules
that need tokens run only where a counter is given, so that linting needs neither torch nor a base.
`train.linting.fix` mends what can be mended without asking.

Absent on purpose: judging whether an answer is right, which takes a model.
"""

from collections.abc import Collection, Sequence

from hub.errors import UsageError
from train.data.rows import DataSet, Row
from train.linting.facts import Facts
from train.linting.findings import SEVERITIES, Finding, LintReport, Severity, TokenStatistics
from train.linting.overlong import Overlong
from train.linting.read import Fault, fault_findings
from train.linting.rules import RULES
from train.linting.tokens import TokenCounter, count_rows, statistics, token_findings, within

__all__ = ["Finding", "LintReport", "Severity", "TokenCounter", "TokenStatistics", "lint"]


def lint(
    dataset: DataSet,
    *,
    heldout: DataSet | None = None,
    count_tokens: TokenCounter | None = None,
    max_length: int | None = None,
    overlong: Overlong = "error",
    special_tokens: Sequence[str] = (),
    faults: Sequence[Fault] = (),
    ignore: Collection[str] = (),
) -> LintReport:
    """Apply every rule but those in `ignore`; never raises for what the data holds.

    `heldout` is the set that must not be trained on. `count_tokens` (see `train.templates.tokens`)
    turns on the rules about tokens, and `max_length` is the most tokens that a row may have;
    `overlong` says what becomes of a row that has more, which a counter that cuts must know too.
    `special_tokens` are the base's own, which may not stand in a text. `faults` are the rows that
    could not be read (`train.linting.read`).

    Raises:
        UsageError: when a rule to ignore is none.
    """
    _refuse_unknown(ignore)
    facts = Facts(dataset, heldout, tuple(special_tokens))
    findings = fault_findings(faults)
    for rule in RULES:
        if rule.check is not None and rule.name not in ignore:
            findings += rule.check(facts)
    tokens = None
    if count_tokens is not None:
        refused: list[tuple[Row, str]] = []
        counted = count_rows(dataset.rows, count_tokens, refused)
        findings += token_findings(dataset, counted, max_length, refused, overlong)
        tokens = statistics(within(counted, max_length, overlong), max_length)
    findings = [finding for finding in findings if finding.rule not in ignore]
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    rows = len(dataset) + len(faults)
    return LintReport(dataset.name, rows, tuple(findings), tokens, tuple(sorted(set(ignore))))


def _refuse_unknown(names: Collection[str]) -> None:
    known = [rule.name for rule in RULES]
    for name in names:
        if name not in known:
            raise UsageError(
                f"there is no rule '{name}'",
                hint=f"`hub data lint --rules` lists them: {', '.join(known)}.",
            )
