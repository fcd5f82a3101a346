"""Metrics, paired statistics and the gate."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import GateRefused, InvalidData
from hub.evaluation.gate import judge, require_pass
from hub.evaluation.metrics import METRICS, choose_metric
from hub.evaluation.statistics import (
    compare,
    mcnemar_exact,
    newcombe_paired,
    smallest_difference,
    wilson,
)
from hub.manifest import FileEntry, Manifest
from hub.records import Base
from hub.registry import Registry


@pytest.mark.parametrize(
    ("metric", "answer", "expected", "right"),
    [
        ("label", "[Intent: Fraud Report] Sorry.", "[Intent: Fraud Report] I see.", 1),
        ("label", "Sure! [intent:  fraud report]", "[Intent: Fraud Report]", 1),
        ("label", "[Intent: fraud report]", "[Intent: Fraud  Report]", 1),
        ("label", "[Intent: Account Access] x", "[Intent: Fraud Report] x", 0),
        ("label", "", "[Intent: Fraud Report]", 0),
        ("json", '{"b": 1, "a": "x"}', '{"a": "x", "b": 1}', 1),
        ("json", '{"a": "x"', '{"a": "x"}', 0),
        ("json", 'Sure: {"a": "x"}', '{"a": "x"}', 0),
        ("exact", " yes\n", "yes", 1),
        ("exact", "Yes", "yes", 0),
    ],
)
def test_metrics_count_what_they_say(metric: str, answer: str, expected: str, right: int) -> None:
    """One answer, one expectation, one or zero."""
    assert METRICS[metric](answer, expected) == right


def test_the_metric_follows_from_the_expected_answers() -> None:
    """JSON, tags and plain text are told apart; a set without rows is refused."""
    assert choose_metric(['{"a": 1}', "[1]"]) == "json"
    assert choose_metric(["[Intent: A] x", "[Intent: B] y"]) == "label"
    assert choose_metric(["1", "2"]) == "exact"
    with pytest.raises(InvalidData):
        choose_metric([])


def test_newcombes_own_examples() -> None:
    """Newcombe 1998, table II, method 10: 36/12/2/0 gives 0.0569 to 0.3404."""
    interval = newcombe_paired(36, 12, 2, 0)
    assert interval.low == pytest.approx(0.0569, abs=5e-5)
    assert interval.high == pytest.approx(0.3404, abs=5e-5)


def test_wilson_and_mcnemar_against_known_values() -> None:
    """Wilson's interval of 0/10 and 81/263, and the fair coin of 1 against 9."""
    assert wilson(0, 10).high == pytest.approx(0.2775, abs=1e-4)
    assert wilson(81, 263).low == pytest.approx(0.2553, abs=1e-4)
    assert mcnemar_exact(1, 9) == pytest.approx(2 * 11 / 1024)
    assert mcnemar_exact(0, 0) == 1.0


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=80))
def test_intervals_hold_the_difference_and_are_antisymmetric(pairs: list[tuple[int, int]]) -> None:
    """Whatever the answers: low <= difference <= high, and swapping the arms mirrors it."""
    base, tuned = [b for b, _ in pairs], [t for _, t in pairs]
    forth, back = compare(base, tuned), compare(tuned, base)
    span = forth.difference_interval
    assert -1 <= span.low <= forth.difference <= span.high <= 1
    assert math.isclose(span.low, -back.difference_interval.high, abs_tol=1e-12)
    assert 0 <= forth.p_value <= 1


def test_the_interval_covers_at_its_rate() -> None:
    """With a true difference of 0.2 on 60 rows, about 95% of intervals hold it (seeded)."""
    import random

    draw = random.Random(1)
    held = 0
    for _ in range(1000):
        rows = [draw.random() for _ in range(60)]
        base = [int(r < 0.5) for r in rows]
        tuned = [int(r < 0.5 or draw.random() < 0.4) for r in rows]
        span = compare(base, tuned).difference_interval
        held += span.low <= 0.2 <= span.high
    assert 0.93 <= held / 1000 <= 0.985


def test_more_rows_show_smaller_differences() -> None:
    """The smallest difference shrinks with the rows; 4 times the rows, about half of it."""
    sizes = [smallest_difference(rows) for rows in (60, 240, 960)]
    assert sizes[0] > sizes[1] > sizes[2]
    assert sizes[1] == pytest.approx(sizes[0] / 2, rel=0.1)


def test_the_gate_says_one_of_three_things() -> None:
    """Clearly better, clearly not, and can't tell."""
    assert judge(compare([0] * 50, [1] * 40 + [0] * 10)).verdict == "PASS"
    assert judge(compare([1] * 50, [0] * 50)).verdict == "FAIL"
    undecided = judge(compare([0] * 9 + [1], [0] * 8 + [1] * 2))
    assert undecided.verdict == "INSUFFICIENT"
    assert "10 rows show differences of about" in undecided.reason


def test_promotion_wants_a_pass(registry: Registry, base: Base) -> None:
    """No evaluation and INSUFFICIENT end with exit code 4, FAIL with 3, PASS lets through."""
    manifest = Manifest(base.identity, (FileEntry("adapter_config.json", "0" * 64, 1),))
    version, _ = registry.versions.add("support", manifest, rank=4, lineage={})
    dataset = registry.ledger.add_dataset(
        digest="d", name="heldout", source="x", format="messages", rows=60, lint={}
    )

    def evaluate(verdict: str) -> None:
        registry.ledger.add_evaluation(
            version, against="base", dataset=dataset, metric="label", verdict=verdict,
            result={"reason": "because"},
        )  # fmt: skip

    with pytest.raises(GateRefused, match="not been evaluated") as none:
        require_pass(version, registry.ledger.evaluations(version))
    assert none.value.exit_code == 4
    for verdict, code in (("FAIL", 3), ("INSUFFICIENT", 4)):
        evaluate(verdict)
        with pytest.raises(GateRefused, match="because") as refused:
            require_pass(version, registry.ledger.evaluations(version))
        assert refused.value.exit_code == code
    evaluate("PASS")
    assert require_pass(version, registry.ledger.evaluations(version)).verdict == "PASS"
