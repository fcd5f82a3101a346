"""What is trained on, family by family, held against files that a person has read."""

from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from hub.errors import InvalidConfig, InvalidData
from tests.train.conftest import make_settings
from tests.train.families import (
    FAMILIES,
    GOLDEN,
    Family,
    bracketed,
    chat_of,
    family_rows,
    golden,
    trl_template,
)
from train.data.rows import Message, Row
from train.templates.template import spelled
from train.templates.tokens import ChatTokenizer


@pytest.fixture(params=FAMILIES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def family(name: str) -> Family:
    return FAMILIES[name]


@pytest.fixture
def chat(family: Family) -> ChatTokenizer:
    return chat_of(family)


def test_masks_are_the_golden_ones(name: str, family: Family, chat: ChatTokenizer) -> None:
    """Each answer with the end of its turn, and nothing else, is in brackets."""
    assert golden(family, chat) == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


def test_tokens_are_those_of_the_bases_own_template(family: Family, chat: ChatTokenizer) -> None:
    """The ids are the original template's, without a prompt; before each learned answer of the row
    stands the prompt that a server renders of the messages before it.
    """
    for row in family_rows(family).values():
        tools = list(row.tools) or None
        own = chat.tokenizer.apply_chat_template(spelled(row.messages), tools=tools)["input_ids"]
        encoded = chat.encode(row)
        assert list(encoded.ids) == own
        text = chat.tokenizer.decode(own)
        prompts = [
            chat.prompt_text(row.messages[:at], row.tools)
            for at, message in enumerate(row.messages)
            if message.learned
        ]
        edges = [at for at in range(1, len(own)) if encoded.trained[at - 1 : at + 1] == (0, 1)]
        assert edges
        for at in edges:
            before = chat.tokenizer.decode(own[:at])
            assert text.startswith(before)
            assert before in prompts


def test_the_collators_labels_are_the_mask(
    name: str, family: Family, chat: ChatTokenizer, tmp_path: Path
) -> None:
    """What TRL's trainer really takes the loss on, batch by batch, is the golden mask."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from train.trainers.sft import token_sets, trainer_of
    from train.trainers.training import Work

    rows = list(family_rows(family).values())
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(chat.tokenizer), hidden_size=8, intermediate_size=8,
            num_hidden_layers=1, num_attention_heads=1,
        )
    )  # fmt: skip
    train_set, _ = token_sets(chat, rows, [])
    work = Work(make_settings(batch_size=3), tmp_path, rows=len(rows), tokens=1, validates=False,
                started=0.0, progress=lambda _: None)  # fmt: skip
    trainer = trainer_of(work, model, chat, train_set, None)
    file = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")
    shown = [part.partition("\n")[2][:-1] for part in file.split("\n======== ")[1:]]
    seen = [
        _bracketed(chat, ids, labels, length)
        for batch in trainer.get_train_dataloader()
        for ids, labels, length in zip(
            batch["input_ids"].tolist(),
            batch["labels"].tolist(),
            batch["attention_mask"].sum(dim=1).tolist(),
            strict=True,
        )
    ]
    assert sorted(seen) == sorted(shown)


def _bracketed(chat: ChatTokenizer, ids: list[int], labels: list[int], length: int) -> str:
    assert all(label in (-100, token) for token, label in zip(ids, labels, strict=True))
    assert set(labels[length:]) <= {-100}
    pairs = zip(ids[:length], labels[:length], strict=True)
    return bracketed(
        (chat.tokenizer.decode([token for token, _ in group]), trained)
        for trained, group in groupby(pairs, key=lambda pair: pair[1] != -100)
    )


@pytest.mark.parametrize(
    "known", ["llama3", "qwen2_5", "qwen3", "gemma", "phi3", "cohere2", "lfm2", "qwen3_vl"]
)
def test_trl_marks_the_same_where_it_renders_the_same(known: str) -> None:
    """TRL's own marks of these families, found in another way: the same answers and ends.

    What TRL has more is a line break or a last end-of-text behind the end of a turn.
    """
    special = ["<|im_start|>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>",
               "<|END_RESPONSE|>", "<|END_OF_TURN_TOKEN|>", "<|START_RESPONSE|>"]  # fmt: skip
    chat = chat_of(Family(known, known, special, "<s>", "</s>"))
    row = Row(1, "a.jsonl", (Message("user", "The car?"), Message("assistant", "It is red.")))
    output: Any = chat.tokenizer.apply_chat_template(
        spelled(row.messages),
        return_dict=True,
        return_assistant_tokens_mask=True,
        chat_template=trl_template(f"{known}_training"),
    )
    encoded = chat.encode(row)
    assert list(encoded.ids) == output["input_ids"]
    pairs = list(zip(encoded.ids, encoded.trained, output["assistant_masks"], strict=True))
    assert all(theirs for _, ours, theirs in pairs if ours)
    more = chat.tokenizer.decode([token for token, ours, theirs in pairs if theirs and not ours])
    assert more.replace("</s>", "").strip() == ""


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ("deepseek_r1_distill", r"ends a prompt with '<｜Assistant｜><think>\\n'"),
        ("glm4moe", "learn to stop; write the end token behind each answer"),
        ("smolvlm", "does not show an answer that is plain text"),
    ],
)
def test_what_would_go_wrong_quietly_is_refused(known: str, reason: str) -> None:
    """Families whose own template can't be trained on as it is served; the reason says how so."""
    special = [
        "<｜Assistant｜>",
        "<｜User｜>",
        "<｜end▁of▁sentence｜>",
        "<|user|>",
        "<|assistant|>",
    ]
    with pytest.raises(InvalidConfig, match=reason.replace("|", r"\|")):
        chat_of(Family(known, known, special, "<s>", "</s>"))


def test_a_base_that_always_thinks_wants_thoughts() -> None:
    """Answers without thoughts are refused, row by row, and those with thoughts are learned."""
    chat = chat_of(Family("Nemotron", "nemotron_3_nano", ["<|im_start|>", "<|im_end|>"]))
    asked, plain = Message("user", "The car?"), Message("assistant", "It is red.")
    with pytest.raises(InvalidData, match="no answer of the row stands as it is served") as refusal:
        chat.encode(Row(3, "a.jsonl", (asked, plain)))
    assert refusal.value.where == "a.jsonl, row 3"
    thought = Message("assistant", "<think>\nHm.\n</think>\nIt is red.")
    encoded = chat.encode(Row(4, "a.jsonl", (asked, thought)))
    learned = [token for token, mark in zip(encoded.ids, encoded.trained, strict=True) if mark]
    assert chat.tokenizer.decode(learned) == "Hm.\n</think>\nIt is red.<|im_end|>"
