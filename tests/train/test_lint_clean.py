"""No false alarm on what people train on: forms, classes that hold each other, numbers."""

import json
import random

import pytest

from tests.train.conftest import dataset
from train.data.rows import DataSet
from train.linting.lint import lint

FIRMS = (
    "Acme GmbH", "Northwind Traders", "Müller & Söhne", "Contoso Ltd", "Blue River LLC",
    "Okafor Supplies", "Takeda Paper", "Silva Irmãos", "Hansen ApS", "Lumière SARL",
)  # fmt: skip
LETTERS = (
    "Invoice {number} from {firm}, dated {date}. Total due: {total} EUR, payable at once.",
    "Hello,\n\nplease find attached our invoice {number} of {date} over {total} EUR.\n\n{firm}",
    "REMINDER: our bill {number} ({date}) of {total} EUR is still open. Please pay. {firm}",
)


def invoices(count: int, seed: int) -> DataSet:
    """Letters of three forms and ten firms; what is learned are their numbers, as JSON."""
    chance = random.Random(seed)
    rows = []
    for _ in range(count):
        facts = {
            "firm": chance.choice(FIRMS),
            "number": f"{chance.randint(10_000, 99_999)}",
            "date": f"2026-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}",
            "total": f"{chance.randint(10, 9_999)}.{chance.randint(0, 99):02}",
        }
        asked = chance.choice(LETTERS).format(**facts)
        rows.append((f"Extract firm, number, date and total.\n\n{asked}", json.dumps(facts)))
    return dataset(*rows)


def test_forms_with_other_numbers_are_other_rows() -> None:
    """150 invoices are no near duplicates of each other, and 50 other ones are no leak."""
    report = lint(invoices(150, 1), heldout=invoices(50, 2))
    assert {(f.rule, f.severity) for f in report.findings} == {("leakage", "warning")}
    assert lint(invoices(150, 1)).findings == ()


def test_the_same_form_with_the_same_numbers_is_a_leak() -> None:
    """An invoice that is held out and trained on is an error, whatever its case."""
    held = invoices(50, 2)
    copy = (held.rows[4].question.upper(), held.rows[4].answer)
    rows = [(row.question, row.answer) for row in invoices(99, 1).rows]
    [leak] = [f for f in lint(dataset(*rows, copy), heldout=held).findings if f.severity == "error"]
    assert [row.number for row in leak.rows] == [100]


@pytest.mark.parametrize(
    "answer",
    [
        "Please check:\n\n- the plug\n- the switch on its back\n- the fuse and all of its wires",
        "1. Open the box\n2. Keep the receipt for as long as you have it",
        "The manual of it is at https://shop.example/manuals",
        "Dear Ms Ford,\n\nit will come on Monday.\n\nKind regards\nThe shop team",
        "49 euros",
        "They hold 4 * 7 = 28.\n\nAnswer: 28",
    ],
)
def test_what_ends_without_a_full_stop_and_is_whole(answer: str) -> None:
    """Lists, links, signatures and values among sentences are not called cut off."""
    rows = [
        (f"What is the state of {firm}{mark}", "It is fine.") for firm in FIRMS for mark in "?!"
    ]
    rows += [(f"And {firm}?", f"It is {firm[:4]}.") for firm in FIRMS]
    report = lint(dataset(*rows, ("And what of us?", answer)))
    assert not [f for f in report.findings if f.rule == "truncated-answer"]


@pytest.mark.parametrize(("count", "found"), [(1, [31]), (6, [])])
def test_that_nothing_is_there_may_be_the_answer(count: int, found: list[int]) -> None:
    """One `N/A` is a place that nobody filled in; six of them are what the task wants."""
    rows = [(f"Who signed for {firm}{mark}", f"Ms {firm[:3]}.") for firm in FIRMS for mark in "?!."]
    rows += [(f"Who signed in the year {1990 + at}?", "N/A") for at in range(count)]
    findings = lint(dataset(*rows)).findings
    assert [row.number for f in findings if f.rule == "placeholder" for row in f.rows] == found


@pytest.mark.parametrize("end", ["- then you take the", "2. Take it out and", "We are, however,"])
def test_what_stops_is_still_found(end: str) -> None:
    """Also in a list, where the items before it are sentences."""
    rows = [
        (f"What is the state of {firm}{mark}", "It is fine.") for firm in FIRMS for mark in "?!"
    ]
    answer = f"First this:\n- You open it.\n{end}"
    report = lint(dataset(*rows, ("And what of us?", answer)))
    assert [row.number for f in report.findings if f.rule == "truncated-answer"
            for row in f.rows] == [21]  # fmt: skip


@pytest.mark.parametrize("pair", [("active", "inactive"), ("< 30 days", "> 30 days")])
def test_a_rare_class_that_looks_like_another_is_no_typo(pair: tuple[str, str]) -> None:
    """`inactive` is not `active` misspelt, and less is not more."""
    usual, rare = pair
    asked = [f"What is the state of the {firm} account{mark}" for firm in FIRMS for mark in ".?!:"]
    rows = [(question, rare if at < 2 else usual) for at, question in enumerate(asked)]
    assert not [f for f in lint(dataset(*rows)).findings if f.rule == "label-typo"]
