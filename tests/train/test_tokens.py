"""What is learned of a row: the assistant's tokens with the end of each turn, and nothing else."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hub.errors import BaseError, InvalidConfig, InvalidData
from tests.train.conftest import TEMPLATE
from train.data.rows import Message, Row
from train.templates.tokens import ChatTokenizer

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
    assert chat.count(TURNS) == (len(encoded.ids), sum(encoded.trained), 0)


def learned(chat: ChatTokenizer, row: Row) -> str:
    encoded = chat.encode(row)
    pairs = zip(encoded.ids, encoded.trained, strict=True)
    return str(chat.tokenizer.decode([token for token, trained in pairs if trained]))


def weighted(*weights: int | None) -> Row:
    """The row of two answers with these weights."""
    messages = list(TURNS.messages)
    for at, weight in zip((2, 4), weights, strict=True):
        messages[at] = replace(messages[at], weight=weight)
    return replace(TURNS, messages=tuple(messages))


def test_an_answer_of_weight_0_is_read_and_not_learned(model_folder: Path) -> None:
    """The ids are the same whatever the weights; the loss is on the others, with their ends."""
    chat = ChatTokenizer.load(str(model_folder))
    for weights, expected in (
        ((0, None), "It is blue.<|im_end|>"),
        ((0, 1), "It is blue.<|im_end|>"),
        ((1, 0), "It is red.<|im_end|>"),
        ((1, 1), "It is red.<|im_end|>It is blue.<|im_end|>"),
        ((0, 0), ""),
    ):
        row = weighted(*weights)
        assert learned(chat, row) == expected
        assert chat.encode(row).ids == chat.encode(TURNS).ids


def test_weights_that_cant_be_honoured_are_refused(model_folder: Path, tmp_path: Path) -> None:
    """Where the template marks other turns than the row has, none is guessed."""
    silent = TEMPLATE.replace("message.role == 'assistant'", "message.role == 'assistant' and "
                              "(loop.last or loop.index < 3)")  # fmt: skip
    assert silent != TEMPLATE
    chat = ChatTokenizer.load(with_template(model_folder, tmp_path, silent))
    assert learned(chat, TURNS) == "It is blue.<|im_end|>"
    with pytest.raises(InvalidData, match="marks 1 answers of the 2") as refusal:
        chat.encode(weighted(0, None))
    assert refusal.value.where == "a.jsonl, row 1"


TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "car"}'}}
ASKED, ANSWERED = TURNS.messages[1:3]
CALLS = Row(
    7,
    "a.jsonl",
    (
        ASKED,
        Message("assistant", "", tool_calls=(CALL,)),
        Message("tool", "red", tool_call_id="c1"),
        ANSWERED,
    ),
)
KNOWS_TOOLS = (
    "{%- if tools %}{{- '<|im_start|>system\\n' + (tools | tojson) + '<|im_end|>\\n' }}{%- endif %}"
    + TEMPLATE.replace(
        "{% generation %}{{- message.content",
        "{% generation %}{%- for call in message.tool_calls or [] %}"
        "{{- call.function.name + (call.function.arguments | tojson) }}{%- endfor %}"
        "{{- message.content",
    )
)


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (replace(TURNS, tools=(TOOL,)), "the row has tools"),
        (CALLS, "the row has calls of tools"),
    ],
)
def test_tools_that_a_template_leaves_out_are_refused(
    model_folder: Path, row: Row, what: str
) -> None:
    """Never trained on as if they had not been there; the row is named."""
    chat = ChatTokenizer.load(str(model_folder))
    with pytest.raises(InvalidData, match=what) as refusal:
        chat.count(row)
    assert refusal.value.where == f"a.jsonl, row {row.number}"


def test_tools_are_rendered_by_a_template_that_can(model_folder: Path, tmp_path: Path) -> None:
    """The tools are in the prompt, and the call is learned as the model is to write it."""
    chat = ChatTokenizer.load(with_template(model_folder, tmp_path, KNOWS_TOOLS))
    row = replace(CALLS, tools=(TOOL,))
    assert learned(chat, row) == 'look{"at": "car"}<|im_end|>It is red.<|im_end|>'
    assert '"name": "look"' in chat.tokenizer.decode(chat.encode(row).ids)


@pytest.mark.parametrize(
    ("tool", "shown"),
    [
        (
            {"function": {"strict": True, "parameters": {}, "name": "f"}, "type": "function"},
            '{"type": "function", "function": {"name": "f", "description": null, "parameters": {},'
            ' "strict": true}}',
        ),
        (
            {"type": "function", "function": {"name": "f", "description": "d", "returns": "x"}},
            '{"type": "function", "function": {"name": "f", "description": "d", '
            '"parameters": null}}',
        ),
        ({"type": "function", "function": {"args": "?"}}, '{"args": "?"}'),
    ],
)
def test_tools_are_shown_as_a_server_shows_them(
    model_folder: Path, tmp_path: Path, tool: dict[str, Any], shown: str
) -> None:
    """vLLM reads them into a form of its own, whatever order and fields they come in."""
    chat = ChatTokenizer.load(with_template(model_folder, tmp_path, KNOWS_TOOLS))
    assert shown in chat.prompt_text(TURNS.prompt[:2], [tool])
    assert shown in chat.tokenizer.decode(chat.encode(replace(TURNS, tools=(tool,))).ids)


def test_prompt_is_what_a_server_renders(model_folder: Path) -> None:
    """Everything before the answer and the opening of the assistant's turn."""
    text = ChatTokenizer.load(str(model_folder)).prompt_text(TURNS.prompt[:2])
    assert text.endswith("<|im_start|>user\nThe red car?<|im_end|>\n<|im_start|>assistant\n")


PLAIN = TEMPLATE.replace("{% generation %}", "").replace("{% endgeneration %}", "")


def test_template_without_markers_that_nobody_knows_is_learned_from(
    model_folder: Path, tmp_path: Path
) -> None:
    """Tokens and marks are those of the same template with markers; weights hold as well."""
    marked = ChatTokenizer.load(str(model_folder))
    plain = ChatTokenizer.load(with_template(model_folder, tmp_path, PLAIN))
    for row in (TURNS, weighted(0, None), weighted(1, 0)):
        assert plain.encode(row) == marked.encode(row)


@pytest.mark.parametrize(
    ("end", "opening", "reason"),
    [
        ("'' if loop.last and not add_generation_prompt else '<|im_end|>\\n'", "assistant\\n",
         r"write <\|im_end\|> behind the last one too"),
        ("'\\n'", "assistant\\n", r"does not end answer 1.* write the end token"),
        ("'<|im_end|>\\n'", "assistant\\n[", r"ends a prompt with '<\|im_start\|>assistant\\n\['"),
        ("nothing.at.all", "assistant\\n", "fails on a plain chat"),
    ],
)  # fmt: skip
def test_template_that_would_go_wrong_quietly_is_refused(
    model_folder: Path, tmp_path: Path, end: str, opening: str, reason: str
) -> None:
    """No end behind the last answer, or behind any; another opening in prompts; broken."""
    template = (
        "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' }}"
        "{{- message.content }}{{- END }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>OPENING' }}{%- endif %}"
    )
    wrong = template.replace("END", end).replace("OPENING", opening)
    with pytest.raises(InvalidConfig, match=reason):
        ChatTokenizer.load(with_template(model_folder, tmp_path, wrong))


def test_answers_that_a_prompt_does_not_lead_to_are_read_only(
    model_folder: Path, tmp_path: Path
) -> None:
    """A template that shows the system message before the last question only, as some do."""
    late = (
        "{%- for message in messages if message.role != 'system' %}"
        "{{- '<|im_start|>' + message.role + '\n' }}"
        "{%- if loop.revindex <= (1 if add_generation_prompt else 2) and message.role == 'user' %}"
        "{{- messages[0].content + ' ' }}{%- endif %}"
        "{{- message.content + '<|im_end|>\n' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
    )
    chat = ChatTokenizer.load(with_template(model_folder, tmp_path, late))
    assert learned(chat, TURNS) == "It is blue.<|im_end|>"
    assert chat.count(TURNS)[2] == 1
    with pytest.raises(InvalidData, match="no answer of the row stands as it is served"):
        chat.encode(weighted(None, 0))


@pytest.mark.parametrize("template", [TEMPLATE, PLAIN], ids=["marked", "plain"])
def test_an_answer_without_its_thoughts_is_read_only(
    model_folder: Path, tmp_path: Path, template: str
) -> None:
    """A template that keeps the last answer's thoughts alone teaches no answer without them."""
    forgets = template.replace(
        "message.content +", "(message.content if loop.last else message.content.split('>')[-1]) +"
    )
    chat = ChatTokenizer.load(with_template(model_folder, tmp_path, forgets))
    thoughtful = tuple(
        replace(one, content=f"<think>Hm.</think>{one.content}") if one.role == "assistant" else one
        for one in TURNS.messages
    )
    row = replace(TURNS, messages=thoughtful)
    assert learned(chat, TURNS) == "It is red.<|im_end|>It is blue.<|im_end|>"
    assert learned(chat, row) == "<think>Hm.</think>It is blue.<|im_end|>"
    assert chat.encode(row).unserved == 1
    assert "It is red." in chat.tokenizer.decode(chat.encode(row).ids)


def test_what_a_row_says_does_not_confuse_the_search(model_folder: Path, tmp_path: Path) -> None:
    """Answers that repeat each other, the question or the template, or use the private letters."""
    marked = ChatTokenizer.load(str(model_folder))
    plain = ChatTokenizer.load(with_template(model_folder, tmp_path, PLAIN))
    for said in ("The red car?", "assistant\n", " It is. \n", "\ue000\ue001", "è🙂", "a" * 50):
        messages = tuple(
            replace(one, content=said) if one.role == "assistant" else one for one in TURNS.messages
        )
        row = replace(TURNS, messages=(*messages, *messages[1:]))
        assert plain.encode(row) == marked.encode(row)


def test_template_that_never_teaches_to_stop_is_refused(model_folder: Path, tmp_path: Path) -> None:
    """An end token outside of the markers would leave an adapter that never stops."""
    endless = TEMPLATE.replace(
        "message.content + '<|im_end|>' }}{% endgeneration %}{{- '\\n'",
        "message.content }}{% endgeneration %}{{- '<|im_end|>\\n'",
    )
    assert endless != TEMPLATE
    with pytest.raises(InvalidConfig, match="learn to stop"):
        ChatTokenizer.load(with_template(model_folder, tmp_path, endless))


def test_row_that_the_template_refuses_counts_as_nothing(
    model_folder: Path, tmp_path: Path
) -> None:
    """A template may refuse a row; the lint then reports it as having no trainable token."""
    strict = "{%- if messages[0].role == 'system' %}{{ raise_exception('no system') }}{%- endif %}"
    chat = ChatTokenizer.load(with_template(model_folder, tmp_path, strict + TEMPLATE))
    assert chat.count(TURNS) == (0, 0, 0)


def test_folder_without_tokenizer_or_template_is_refused(
    model_folder: Path, tmp_path: Path
) -> None:
    """Neither no folder, nor an empty one, nor a base without a chat template gets as far as
    training."""
    with pytest.raises(BaseError, match="the base's folder is gone"):
        ChatTokenizer.load(str(tmp_path / "gone"))
    with pytest.raises(BaseError, match="tokenizer can't be loaded"):
        ChatTokenizer.load(str(tmp_path))
    folder = Path(with_template(model_folder, tmp_path, ""))
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(BaseError, match="no chat template"):
        ChatTokenizer.load(str(folder))
