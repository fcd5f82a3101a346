"""What is learned of a row: the assistant's tokens with the end of each turn, and nothing else."""

import shutil
from pathlib import Path

import pytest

from hub.errors import BaseError, InvalidConfig
from tests.train.conftest import TEMPLATE
from train.rows import Message, Row
from train.tokens import ChatTokenizer

TURNS = Row(
    1,
    "a.jsonl",
    (
        Message("system", "Be brief."),
        Message("user", "The red car?"),
        Message("assistant", "It is red."),
        Message("user", "And the blue door?"),
        Message("assistant", "It is blue."),
    ),
)


def with_template(model_folder: Path, tmp_path: Path, template: str) -> str:
    folder = tmp_path / "base"
    shutil.copytree(model_folder, folder)
    (folder / "chat_template.jinja").write_text(template)
    return str(folder)


def test_only_assistant_turns_are_trained_on(model_folder: Path) -> None:
    """The trained tokens, decoded, are the two answers with their end tokens."""
    chat = ChatTokenizer.load(str(model_folder))
    encoded = chat.encode(TURNS)
    pairs = zip(encoded.ids, encoded.trained, strict=True)
    learned = chat.tokenizer.decode([token for token, trained in pairs if trained])
    assert learned == "It is red.<|im_end|>It is blue.<|im_end|>"
    assert chat.count(TURNS) == (len(encoded.ids), sum(encoded.trained))


def test_prompt_is_what_a_server_renders(model_folder: Path) -> None:
    """Everything before the answer and the opening of the assistant's turn."""
    text = ChatTokenizer.load(str(model_folder)).prompt_text(TURNS.prompt[:2])
    assert text.endswith("<|im_start|>user\nThe red car?<|im_end|>\n<|im_start|>assistant\n")


def test_template_without_markers_that_nobody_knows_is_refused(
    model_folder: Path, tmp_path: Path
) -> None:
    """Never trained on nothing: the refusal says what to put into the template."""
    plain = TEMPLATE.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    with pytest.raises(InvalidConfig, match="generation"):
        ChatTokenizer.load(with_template(model_folder, tmp_path, plain))


def test_template_that_never_teaches_to_stop_is_refused(model_folder: Path, tmp_path: Path) -> None:
    """An end token outside of the markers would leave an adapter that never stops."""
    endless = TEMPLATE.replace(
        "message.content + '<|im_end|>' }}{% endgeneration %}{{- '\\n'",
        "message.content }}{% endgeneration %}{{- '<|im_end|>\\n'",
    )
    assert endless != TEMPLATE
    with pytest.raises(InvalidConfig, match="learn to stop"):
        ChatTokenizer.load(with_template(model_folder, tmp_path, endless))


def test_known_template_without_markers_is_patched(model_folder: Path, tmp_path: Path) -> None:
    """Qwen 3's own template has no markers; TRL's version of it marks the answers."""
    from trl import chat_template_utils

    source = with_template(model_folder, tmp_path, chat_template_utils.qwen3_chat_template)
    chat = ChatTokenizer.load(source)
    encoded = chat.encode(TURNS)
    pairs = zip(encoded.ids, encoded.trained, strict=True)
    learned = chat.tokenizer.decode([token for token, trained in pairs if trained])
    assert "It is red.<|im_end|>" in learned
    assert "It is blue.<|im_end|>" in learned
    assert "door" not in learned


def test_row_that_the_template_refuses_counts_as_nothing(
    model_folder: Path, tmp_path: Path
) -> None:
    """A template may refuse a row; the lint then reports it as having no trainable token."""
    strict = "{%- if messages[0].role == 'system' %}{{ raise_exception('no system') }}{%- endif %}"
    chat = ChatTokenizer.load(with_template(model_folder, tmp_path, strict + TEMPLATE))
    assert chat.count(TURNS) == (0, 0)


def test_folder_without_tokenizer_or_template_is_refused(
    model_folder: Path, tmp_path: Path
) -> None:
    """Neither an empty folder nor a base without a chat template gets as far as training."""
    with pytest.raises(BaseError, match="tokenizer can't be loaded"):
        ChatTokenizer.load(str(tmp_path))
    folder = Path(with_template(model_folder, tmp_path, ""))
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(BaseError, match="no chat template"):
        ChatTokenizer.load(str(folder))
