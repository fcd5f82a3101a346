"""Each sown fault is found by its rule, in its rows; in clean sets nothing is found."""

import pytest

from tests.train.conftest import dataset
from tests.train.lint_corpus import CLEAN, FAULTS, LONG, SYSTEM, Fault, asking
from train.data.rows import DataSet, Message, Row
from train.linting.lint import lint
from train.linting.rules import RULES

HELD = dataset(("Is there a purple door on the moon?", "No."), name="held")


@pytest.mark.parametrize("name", CLEAN)
def test_clean_sets_have_no_findings(name: str) -> None:
    """No false alarm on seven kinds of clean rows, with tokens and a held-out set beside them."""
    report = lint(
        CLEAN[name](),
        heldout=HELD,
        count_tokens=lambda row: (20, 10),
        max_length=20,
        special_tokens=("<|im_end|>", "<|endoftext|>"),
    )
    assert report.findings == ()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_seeded_fault_is_found(fault: Fault) -> None:
    """The rule names exactly the seeded rows, and no other rule says anything."""
    report = lint(fault.sow(fault.clean()), heldout=HELD)
    found = [
        (finding.rule, finding.severity, tuple(row.number for row in finding.rows))
        for finding in report.findings
    ]
    assert found == [(fault.rule, fault.severity, fault.rows)]


def test_every_rule_has_a_seeded_fault() -> None:
    """Rules about reading, tokens and held-out rows are sown elsewhere; all others are here."""
    elsewhere = {
        "malformed-row", "no-answer", "no-trainable-token", "overlong", "not-rendered", "leakage",
        "unserved-answer", "cut-away",
    }  # fmt: skip
    assert {fault.rule for fault in FAULTS} == {rule.name for rule in RULES} - elsewhere


def test_the_bases_own_marks_are_errors() -> None:
    """What the base reads as a control token refuses the data; marks of other bases only warn."""
    sown = next(fault for fault in FAULTS if fault.name == "end of turn in a text")
    report = lint(sown.sow(sown.clean()), special_tokens=("<|im_end|>",))
    assert [(f.rule, f.severity) for f in report.findings] == [("template-mark", "error")]


@pytest.mark.parametrize(
    ("held", "severity", "rows"),
    [
        ("WHEN WILL the new lamp for our garden be here!", "error", [2]),
        (LONG, "error", [5]),
        (LONG.replace("smoke", "glow").replace("station", "harbour"), "warning", [5]),
        ("When will the new boat for our garden be here?", None, []),
    ],
)
def test_leakage(held: str, severity: str | None, rows: list[int]) -> None:
    """A held-out question in the data is an error, nearly that question a warning."""
    clean = CLEAN["tickets"]()
    messages = (Message("system", SYSTEM), Message("user", held), Message("assistant", "No."))
    heldout = DataSet("held", "held.jsonl", "messages", (Row(1, "held.jsonl", messages),))
    report = lint(asking(5, LONG)(clean), heldout=heldout)
    assert [(f.rule, f.severity) for f in report.findings] == (
        [("leakage", severity)] if severity else []
    )
    assert [row.number for f in report.findings for row in f.rows] == rows
