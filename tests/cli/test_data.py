"""`hub data show|stats|convert|split` as a user runs them, on files of every kind."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.command import Hub
from tests.train.conftest import chats

TOOL = {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"n": 1}'}}
RICH = {
    "messages": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Where?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL], "weight": 0},
        {"role": "tool", "tool_call_id": "c1", "content": "here\n\x1b[31mred"},
        {"role": "assistant", "content": "Here."},
    ],
    "tools": [TOOL],
    "id": 17,
}
PAIR = {"prompt": "Sky?", "chosen": "Blue.", "rejected": "Green."}


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path)


def write(hub: Hub, name: str, rows: list[Any]) -> None:
    (hub.home / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def test_show_is_readable_and_says_what_it_skipped(hub: Hub) -> None:
    """Who says what, calls, what is not learned; control characters do nothing to the terminal."""
    write(hub, "a.jsonl", [RICH])
    result = hub.ok("data", "show", "a.jsonl")
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert lines == [
        "a.jsonl:1",
        "  tools      find",
        "  system     Be brief.",
        "  user       Where?",
        '  assistant (not learned)  calls find({"n": 1})',
        "  tool       here",
        "             \\x1b[31mred",
        "  assistant  Here.",
        "",
    ]
    assert "messages of the role `developer` are read as `system` (1 row)" in result.stderr
    assert "not read: `id`" in result.stderr
    write(hub, "b.jsonl", [PAIR, {**PAIR, "chosen": "Grey."}])
    shown = hub.ok("data", "show", "b.jsonl", "--rows", "2-").stdout
    assert "chosen     Grey." in shown
    assert "rejected   Green." in shown
    assert "b.jsonl:1" not in shown


def test_show_takes_a_number_or_a_range(hub: Hub) -> None:
    """The numbers are those of messages: lines. A range that holds none says which there are."""
    write(hub, "a.jsonl", chats(9))

    def numbers(wanted: str) -> int:
        return len(hub.ok("data", "show", "a.jsonl", "-n", wanted, "--json").json())

    assert [numbers(wanted) for wanted in ("2", "3-5", "8-", "4-4")] == [2, 3, 2, 1]
    none = hub("data", "show", "a.jsonl", "--rows", "12-15")
    assert none.status == 1
    assert "They go from 1 to 9" in none.stderr
    assert hub("data", "show", "a.jsonl", "--rows", "5-3").status == 2


def test_one_set_through_every_file_and_format(hub: Hub) -> None:
    """JSONL to each format and file, through a pipe, and back: the digest is the same."""
    write(hub, "a.jsonl", chats(12))
    digest = hub.ok("data", "stats", "a.jsonl", "--json").json()["digest"]
    for target, out in (
        ("alpaca", "a.csv"),
        ("openai", "a.parquet"),
        ("sharegpt", "b.json"),
        ("prompt-completion", "a.tsv"),
        ("messages", "c.jsonl.gz"),
    ):
        hub.ok("data", "convert", "a.jsonl", "--to", target, "-o", out)
        assert hub.ok("data", "stats", out, "--json").json()["digest"] == digest, out
    assert (hub.home / "a.tsv").read_text().startswith("prompt\tcompletion\n")
    assert pq.read_table(hub.home / "a.parquet").column_names == ["messages"]
    assert len(gzip.decompress((hub.home / "c.jsonl.gz").read_bytes()).splitlines()) == 12
    piped = hub.ok(
        "data", "convert", "-", "--to", "alpaca", stdin=(hub.home / "a.jsonl").read_text()
    )
    again = hub.ok("data", "stats", "-", "--json", stdin=piped.stdout).json()
    assert (again["digest"], again["format"], again["name"]) == (digest, "alpaca", "stdin")


def test_convert_says_what_was_lost_and_strict_makes_it_an_error(hub: Hub) -> None:
    """Each kind with its rows; with --strict nothing is written."""
    write(hub, "a.jsonl", [*chats(2), RICH])
    result = hub.ok("data", "convert", "a.jsonl", "--to", "alpaca", "-o", "a.json", "--json")
    lost = {loss["what"]: [row["row"] for row in loss["rows"]] for loss in result.json()["losses"]}
    assert lost == {
        "row left out: it is not questions and answers in turn": [3],
        "column `id`": [1, 2, 3],
    }
    assert "lost: row left out: it is not questions and answers in turn: 1 row (3)" in result.stderr
    strict = hub("data", "convert", "a.jsonl", "--to", "alpaca", "-o", "b.json", "--strict")
    assert (strict.status, strict.stdout) == (1, "")
    assert not (hub.home / "b.json").exists()
    again = hub("data", "convert", "a.jsonl", "--to", "alpaca", "-o", "a.json")
    assert again.status == 1
    assert "--force" in again.stderr
    write(hub, "b.jsonl", [PAIR])
    kept = hub.ok("data", "convert", "b.jsonl", "--to", "openai-dpo", "--strict")
    assert json.loads(kept.stdout)["non_preferred_output"] == [
        {"role": "assistant", "content": "Green."}
    ]
    assert hub("data", "convert", "a.jsonl", "--to", "dpo").status == 1
    assert hub("data", "convert", "a.jsonl", "--to", "alpaca", "--text").status == 2
    assert hub("data", "convert", "a.jsonl", "--to", "alpaca", "--json").status == 2


def test_split_keeps_rows_as_they_are(hub: Hub) -> None:
    """Two files of the same kind beside the first, every row in one, with all its columns."""
    rows = [{**row, "id": number} for number, row in enumerate(chats(60))]
    write(hub, "a.jsonl", rows)
    made = hub.ok("data", "split", "a.jsonl", "--heldout", "0.2", "--json").json()
    sides = [
        [json.loads(line) for line in (hub.home / made[side]["file"]).read_text().splitlines()]
        for side in ("train", "heldout")
    ]
    assert [len(side) for side in sides] == [made["train"]["rows"], made["heldout"]["rows"]]
    assert 4 <= len(sides[1]) <= 24
    assert sorted(sides[0] + sides[1], key=lambda row: row["id"]) == rows
    assert made["heldout"]["file"] == "a-heldout.jsonl"
    assert hub("data", "split", "a.jsonl").status == 1
    hub.ok("data", "lint", "a-train.jsonl", "--heldout", "a-heldout.jsonl")
    (hub.home / "q.csv").write_text(
        "id,q,a\n" + "".join(f"{at},what of the number {at},it is {at}.\n" for at in range(30))
    )
    named = ("--map", "prompt=q,completion=a", "-o", hub.home)
    made = hub.ok("data", "split", "q.csv", *named, "--json").json()
    assert Path(made["heldout"]["file"]).read_text().startswith("id,q,a\n")
    write(hub, "few.jsonl", chats(3))
    few = hub("data", "split", "few.jsonl")
    assert few.status == 1
    assert "none of the 3 rows can be held out" in few.stderr


def test_stats_count_what_is_there(hub: Hub) -> None:
    """Rows, turns by role, lengths in characters, and what only some rows have."""
    write(hub, "a.jsonl", [RICH, {"messages": RICH["messages"][1:2] + RICH["messages"][4:]}])
    figures = hub.ok("data", "stats", "a.jsonl", "--json").json()
    assert figures["rows"] == 2
    assert figures["messages"] == {"assistant": 3, "user": 2, "system": 1, "tool": 1}
    assert figures["features"] == {
        "with a system message": 1,
        "with tools": 1,
        "with tool calls": 1,
        "with answers of weight 0": 1,
    }
    assert figures["spreads"]["answer"]["most"] == len("Here.")
    assert figures["spreads"]["turns"] == {
        "least": 2, "median": 3.5, "mean": 3.5, "p95": 4.8, "most": 5, "total": 7,
    }  # fmt: skip
    assert figures["tokens"] is None
    text = hub.ok("data", "stats", "a.jsonl").stdout
    assert "2 rows, chat, format messages" in text
    assert "with tools: 1 rows (50%)" in text
