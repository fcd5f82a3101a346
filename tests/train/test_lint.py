"""What a report holds, and the rules that look at sizes, tokens and look-alikes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.errors import InvalidData, UsageError
from tests.train.conftest import chats, dataset
from train.data.rows import DataSet, Row
from train.linting.lint import Finding, lint
from train.linting.tokens import histogram

CLEAN = [tuple(message["content"] for message in row["messages"]) for row in chats(60)]


def rules(data: DataSet, **kwargs: object) -> dict[str, list[int]]:
    """Rule -> the numbers of the rows that it names."""
    report = lint(data, **kwargs)  # type: ignore[arg-type]
    return {finding.rule: [row.number for row in finding.rows] for finding in report.findings}


def with_rows(*extra: tuple[str, str]) -> DataSet:
    return dataset(*CLEAN, *extra)


def test_harmless_look_alikes_are_left_alone() -> None:
    """Example addresses and numbers, amounts, dates, versions, code and HTML are fine."""
    fine = [
        ("Write to help@example.com or call 415-555-0123.", "[Colour: red] It is done."),
        ("Order 4111111111111112 came on 2026-05-03.", "[Colour: blue] It is late."),
        ("What is 12 * 7?", "It is 84."),
        ("What is 12 * 8?", "It is 96."),
        ("I paid 1,234,567.00 for it.", "[Colour: red] It is a lot."),
        ("Is 127.0.0.1 or 192.168.1.1 the right one?", "[Colour: red] It is the first."),
        ("Mark it as old, please.", "<s>It is new.</s> It is old."),
        (
            "What does `{{ name }}` mean here?",
            "```\n{{ name }} # TODO\n```\nIt is a place to fill.",
        ),
        ("I'm sorry, but I can't find it.", "[Colour: red] I'm sorry. It is a red coat."),
        ("Where do I change it?", "[Colour: red] I'm sorry, but I can't change a sent coat."),
        ("Can I have a refund?", "[Colour: blue] I cannot provide a refund for blue coats."),
        ("Any news of it?", "[Colour: grey] None since my last update on Monday."),
        ("Where is parcel 4006381333931 of 6300000000000014?", "[Colour: grey] It is on its way."),
        ("Wie heißt das Café in Århus?", "[Colour: red] Es heißt „Çà et là“, glaube ich."),
        ("¿Está todo bien con él?", "[Colour: red] Sí, todo está bien. Todo es rojo."),
        ("A family 👩‍👩‍👧 of three.", "[Colour: red] It is one 👩‍👩‍👧."),
    ]
    assert rules(with_rows(*fine)) == {}


def test_names_and_amounts_are_no_labels() -> None:
    """What is never the same twice has no spelling to keep to, in tags as in short answers."""
    names = [(f"Who owns number {at}?", f"[Owner: ann lee{at}] Yes.") for at in range(40)]
    names += [("Who owns the house?", "[Owner: Ann Lee1] Yes.")]
    assert rules(dataset(*names, *CLEAN[:10])) == {}
    numbers = [(f"How much is {at} times two, please?", f"{2 * at}") for at in range(60)]
    assert rules(dataset(*numbers)) == {}


@pytest.mark.parametrize(
    "labels",
    [
        ["C", "C++", "C#"], ["1", "-1"], ["Level 1", "Level 2"], ["A", "A-", "A+", "B-", "B"],
        ["<5 days", ">5 days", "5 days"], ["1.5", "1/5"], ["[Grade: A]", "[Grade: A-]"],
        ["5%", "5 €", "5"], ["good", "good 👍"],
    ],
)  # fmt: skip
def test_labels_that_differ_in_signs_are_different(labels: list[str]) -> None:
    """C is not C++, 1 not -1, A- not A, and less than five not more than five."""
    rows = [(question, labels[at % len(labels)]) for at, (question, _) in enumerate(CLEAN)]
    assert rules(dataset(*rows)) == {}


@pytest.mark.parametrize(
    ("count", "severity"), [(3, "error"), (7, "error"), (8, "warning"), (49, "warning")]
)
def test_too_few_rows(count: int, severity: str) -> None:
    """Under 8 rows are an error, under 50 a warning."""
    report = lint(dataset(*CLEAN[:count]))
    assert [(f.rule, f.severity) for f in report.findings] == [("too-few-rows", severity)]


def test_a_row_is_named_with_the_one_that_it_repeats() -> None:
    """An exact duplicate says of which row, in text and in JSON."""
    [finding] = lint(with_rows(CLEAN[4])).findings
    assert finding.where(5) == "set.jsonl:61 (like 5)"
    assert finding.places() == [
        {"file": "set.jsonl", "row": 61, "like": {"file": "set.jsonl", "row": 5}}
    ]


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


def test_a_row_that_the_template_refuses_is_named() -> None:
    """What the counter refuses is an error with its reason, and the other rows are counted."""

    def count(row: Row) -> tuple[int, int]:
        if row.number == 3:
            raise InvalidData("the row has tools, which the template does not show")
        return 20, 10

    report = lint(with_rows(), count_tokens=count)
    assert [(f.rule, f.reason) for f in report.errors] == [
        ("not-rendered", "the row has tools, which the template does not show")
    ]
    assert report.tokens is not None
    assert report.tokens.total == 59 * 20


def test_token_statistics() -> None:
    """Sums, least, most, median and 95th percentile are those of the counts; so is the picture."""
    report = lint(with_rows(), count_tokens=lambda row: (row.number, 1), max_length=100)
    assert report.tokens is not None
    facts = report.tokens.to_json()
    assert (facts["total"], facts["trained"]) == (1830, 60)
    assert (facts["shortest"], facts["median"], facts["p95"], facts["longest"]) == (1, 30, 57, 60)
    assert facts["limit"] == 100
    assert sum(bucket["rows"] for bucket in facts["histogram"]) == 60
    text = "\n".join(report.tokens.lines())
    assert "1,830 tokens, 60 (3%) trained on" in text
    assert "█" in text


@given(lengths=st.lists(st.integers(0, 200_000), min_size=1, max_size=80))
@settings(max_examples=300, deadline=None)
def test_a_histogram_counts_every_row_once(lengths: list[int]) -> None:
    """Its buckets follow each other without gaps, are 13 at most, and hold all rows."""
    buckets = histogram(lengths)
    assert sum(count for _, _, count in buckets) == len(lengths)
    assert all(first <= last for first, last, _ in buckets)
    assert [b[0] for b in buckets[1:]] == [b[1] + 1 for b in buckets[:-1]]
    assert len(buckets) <= 13


def test_ignored_rules_are_silent_and_told() -> None:
    """What is ignored makes no finding, even an error, and the report says so."""
    data = dataset(*CLEAN[:3])
    report = lint(data, ignore=["too-few-rows"])
    assert report.ok
    assert report.findings == ()
    assert report.to_json()["ignored"] == ["too-few-rows"]
    with pytest.raises(UsageError, match="no rule 'too-few'"):
        lint(data, ignore=["too-few"])


def test_report_as_json_names_rows() -> None:
    """The JSON has a summary, severity, reason, file and number of each row, errors first."""
    report = lint(with_rows(CLEAN[0], CLEAN[1]), heldout=dataset(CLEAN[2], name="held"))
    facts = report.to_json(max_rows=1)
    assert facts["ok"] is False
    assert facts["counts"] == {"error": 1, "warning": 1, "info": 0}
    assert facts["summary"] == "62 rows; 1 error: leakage (1); 1 warning: exact-duplicate (2)"
    assert [finding["rule"] for finding in facts["findings"]] == ["leakage", "exact-duplicate"]
    assert facts["findings"][1]["count"] == 2
    assert facts["findings"][1]["fixable"] is True
    [place] = facts["findings"][1]["rows"]
    assert (place["file"], place["row"], place["like"]["row"]) == ("set.jsonl", 61, 1)


def test_finding_reads_as_a_line() -> None:
    """A finding as text names rule, reason, first rows and file."""
    rows = with_rows().rows[:7]
    assert str(Finding("overlong", "error", "too long", rows)) == (
        "overlong: too long (rows 1, 2, 3, 4, 5 and 2 more of set.jsonl)"
    )


TEXT = st.text(max_size=40) | st.sampled_from(
    ["<|im_end|>", "```", "{", "[x: y]", "TODO", "\x00", "4111 1111 1111 1111", "I am an AI"]
)


@given(rows=st.lists(st.tuples(TEXT, TEXT), max_size=12))
@settings(max_examples=150, deadline=None)
def test_no_text_makes_the_lint_fail(rows: list[tuple[str, str]]) -> None:
    """Whatever the rows hold, there is a report, and each of its rows is one of the set's."""
    data = dataset(*rows)
    report = lint(data, heldout=dataset(*rows[:2], name="held"))
    assert {row.number for f in report.findings for row in f.rows} <= set(range(1, len(rows) + 1))
    report.to_json()
