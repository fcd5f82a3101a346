"""The gate: may this version go to production?

    PASS          the whole interval of the difference lies above the bar
    FAIL          the whole interval lies at or below it
    INSUFFICIENT  the rows can't tell; more of them could

The bar is how much better the version must be than what it is compared with: 0 against the base (it
must be better at all), minus a tolerance against an earlier version (it must not be worse).
"""

from dataclasses import dataclass

from hub.errors import GateRefused
from hub.evaluation.statistics import Paired
from hub.records import Evaluation, Version

PASS, FAIL, INSUFFICIENT = "PASS", "FAIL", "INSUFFICIENT"
EXIT_CODES = {PASS: 0, FAIL: 3, INSUFFICIENT: 4}


@dataclass(frozen=True)
class Verdict:
    verdict: str
    reason: str


def judge(result: Paired, bar: float = 0.0) -> Verdict:
    interval = result.difference_interval
    shown = (
        f"difference {result.difference:+.1%}, 95% interval {interval.low:+.1%} to"
        f" {interval.high:+.1%}, bar {bar:+.1%}"
    )
    if interval.low > bar:
        return Verdict(PASS, shown)
    if interval.high <= bar:
        return Verdict(FAIL, shown)
    return Verdict(
        INSUFFICIENT,
        f"{shown}; {result.rows} rows show differences of about {result.smallest:.0%} and more",
    )


def require_pass(version: Version, evaluations: list[Evaluation]) -> Evaluation:
    """The newest evaluation of a version, if it lets the version into production.

    Raises:
        GateRefused: exit code 3 for FAIL, 4 for INSUFFICIENT or no evaluation at all.
    """
    if not evaluations:
        raise GateRefused(
            f"{version} has not been evaluated",
            verdict=INSUFFICIENT,
            hint=f"Run `hub eval {version} --data HELDOUT`, or promote with --force --why REASON.",
        )
    newest = evaluations[0]
    if newest.verdict != PASS:
        raise GateRefused(
            f"the gate says {newest.verdict} for {version}: {newest.result['reason']}",
            verdict=newest.verdict,
            hint="Evaluate on more rows, improve the data, or promote with --force --why REASON.",
        )
    return newest
