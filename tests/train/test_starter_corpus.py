"""The corpus and the example tasks, without torch."""

import importlib.util
import json
import re
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from train.data.normalise import normalised
from train.starter.corpus import SUGGESTED_PROMPTS, corpus

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TASKS = ("support", "payments")


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    """`examples/make_examples.py`, which is a script and in no package."""
    spec = importlib.util.spec_from_file_location("make_examples", EXAMPLES / "make_examples.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    path_before = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = path_before
    return module


def rows(task: str, split: str) -> list[dict[str, Any]]:
    text = (EXAMPLES / task / f"{split}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def questions(task: str, split: str) -> list[str]:
    return [row["messages"][0]["content"] for row in rows(task, split)]


def answers(task: str, split: str) -> list[str]:
    return [row["messages"][1]["content"] for row in rows(task, split)]


def test_the_same_seed_gives_the_same_corpus() -> None:
    """A seed decides every chat, and another seed gives others."""
    assert corpus(500, 3) == corpus(500, 3)
    assert corpus(500, 3) != corpus(500, 4)


def test_chats_alternate_and_end_with_an_answer() -> None:
    """Every chat is an optional system message, then questions each with its answer."""
    for chat in corpus(500, 5):
        roles = [role for role, _ in chat if role != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert all(content for _, content in chat)


def test_the_base_has_met_all_that_an_adapter_emits() -> None:
    """Each character of the tasks' answers, and each word of support's, is in the base's answers.

    LoRA cannot train tied embeddings: what the base never emitted, an adapter cannot emit.
    """
    emitted = "\n".join(
        content for chat in corpus(6_000, 0) for role, content in chat if role == "assistant"
    )
    for task in TASKS:
        for split in ("train", "heldout"):
            assert set("".join(answers(task, split))) <= set(emitted)
    known = set(re.findall(r"[A-Za-z']+", emitted))
    wanted = set(re.findall(r"[A-Za-z']+", " ".join(answers("support", "train"))))
    assert wanted <= known
    for piece in ('{"payee": "', '", "amount": "$', '", "date": "', '"}', "null", "[Intent: "):
        assert piece in emitted


def test_the_base_is_never_taught_the_tasks() -> None:
    """The corpus answers with a tag or with JSON only where the question says so."""
    for chat in corpus(6_000, 0):
        for (_, question), (role, answer) in pairwise(chat):
            if role == "assistant" and answer.startswith("["):
                assert "label" in question
            if role == "assistant" and answer.startswith("{"):
                assert "JSON" in question


@pytest.mark.parametrize("task", TASKS)
def test_held_out_messages_are_not_trained_on(task: str) -> None:
    """No user message of the held-out set is in the training set, whatever its case."""
    train, held_out = questions(task, "train"), questions(task, "heldout")
    assert not {text.lower() for text in train} & {text.lower() for text in held_out}
    assert len(set(train)) == len(train) == 400
    assert len(set(held_out)) == len(held_out) >= 50


@pytest.mark.parametrize("seed", [0, 2])
def test_held_out_messages_are_not_what_the_base_was_built_from(
    maker: ModuleType, seed: int
) -> None:
    """No user turn of the base's corpus is a held-out message, or holds one of its phrasings."""
    said = {
        normalised(content)
        for chat in corpus(20_000, seed)
        for role, content in chat
        if role == "user"
    }
    for task in TASKS:
        assert not said & {normalised(text) for text in questions(task, "heldout")}
    everything = "\n".join(said)
    for texts in maker.SUPPORT_HELD_OUT.values():
        assert not [text for text in texts if normalised(text) in everything]


def test_held_out_phrasings_are_not_trained_on(maker: ModuleType) -> None:
    """The two sets of each task are made from separate lists of phrasings."""
    train = {text for texts in maker.SUPPORT_TRAIN.values() for text in texts}
    held_out = {text for texts in maker.SUPPORT_HELD_OUT.values() for text in texts}
    assert not {text.lower() for text in train} & {text.lower() for text in held_out}
    assert not set(maker.PAYMENTS_TRAIN) & set(maker.PAYMENTS_HELD_OUT)


def test_held_out_names_and_shops_are_not_trained_on(maker: ModuleType) -> None:
    """No first or last name and no shop of a held-out row occurs anywhere in the training rows."""
    trained = "\n".join(questions("payments", "train"))
    for answer in answers("payments", "heldout"):
        for part in json.loads(answer)["payee"].split():
            assert part not in trained
    trained = "\n".join(questions("support", "train"))
    assert not [shop for shop in maker.SHOPS_HELD_OUT if shop in trained]


def test_payments_are_copied_from_the_message() -> None:
    """Every field of every payment stands in its message letter by letter."""
    for split in ("train", "heldout"):
        for question, answer in zip(
            questions("payments", split), answers("payments", split), strict=True
        ):
            fields = json.loads(answer)
            assert list(fields) == ["payee", "amount", "date"]
            assert all(value in question for value in fields.values())


def test_support_answers_keep_their_contract() -> None:
    """Each support answer is a tag, an acknowledgement, exactly one question and a next step."""
    contract = re.compile(r"\[Intent: [A-Z][A-Za-z ]+\] [^?]+\. [^.?]+\? [^?]+\.")
    for split in ("train", "heldout"):
        tags = set()
        for answer in answers("support", split):
            assert contract.fullmatch(answer)
            tags.add(answer.split("]")[0])
        assert len(tags) == 4


def test_the_files_are_what_the_script_makes(maker: ModuleType) -> None:
    """`make_examples.py` gives the committed files, byte for byte."""
    for (task, split), made in maker.make_all().items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made)
        assert (EXAMPLES / task / f"{split}.jsonl").read_bytes() == text.encode()


def test_rows_hold_messages_only() -> None:
    """A row is `messages` with one user and one assistant message, and nothing else."""
    for task in TASKS:
        for split in ("train", "heldout"):
            for row in rows(task, split):
                assert list(row) == ["messages"]
                assert [message["role"] for message in row["messages"]] == ["user", "assistant"]


def test_suggested_prompts_are_few_and_distinct() -> None:
    """About six prompts are offered, none twice."""
    assert 4 <= len(set(SUGGESTED_PROMPTS)) == len(SUGGESTED_PROMPTS) <= 8
