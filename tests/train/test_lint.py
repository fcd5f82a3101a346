"""Every rule finds the fault that it is for, and none finds anything in a clean set."""

import pytest

from tests.train.conftest import chats, dataset
from train.lint import Finding, lint
from train.rows import DataSet, Message, Row

CLEAN = [tuple(message["content"] for message in row["messages"]) for row in chats(60)]


def rules(data: DataSet, **kwargs: object) -> dict[str, list[int]]:
    """Rule -> the numbers of the rows that it names."""
    report = lint(data, **kwargs)  # type: ignore[arg-type]
    return {finding.rule: [row.number for row in finding.rows] for finding in report.findings}


def with_rows(*extra: tuple[str, str]) -> DataSet:
    return dataset(*CLEAN, *extra)


def test_clean_set_has_no_findings() -> None:
    """No false alarm on sixty good rows, with tokens counted and a held-out set beside them."""
    report = lint(
        with_rows(),
        heldout=dataset(("Is there a purple door in it?", "No.")),
        count_tokens=lambda row: (20, 10),
        max_length=20,
    )
    assert report.findings == ()
    assert report.ok
    assert report.tokens is not None
    assert report.tokens.to_json() == {"total": 1200, "trained": 600, "longest": 20}


SEEDED = [
    ("exact-duplicate", [CLEAN[3]], [61]),
    ("near-duplicate", [(CLEAN[3][0].upper() + "!", CLEAN[3][1])], [61]),
    (
        "near-duplicate",
        [
            ("Please send 50 dollars to Ann today", "Sent it."),
            ("please send 70 dollars to Ann, today.", "Sent it."),
        ],
        [62],
    ),
    ("conflicting-answers", [(CLEAN[3][0], "[Colour: red] I say nothing of it.")], [4, 61]),
    ("label-spelling", [("And the tree?", "[Colour: RED] It is a red tree.")], [61]),
    ("label-spelling", [("And the tree?", "[colour: red] It is a red tree.")], [61]),
    ("truncated-answer", [("And the tree?", "[Colour: red] It is a red tree and it has")], [61]),
    ("empty-answer", [("And the tree?", "...")], [61]),
    ("pii", [("I am ann.smith@mail.org, and you?", "[Colour: red] It is me.")], [61]),
    ("pii", [("Call me at (415) 867-5309 at once.", "[Colour: red] It is me.")], [61]),
    ("pii", [("Call +49 30 901820 at once.", "[Colour: red] It is me.")], [61]),
    ("pii", [("My card is 4111 1111 1111 1111.", "[Colour: red] It is me.")], [61]),
]


@pytest.mark.parametrize(("rule", "rows", "places"), SEEDED)
def test_seeded_fault_is_found(rule: str, rows: list[tuple[str, str]], places: list[int]) -> None:
    """The rule names exactly the seeded rows, and no other rule says anything."""
    assert rules(with_rows(*rows)) == {rule: places}


def test_harmless_look_alikes_are_left_alone() -> None:
    """Example addresses and numbers, amounts, dates and another number in a short sum are fine."""
    fine = [
        ("Write to help@example.com or call 415-555-0123.", "[Colour: red] It is done."),
        ("Order 4111111111111112 came on 2026-05-03.", "[Colour: blue] It is late."),
        ("What is 12 * 7?", "It is 84."),
        ("What is 12 * 8?", "It is 96."),
        ("I paid 1,234,567.00 for it.", "[Colour: red] It is a lot."),
    ]
    assert rules(with_rows(*fine)) == {}


def test_short_answers_are_labels() -> None:
    """Where most answers are short they are compared as labels, whatever they are."""
    rows = [(question, "Yes" if number % 2 else "No") for number, (question, _) in enumerate(CLEAN)]
    rows[5] = (rows[5][0], "yes.")
    assert rules(dataset(*rows)) == {"label-spelling": [6]}


def test_leakage_is_an_error() -> None:
    """A held-out question in the data refuses it, also when only case and marks differ."""
    held = dataset((CLEAN[7][0].lower().replace("?", "!"), "Something else."), name="held")
    report = lint(with_rows(), heldout=held)
    assert [(f.rule, f.severity) for f in report.findings] == [("leakage", "error")]
    assert [row.number for row in report.errors[0].rows] == [8]
    assert not report.ok


@pytest.mark.parametrize(
    ("count", "severity"), [(3, "error"), (7, "error"), (8, "warning"), (49, "warning")]
)
def test_too_few_rows(count: int, severity: str) -> None:
    """Under 8 rows are an error, under 50 a warning."""
    report = lint(dataset(*CLEAN[:count]))
    assert [(f.rule, f.severity) for f in report.findings] == [("too-few-rows", severity)]


def test_blank_turn_is_an_error() -> None:
    """An earlier turn of the assistant that says nothing is found as well."""
    said = (("user", "a"), ("assistant", " "), ("user", "b"), ("assistant", "c."))
    turns = tuple(Message(role, content) for role, content in said)
    base = with_rows()
    report = lint(base.with_rows([*base.rows, Row(61, "set.jsonl", turns)]))
    assert [(f.rule, f.severity) for f in report.findings] == [("empty-answer", "error")]


@pytest.mark.parametrize(
    ("rule", "counts"),
    [("overlong", {5: (21, 3)}), ("no-trainable-token", {5: (12, 0)})],
)
def test_token_rules(rule: str, counts: dict[int, tuple[int, int]]) -> None:
    """Rows over the length, and rows of which nothing would be learned, are errors."""
    report = lint(
        with_rows(), count_tokens=lambda row: counts.get(row.number, (20, 10)), max_length=20
    )
    assert [(f.rule, f.severity) for f in report.findings] == [(rule, "error")]
    assert [row.number for row in report.errors[0].rows] == [5]


def test_report_as_json_names_rows() -> None:
    """The JSON has severity, reason, and file and number of each row, errors first."""
    report = lint(with_rows(CLEAN[0], CLEAN[1]), heldout=dataset(CLEAN[2], name="held"))
    facts = report.to_json(max_rows=1)
    assert facts["ok"] is False
    assert facts["counts"] == {"error": 1, "warning": 1, "info": 0}
    assert [finding["rule"] for finding in facts["findings"]] == ["leakage", "exact-duplicate"]
    assert facts["findings"][1]["count"] == 2
    assert facts["findings"][1]["rows"] == [{"file": "set.jsonl", "row": 61}]


def test_finding_reads_as_a_line() -> None:
    """A finding as text names rule, reason, first rows and file."""
    rows = with_rows().rows[:7]
    assert str(Finding("overlong", "error", "too long", rows)) == (
        "overlong: too long (rows 1, 2, 3, 4, 5 and 2 more of set.jsonl)"
    )


def test_unused_columns_are_told() -> None:
    """A column that is not part of a conversation is mentioned, never silently dropped."""
    base = with_rows()
    data = DataSet("set", "set.jsonl", "alpaca", base.rows, unused_columns=("score",))
    report = lint(data)
    assert [(f.rule, f.severity) for f in report.findings] == [("unused-column", "info")]
