"""What `hub data show --mask` shows is what the trainer is given."""

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from hub.cli.data_show import show
from hub.errors import InvalidData
from hub.home import Home
from tests.train.conftest import Maker, chat
from tests.train.test_tokens import TURNS, weighted
from train.templates.masks import mask_of
from train.templates.tokens import ChatTokenizer


@pytest.mark.parametrize("weights", [(None, None), (0, None)])
def test_the_mask_is_the_labels_that_are_trained_on(
    model_folder: Path, weights: tuple[int | None, int | None]
) -> None:
    """Token by token the labels of the trainer's data set, an answer of weight 0 included."""
    from train.trainers.sft import token_sets

    chat, row = ChatTokenizer.load(str(model_folder)), weighted(*weights)
    given = token_sets(chat, [row], [])[0][0]
    shown = mask_of(chat, row).to_json()["mask"]
    assert [token["id"] for token in shown] == given["input_ids"]
    assert [token["id"] if token["trained"] else -100 for token in shown] == given["labels"]


def test_answers_with_their_ends_are_marked(model_folder: Path) -> None:
    """Special tokens are visible; headers, system and user are outside of the marks."""
    chat = ChatTokenizer.load(str(model_folder))
    stretches = list(mask_of(chat, TURNS).stretches())
    trained = [text for text, mark in stretches if mark]
    assert trained == ["It is red.<|im_end|>", "It is blue.<|im_end|>"]
    assert "".join(text for text, _ in stretches).count("<|im_start|>assistant\n") == 2


def test_a_row_that_is_no_chat_is_refused(model_folder: Path) -> None:
    """A labelled row is trained on in another way; it is named."""
    chat = ChatTokenizer.load(str(model_folder))
    with pytest.raises(InvalidData, match="labelled row") as refusal:
        mask_of(chat, replace(TURNS, label=True))
    assert refusal.value.where == "a.jsonl, row 1"


@pytest.mark.usefixtures("tiny_base")
def test_the_command_brackets_what_is_trained_on(
    home: Home, jsonl: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without colours: the row as rendered, special tokens and all, its answer in brackets."""
    monkeypatch.setenv("HUB_HOME", str(home.root))
    path = jsonl([chat("The red car?", "It is red.")])
    done = CliRunner().invoke(show, [str(path), "--mask", "--base", "tiny"])
    first, text = done.stdout.split("\n", 1)
    assert "trained on" in first
    assert text.startswith(
        "<|im_start|>user\nThe red car?<|im_end|>\n<|im_start|>assistant\n⟦It is red.<|im_end|>⟧\n"
    )
    assert text.count("⟦") == 1
