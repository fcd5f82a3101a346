"""`hub data` and `hub train` where they need a base: tokens, and what may be trained on."""

import json
from typing import Any

import pytest

from hub.home import Home
from hub.records import Base
from tests.command import Hub
from tests.train.conftest import chats

PAIR = {"prompt": "Sky?", "chosen": "Blue.", "rejected": "Green."}


@pytest.fixture
def hub(tiny_base: Base, home: Home) -> Hub:
    return Hub(home.root)


def write(hub: Hub, name: str, rows: list[Any]) -> None:
    (hub.home / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def test_stats_count_tokens_under_a_base(hub: Hub) -> None:
    """As its own template makes them: a histogram, and the base's limit."""
    write(hub, "a.jsonl", chats(20))
    tokens = hub.ok("data", "stats", "a.jsonl", "--base", "tiny", "--json").json()["tokens"]
    assert tokens["limit"] == 128
    assert 0 < tokens["trained"] < tokens["total"]
    assert sum(bucket["rows"] for bucket in tokens["histogram"]) == 20


def test_training_takes_the_same_sources_or_says_why_not(hub: Hub) -> None:
    """No run begins on standard input, on pairs, or on columns that nobody named."""
    write(hub, "pairs.jsonl", [PAIR] * 9)
    (hub.home / "q.csv").write_text("q,a\n" + "Where?,Here.\n" * 3)
    for arguments, words in (
        (["-"], "standard input can't be used here"),
        (["pairs.jsonl"], "preference pairs (DPO), and the method sft needs conversations"),
        (["q.csv"], "Try --map prompt=q,completion=a"),
        (["q.csv", "--map", "prompt=q,completion=a"], "too-few-rows"),
    ):
        result = hub("train", "support", "--data", *arguments, stdin="")
        assert result.status == 1, result.stderr
        assert words in result.stderr
    assert hub.ok("runs", "ls").stdout == ""
