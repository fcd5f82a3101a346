"""`hub data lint` as a user runs it: what it prints, what it writes, and how it ends."""

import json
from pathlib import Path

import pytest

from tests.command import Hub
from tests.train.conftest import Maker, chat, chats
from train.linting.rules import RULES


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path)


def test_broken_rows_are_findings_beside_the_others(hub: Hub, jsonl: Maker) -> None:
    """Rows that training would refuse one by one are all told at once, by the rule they break."""
    path = jsonl([*chats(60), chat("Is it red?", "[Colour: red] It is a red lamp and it")])
    broken = [
        '{"messages": [{"role": "user", "content": "no end',
        '{"messages": "none"}',
        '{"messages": [{"role": "user", "content": "Is it?"}]}',
        '{"messages": [{"role": "user", "content": "Is it?"},'
        ' {"role": "assistant", "content": ""}]}',
        '{"messages": [{"role": "user", "content": "Is it?"},'
        ' {"role": "assistant", "content": "Yes.", "weight": 0}]}',
        '{"question": "Is it?"}',
    ]
    path.write_text(path.read_text() + "\n".join(broken) + "\n")
    result = hub("data", "lint", path.name, "--json")
    assert result.status == 1
    facts = result.json()
    assert facts["rows"] == 67
    found = [
        (finding["rule"], [place["row"] for place in finding["rows"]])
        for finding in facts["findings"]
    ]
    assert found == [
        ("malformed-row", [62]),
        ("malformed-row", [63]),
        ("no-answer", [64]),
        ("empty-answer", [65]),
        ("no-trainable-token", [66]),
        ("malformed-row", [67]),
        ("truncated-answer", [61]),
    ]


def test_rules_are_listed_and_can_be_silenced(hub: Hub, jsonl: Maker) -> None:
    """--rules tells every rule; --ignore leaves one out; an unknown one is refused with a list."""
    listed = hub.ok("data", "lint", "--rules").stdout
    assert all(f"{rule.severity:<8}  {rule.name}" in listed for rule in RULES)
    told = hub.ok("data", "lint", "--rules", "--json").json()
    assert [rule["rule"] for rule in told] == [rule.name for rule in RULES]
    path = jsonl(chats(3))
    text = hub("data", "lint", path.name)
    assert (text.status, text.stdout.splitlines()[-1]) == (
        1,
        "train: 3 rows; 1 error: too-few-rows; not ready: mend the errors first",
    )
    assert hub("data", "lint", path.name, "--ignore", "too-few-rows").status == 0
    unknown = hub("data", "lint", path.name, "--ignore", "to-few-rows")
    assert unknown.status == 2
    assert "no rule 'to-few-rows'" in unknown.stderr
    assert "too-few-rows" in unknown.stderr


def test_a_list_under_the_name_of_lines_is_linted_as_a_list(hub: Hub, jsonl: Maker) -> None:
    """One faulty row of it is one finding, under its place in the list."""
    path = jsonl(chats(9))
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records[3] = {"messages": "x"}
    path.write_text("[\n" + ",\n".join(map(json.dumps, records)) + "\n]\n")
    result = hub("data", "lint", path.name, "--ignore", "too-few-rows", "--json")
    [finding] = result.json()["findings"]
    assert (finding["rule"], [row["row"] for row in finding["rows"]]) == ("malformed-row", [4])


def test_labels_of_0_and_1_beside_a_faulty_row_are_labels(hub: Hub, jsonl: Maker) -> None:
    """The lint reads the other rows as training would."""
    records = [{"prompt": f"Is it {at}?", "completion": f"It is {at}.", "label": at % 2}
               for at in range(120)]  # fmt: skip
    records[5]["completion"] = 7
    result = hub("data", "lint", jsonl(records).name, "--json")
    assert [(f["rule"], f["rows"][0]["row"]) for f in result.json()["findings"]] == [
        ("malformed-row", 6)
    ]


def test_fix_shows_then_writes_then_has_nothing_left(hub: Hub, jsonl: Maker) -> None:
    """--fix alone writes nothing; -o writes another file, --in-place this one; then it is clean."""
    records = [*chats(60), chat("And the tree?", "[Colour: RED] It is a tree."), *chats(1)]
    path = jsonl(records)
    before = path.read_bytes()
    shown = hub.ok("data", "lint", "--fix", path.name)
    assert "-" + before.decode().splitlines()[60] in shown.stdout
    assert "@@ -60,3 +60,2 @@" in shown.stdout
    assert "1 row dropped, 1 changed" in shown.stderr
    assert "Nothing was written" in shown.stderr
    assert path.read_bytes() == before
    assert [p.name for p in hub.home.iterdir()] == [path.name]

    written = hub.ok("data", "lint", "--fix", path.name, "-o", "out.jsonl", "--json").json()
    assert written["fix"]["written"] == ["out.jsonl"]
    assert written["fix"]["fixed"] == {"exact-duplicate": 1, "label-spelling": 1}
    assert written["findings"] == []
    assert path.read_bytes() == before
    wanted = [*chats(60), chat("And the tree?", "[Colour: red] It is a tree.")]
    out = hub.home / "out.jsonl"
    assert out.read_text() == "".join(f"{json.dumps(record)}\n" for record in wanted)

    hub.ok("data", "lint", "--fix", path.name, "--in-place", "--quiet")
    assert path.read_bytes() == out.read_bytes()
    assert (hub.home / f"{path.name}.orig").read_bytes() == before


def test_standard_input_is_linted(hub: Hub, jsonl: Maker) -> None:
    """`-` reads rows from a pipe, broken ones too."""
    text = jsonl(chats(9)).read_text()
    result = hub("data", "lint", "-", "--json", stdin=text + "{broken\n")
    assert result.status == 1
    finding = result.json()["findings"][0]
    assert (finding["rule"], finding["rows"]) == ("malformed-row", [{"file": "stdin", "row": 10}])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no data file"),
        (["train.jsonl", "-o", "x"], "--fix"),
        (["train.jsonl", "--fix", "-o", "x", "--in-place"], "exclude"),
        (["train.jsonl", "--max-length", "9"], "--base"),
    ],
)
def test_usage(hub: Hub, jsonl: Maker, arguments: list[str], words: str) -> None:
    """Options that say nothing by themselves are refused as usage errors."""
    jsonl(chats(9))
    result = hub("data", "lint", *arguments)
    assert result.status == 2
    assert words in result.stderr
