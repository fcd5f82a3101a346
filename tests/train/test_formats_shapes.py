"""Every shape gives the row that it means: tools, weights, preferences, labels."""

import json
from pathlib import Path
from typing import Any

import pytest

from hub.errors import InvalidData
from train.data.formats import read_dataset
from train.data.rows import DataSet, Row

Json = dict[str, Any]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
USER, GOOD, BAD = (
    {"role": "user", "content": "Sky?"},
    {"role": "assistant", "content": "Blue."},
    {"role": "assistant", "content": "Green."},
)


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """Reads records as a JSONL file."""

    def read_records(*records: Json) -> DataSet:
        path = tmp_path / "a.jsonl"
        path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
        return read_dataset([path])

    return read_records


def said(row: Row) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in row.messages]


PAIRS = [
    ("dpo", {"prompt": "Sky?", "chosen": "Blue.", "rejected": "Green."}),
    ("dpo", {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}),
    ("dpo", {"prompt": [USER], "chosen": GOOD, "rejected": BAD}),
    ("dpo", {"chosen": [USER, GOOD], "rejected": [USER, BAD]}),
    ("dpo", {"prompt": "Sky?", "chosen": [USER, GOOD], "rejected": [USER, BAD]}),
    ("dpo", {"instruction": "Sky?", "input": "", "chosen": "Blue.", "rejected": "Green."}),
    ("dpo", {"chosen": "\n\nHuman: Sky?\n\nAssistant: Blue.",
             "rejected": "\n\nHuman: Sky?\n\nAssistant: Green."}),
    ("openai-dpo", {"input": {"messages": [USER]}, "preferred_output": [GOOD],
                    "non_preferred_output": [BAD]}),
]  # fmt: skip


@pytest.mark.parametrize(("format", "record"), PAIRS)
def test_preferences_become_one_pair(read: Any, format: str, record: Json) -> None:
    """TRL's and OpenAI's pairs, the prompt beside or inside of them, are one and the same row."""
    dataset = read(record)
    row = dataset.rows[0]
    assert (dataset.kind, dataset.format) == ("preference", format)
    assert row.to_json() == {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}
    assert (row.prompt[-1].content, row.answer, row.question) == ("Sky?", "Blue.", "Sky?")


def test_text_without_a_prompt_is_cut_between_words(read: Any) -> None:
    """TRL's implicit prompt in text, but never within a word, and without the blank there."""
    row = read({"chosen": "The sky is blue.", "rejected": "The sky is blank."}).rows[0]
    assert [part.content for part in (*row.prompt, *row.completion, *row.rejected)] == [
        "The sky is", "blue.", "blank.",
    ]  # fmt: skip


def test_openai_pairs_keep_tools_and_several_messages(read: Any) -> None:
    """An answer may call a tool on its way; what follows belongs to it."""
    calls = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    result = {"role": "tool", "tool_call_id": "c1", "content": "2"}
    row = read(
        {
            "input": {"messages": [USER], "tools": [TOOL], "parallel_tool_calls": False},
            "preferred_output": [calls, result, GOOD],
            "non_preferred_output": [BAD],
        }
    ).rows[0]
    assert row.answer_at == 1
    assert [message.role for message in row.completion] == ["assistant", "tool", "assistant"]
    assert (row.tools, row.parallel_tool_calls) == ((TOOL,), False)


@pytest.mark.parametrize(
    "labels", [(True, False), ("true", "false"), ("True", "False"), (1, 0), ("1", "0")]
)
def test_labels_make_labelled_completions(read: Any, labels: tuple[object, object]) -> None:
    """TRL's KTO rows, with the spellings that tables give to true and false."""
    rows = [{"prompt": "Sky?", "completion": "Blue.", "label": label} for label in labels]
    dataset = read(*rows)
    assert (dataset.kind, dataset.format) == ("labelled", "kto")
    assert [row.label for row in dataset.rows] == [True, False]
    assert dataset.rows[0].to_json() == {"prompt": [USER], "completion": [GOOD], "label": True}


def test_classes_are_not_taken_for_labels(read: Any) -> None:
    """A column `label` of classes, 0 and 1 among them, is a column that is not read."""
    rows = [{"prompt": "a", "completion": "b", "label": label} for label in (1, 0, 2)]
    dataset = read(*rows)
    assert (dataset.kind, dataset.unused_columns) == ("chat", ("label",))


def test_openai_files_are_read_whole(read: Any) -> None:
    """Weights, refusals, text parts, `developer`, and the older functions, each said."""
    dataset = read(
        {
            "messages": [
                {"role": "developer", "content": [{"type": "text", "text": "Be "},
                                                  {"type": "text", "text": "brief."}]},
                USER,
                {"role": "assistant", "content": None,
                 "function_call": {"name": "add", "arguments": "{}"}, "weight": 0},
                {"role": "function", "name": "add", "content": "2"},
                {"role": "assistant", "refusal": "I can't.", "content": None, "weight": 1,
                 "audio": None, "reasoning_content": "Hm."},
            ],
            "functions": [TOOL["function"]],
            "parallel_tool_calls": True,
        }
    )  # fmt: skip
    row = dataset.rows[0]
    assert said(row)[0] == ("system", "Be brief.")
    called, answered, refused = row.messages[2:]
    assert called.weight == 0
    assert called.tool_calls[0]["id"] == answered.tool_call_id
    assert answered.role == "tool"
    assert (refused.content, refused.refusal, refused.learned) == ("I can't.", True, True)
    assert row.tools == (TOOL,)
    assert row.parallel_tool_calls is True
    assert {what for what, _ in dataset.translated} == {
        "`functions` are read as tools",
        "messages of the role `developer` are read as `system`",
        "messages of the role `function` are read as `tool`",
        "function calls are read as tool calls, with ids of their own",
        "the text parts of a message are joined",
        "`parallel_tool_calls` is kept, and no chat template knows it",
    }
    assert dataset.unused_columns == ("messages[].reasoning_content",)


def test_only_the_completion_of_a_prompt_is_learned(read: Any) -> None:
    """As in TRL: answers in a prompt of messages are read, and not trained on."""
    row = read({"prompt": [USER, BAD, USER], "completion": [GOOD]}).rows[0]
    assert [message.learned for message in row.messages] == [False, False, False, True]


def test_sharegpt_calls_become_tool_calls(read: Any) -> None:
    """function_call and observation, and tools as the JSON text that tables hold."""
    row = read(
        {
            "conversations": [
                {"from": "human", "value": "1 + 1?"},
                {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1}}'},
                {"from": "observation", "value": "2"},
                {"from": "gpt", "value": "Two.", "weight": 1},
            ],
            "tools": json.dumps([TOOL]),
        }
    ).rows[0]
    assert row.messages[1].tool_calls[0]["function"] == {"name": "add", "arguments": {"a": 1}}
    assert row.messages[2].tool_call_id == row.messages[1].tool_calls[0]["id"]
    assert row.tools == (TOOL,)


def test_results_belong_to_the_calls_in_their_order(read: Any) -> None:
    """Of two calls at once, in one turn or in two, the first result answers the first."""
    call = {"name": "add", "arguments": {}}
    asks = {"from": "human", "value": "And?"}
    says = {"from": "GPT", "value": "Two."}
    results = [{"from": "observation", "value": text} for text in "12"]
    together = [{"from": "function_call", "value": json.dumps([call, call])}]
    apart = [{"from": "function_call", "value": json.dumps(call)}] * 2
    for calls in (together, apart):
        turns = [asks, *apart[:1], says, asks, *calls, *results, says]
        row = read({"conversations": turns}).rows[0]
        made = [one["id"] for message in row.messages for one in message.tool_calls]
        assert [m.tool_call_id for m in row.messages if m.role == "tool"] == made[1:]


def test_bare_functions_are_tools(read: Any) -> None:
    """LLaMA-Factory's `tools` hold functions alone; a template is to show them as when served."""
    chat = {"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "!"}]}
    dataset = read({**chat, "tools": json.dumps([TOOL["function"]])})
    assert dataset.rows[0].tools == (TOOL,)
    assert dataset.translated == (("`functions` are read as tools", 1),)


def test_a_label_that_is_left_out_makes_no_chats_of_the_rest(read: Any) -> None:
    """One null among labels of 0 and 1 is refused; bad answers are not learned for it."""
    rows = [{"prompt": "a", "completion": "b", "label": label} for label in (1, 0, None)]
    with pytest.raises(InvalidData, match="`label` must be true or false, found null"):
        read(*rows)


def test_nothing_as_pandas_writes_it(read: Any) -> None:
    """NaN in a place that may be empty is empty, and elsewhere is called what it is."""
    assert said(read({"instruction": "a", "input": float("nan"), "output": "b"}).rows[0]) == [
        ("user", "a"), ("assistant", "b"),
    ]  # fmt: skip
    with pytest.raises(InvalidData, match="`output` must be text, found NaN"):
        read({"instruction": "a", "output": float("nan")})


FAULTS = [
    ({"messages": [USER, {**GOOD, "weight": 2}]}, "`messages[1].weight` must be 0 or 1, found 2"),
    ({"messages": [USER, {**GOOD, "weight": 0}]}, "nothing of it is trained on"),
    ({"messages": [{**USER, "weight": 1}, GOOD]}, "only assistants' messages"),
    ({"messages": [USER, {**GOOD, "refusal": "No."}]}, "both content and a refusal"),
    ({"messages": [USER, {**GOOD, "tool_calls": "x"}]}, "`messages[1].tool_calls` must be a list"),
    ({"messages": [USER, GOOD], "tools": "x"}, "`tools` must be a list of objects, found text"),
    ({"messages": [USER, GOOD], "functions": [1]}, "`functions` must be a list of objects"),
    ({"messages": [USER, GOOD], "parallel_tool_calls": "no"}, "must be true or false, found text"),
    ({"prompt": "a", "chosen": "b", "rejected": "b"}, "the same"),
    ({"prompt": "a", "chosen": "b", "rejected": ""}, "`rejected` has no answer: it is empty"),
    ({"prompt": "a", "chosen": "", "rejected": "b"}, "no answer: it is empty"),
    ({"prompt": "a", "chosen": [USER, GOOD], "rejected": [USER, BAD]}, "begin with the prompt"),
    ({"chosen": "Blue.", "rejected": "Green."}, "do not begin with one"),
    ({"chosen": [GOOD], "rejected": [BAD]}, "do not begin with one"),
    ({"chosen": [USER, GOOD], "rejected": [USER, GOOD]}, "the same"),
    ({"prompt": "a", "chosen": [{**GOOD, "weight": 0}], "rejected": [BAD]}, "can't have weight 0"),
    ({"input": "Sky?", "preferred_output": [GOOD], "non_preferred_output": [BAD]},
     "`input` must be an object with messages, found text"),
    ({"input": {"messages": []}, "preferred_output": [GOOD], "non_preferred_output": [BAD]},
     "the pair has no prompt"),
    ({"conversations": [{"from": "function_call", "value": "add"}, {"from": "gpt", "value": "a"}]},
     "must hold a function call with name and arguments"),
]  # fmt: skip


@pytest.mark.parametrize(("record", "reason"), FAULTS)
def test_faults_of_a_shape_are_named(read: Any, record: Json, reason: str) -> None:
    """With the field, in the row that has it."""
    with pytest.raises(InvalidData) as refusal:
        read(record)
    assert reason in refusal.value.message
    assert (refusal.value.where or "").endswith("a.jsonl, row 1")


def test_a_label_that_is_none_is_refused(read: Any) -> None:
    """Once a file has labels, every row must have one."""
    first = {"prompt": "a", "completion": "b", "label": True}
    with pytest.raises(InvalidData, match="`label` must be true or false, found text") as refusal:
        read(first, {**first, "label": "maybe"})
    assert (refusal.value.where or "").endswith("row 2")
