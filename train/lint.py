"""What ruins a fine-tune and can be seen in its data, before any computing is spent on it.

Each rule has a name that stays, a severity and a reason in one line, and names its rows. An error
refuses training; a warning deserves a look; an info is for knowing. Rules that need tokens run only
where a counter is given, so that linting needs neither torch nor a base.

Absent on purpose: mending (`--fix`), near duplicates that differ in words, and histograms.
"""

from collections.abc import Callable

from train.findings import SEVERITIES, Finding, LintReport, Severity, TokenStatistics
from train.lint_rules import RULES, Facts, token_findings
from train.rows import DataSet, Row

__all__ = ["Finding", "LintReport", "Severity", "TokenCounter", "TokenStatistics", "lint"]

# (tokens in all, tokens that training learns from) of one row under the base's chat template.
TokenCounter = Callable[[Row], tuple[int, int]]


def lint(
    dataset: DataSet,
    *,
    heldout: DataSet | None = None,
    count_tokens: TokenCounter | None = None,
    max_length: int | None = None,
) -> LintReport:
    """Apply every rule; never raises for what the data holds.

    `heldout` is the set that must not be trained on. `count_tokens` (see `train.tokens`) turns on
    the rules about tokens, and `max_length` is the most tokens that a row may have.
    """
    facts = Facts(dataset, heldout)
    findings = [finding for rule in RULES for finding in rule(facts)]
    tokens = None
    if count_tokens is not None:
        counted = [count_tokens(row) for row in dataset.rows]
        findings += token_findings(dataset, counted, max_length)
        tokens = TokenStatistics(
            total=sum(total for total, _ in counted),
            trained=sum(trained for _, trained in counted),
            longest=max((total for total, _ in counted), default=0),
        )
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return LintReport(dataset.name, len(dataset), tuple(findings), tokens)
