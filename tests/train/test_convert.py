"""Converting loses nothing that the target can hold, and names with its rows what it does lose."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hub.errors import InvalidData, MissingExtra, UsageError
from train.data.convert import Converted, convert
from train.data.convert_targets import TARGETS, with_arguments
from train.data.formats import read_dataset
from train.data.formats_write import write_records
from train.data.rows import DataSet, Message, Row

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
SAID = TEXT.filter(str.strip)
NAME = st.none() | SAID
JSON = st.dictionaries(SAID, st.integers() | TEXT | st.lists(TEXT, max_size=2), max_size=2)
CALL = st.fixed_dictionaries(
    {
        "id": SAID,
        "type": st.just("function"),
        "function": st.fixed_dictionaries({"name": SAID, "arguments": JSON}),
    }
)
TOOLS = st.lists(
    st.fixed_dictionaries({"type": st.just("function"), "function": JSON}), max_size=2
).map(tuple)
USER = st.builds(Message, st.just("user"), TEXT, NAME)
ANSWER = st.builds(
    Message, st.just("assistant"), SAID, NAME, weight=st.sampled_from([None, None, 0, 1])
)
CALLED = st.builds(
    Message,
    st.just("assistant"),
    TEXT,
    tool_calls=st.lists(CALL, min_size=1, max_size=2).map(tuple),
)
RESULT = st.builds(Message, st.just("tool"), TEXT, tool_call_id=SAID)
LAST = st.builds(Message, st.just("assistant"), SAID, refusal=st.booleans())
TURN = st.one_of(
    st.tuples(USER, ANSWER), st.tuples(USER, CALLED, RESULT, ANSWER), st.tuples(USER, USER)
)
SYSTEM = st.lists(st.builds(Message, st.just("system"), TEXT), max_size=1)
PROMPT = st.builds(
    lambda system, turns, last: (*system, *(message for turn in turns for message in turn), last),
    SYSTEM, st.lists(TURN, max_size=2), USER,
)  # fmt: skip
PLAIN_PROMPT = PROMPT.map(lambda asked: tuple(replace(m, weight=None) for m in asked))
COMPLETION = st.one_of(
    LAST.map(lambda last: (last,)), st.tuples(CALLED, RESULT, LAST), CALLED.map(lambda one: (one,))
)
CHATS = st.builds(
    lambda asked, last, tools, parallel: Row(
        1, "a", asked + last, tools, parallel_tool_calls=parallel
    ),
    PROMPT, COMPLETION, TOOLS, st.sampled_from([None, True, False]),
)  # fmt: skip
PAIRS = st.builds(
    lambda asked, good, bad, tools: Row(
        1, "a", asked + good, tools, rejected=bad, answer_at=len(asked)
    ),
    PLAIN_PROMPT, COMPLETION, COMPLETION, TOOLS,
).filter(lambda row: row.completion != row.rejected)  # fmt: skip
LABELLED = st.builds(
    lambda asked, answer, label, tools: Row(
        1, "a", asked + answer, tools, label=label, answer_at=len(asked)
    ),
    PLAIN_PROMPT, COMPLETION, st.booleans(), TOOLS,
)  # fmt: skip
SIMPLE = st.builds(
    lambda question, answer: Row(1, "a", (Message("user", question), Message("assistant", answer))),
    SAID, SAID,
)  # fmt: skip
QUIET = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def dataset(*rows: Row) -> DataSet:
    numbered = tuple(replace(row, number=number) for number, row in enumerate(rows, start=1))
    return DataSet("a", "a", "messages", numbered)


def meaning(row: Row) -> Any:
    """A row without what is spelling only: arguments as text or object, weight 1 or none."""

    def plain(message: Message) -> Any:
        calls = tuple(with_arguments(call) for call in message.tool_calls)
        return replace(message, tool_calls=calls, weight=None if message.learned else 0).to_json()

    return (
        [plain(message) for message in row.messages],
        [plain(message) for message in row.rejected],
        (row.label, row.answer_at, row.tools, row.parallel_tool_calls),
    )


def back(converted: Converted, folder: Path, ending: str) -> DataSet:
    path = folder / f"rows{ending}"
    write_records(path, converted.records, force=True)
    return read_dataset([path])


@QUIET
@given(rows=st.lists(CHATS, min_size=1, max_size=4),
       ending=st.sampled_from([".jsonl", ".parquet", ".csv"]),
       target=st.sampled_from(["messages", "openai"]))  # fmt: skip
def test_chats_survive(tmp_path: Path, target: str, rows: list[Row], ending: str) -> None:
    """Messages hold every conversation: tools, weights, refusals, names and ids."""
    data = dataset(*rows)
    converted = convert(data, target)
    assert converted.losses == ()
    assert [meaning(row) for row in back(converted, tmp_path, ending).rows] == [
        meaning(row) for row in rows
    ]


@QUIET
@given(rows=st.lists(PAIRS, min_size=1, max_size=4),
       ending=st.sampled_from([".jsonl", ".json", ".csv", ".parquet", ".jsonl.gz"]),
       target=st.sampled_from(["dpo", "openai-dpo"]))  # fmt: skip
def test_pairs_survive(tmp_path: Path, target: str, rows: list[Row], ending: str) -> None:
    """TRL's and OpenAI's pairs hold one another, in any file."""
    converted = convert(dataset(*rows), target)
    assert converted.losses == ()
    assert [meaning(row) for row in back(converted, tmp_path, ending).rows] == [
        meaning(row) for row in rows
    ]


@QUIET
@given(rows=st.lists(LABELLED, min_size=1, max_size=4),
       ending=st.sampled_from([".jsonl", ".tsv", ".parquet", ".csv.gz"]))  # fmt: skip
def test_labelled_completions_survive(tmp_path: Path, rows: list[Row], ending: str) -> None:
    """In any file."""
    converted = convert(dataset(*rows), "kto")
    assert converted.losses == ()
    assert [meaning(row) for row in back(converted, tmp_path, ending).rows] == [
        meaning(row) for row in rows
    ]


@QUIET
@given(rows=st.lists(SIMPLE, min_size=1, max_size=4),
       ending=st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".parquet"]),
       target=st.sampled_from(["messages", "openai", "prompt-completion", "alpaca", "sharegpt"]),
       as_text=st.booleans())  # fmt: skip
@example(rows=[Row(1, "a", (Message("user", "\r"), Message("assistant", '"\r\n,')))],
         ending=".csv", target="alpaca", as_text=False)  # fmt: skip
def test_questions_and_answers_survive_in_every_format(
    tmp_path: Path, rows: list[Row], ending: str, target: str, as_text: bool
) -> None:
    """One question and one answer fit everywhere, character by character."""
    converted = convert(dataset(*rows), target, as_text=as_text)
    assert converted.losses == ()
    assert [row.messages for row in back(converted, tmp_path, ending).rows] == [
        row.messages for row in rows
    ]


@QUIET
@given(rows=st.lists(CHATS, min_size=1, max_size=4),
       target=st.sampled_from(["prompt-completion", "alpaca", "sharegpt"]))  # fmt: skip
def test_what_is_not_named_as_lost_came_along(tmp_path: Path, rows: list[Row], target: str) -> None:
    """A row that no loss names reads back with the same meaning; one that is named does not."""
    converted = convert(dataset(*rows), target)
    left_out = {
        row.number
        for loss in converted.losses if loss.what.startswith("row left out")
        for row in loss.rows
    }  # fmt: skip
    named = {row.number for loss in converted.losses for row in loss.rows}
    assert len(converted.records) == len(rows) - len(left_out)
    if not converted.records:
        return
    kept = [number for number in range(1, len(rows) + 1) if number not in left_out]
    for number, row in zip(kept, back(converted, tmp_path, ".jsonl").rows, strict=True):
        same = meaning(row) == meaning(rows[number - 1])
        assert same == (number not in named)


CALL_OF = {"id": "c9", "type": "function", "function": {"name": "add", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "add"}}
ASK, SAY = Message("user", "q", name="Ann"), Message("assistant", "r")
CASES: list[tuple[str, Row, list[str]]] = [
    ("alpaca", Row(1, "a", (ASK, SAY), (TOOL,), parallel_tool_calls=True),
     ["names of speakers", "tools", "parallel_tool_calls"]),
    ("alpaca", Row(1, "a", (Message("user", "q"), replace(SAY, weight=0), ASK, SAY)),
     ["names of speakers", "weight 0, so those answers are learned"]),
    ("alpaca", Row(1, "a", (SAY, Message("user", "q"), SAY)),
     ["row left out: it is not questions and answers in turn"]),
    ("prompt-completion", Row(1, "a", (Message("user", "q"), SAY, Message("user", "q"), SAY)),
     ["earlier answers are no longer learned"]),
    ("sharegpt", Row(1, "a", (Message("user", "q"), replace(SAY, content="", tool_calls=(CALL_OF,)),
                              Message("tool", "2", tool_call_id="c9"),
                              replace(SAY, refusal=True))),
     ["ids of tool calls", "that an answer is a refusal"]),
    ("sharegpt", Row(1, "a", (Message("user", "q"), replace(SAY, tool_calls=(CALL_OF,)))),
     ["row left out: it has tool calls that are not a name and arguments alone"]),
    ("messages", Row(1, "a", (ASK, SAY), rejected=(replace(SAY, content="x"),), answer_at=1),
     ["the rejected answer"]),
    ("kto", Row(1, "a", (ASK, SAY), rejected=(replace(SAY, content="x"),), answer_at=1),
     ["which two answers were compared"]),
    ("messages", Row(1, "a", (ASK, SAY), label=True, answer_at=1), ["the label"]),
    ("openai", Row(1, "a", (ASK, SAY), label=False, answer_at=1),
     ["row left out: its answer is labelled as not good"]),
    ("openai-dpo", Row(1, "a", (ASK, SAY, ASK, SAY), rejected=(SAY, ASK, ASK, SAY), answer_at=1),
     ["row left out: its answers go on over several turns"]),
]  # fmt: skip


@pytest.mark.parametrize(("target", "row", "losses"), CASES)
def test_each_loss_is_named(target: str, row: Row, losses: list[str]) -> None:
    """By what it is, with the row that had it."""
    data = dataset(Row(1, "a", row.messages, rejected=row.rejected, label=row.label,
                       answer_at=row.answer_at), row)  # fmt: skip
    converted = convert(dataset(row), target)
    assert [loss.what for loss in converted.losses] == losses
    assert all(loss.rows[0].number == 1 for loss in converted.losses)
    assert convert(data, target).losses[-1].rows[-1].number == 2


def test_columns_that_were_not_read_are_a_loss() -> None:
    """They are not in the new file, so they are named with all the rows."""
    data = replace(dataset(Row(1, "a", (ASK, SAY))), unused_columns=("id",))
    assert [str(loss) for loss in convert(data, "messages").losses] == ["column `id`: 1 row (1)"]


def test_alpaca_keeps_its_input_apart(tmp_path: Path) -> None:
    """What was an instruction and an input is that again, also behind a history."""
    records: list[dict[str, Any]] = [
        {"instruction": "Add.", "input": "1 2", "output": "3"},
        {"instruction": "Add.\n\n1 2", "input": "", "output": "3"},
        {"instruction": "Add.", "input": "4", "output": "7", "history": [["Hi", "Hello"]]},
    ]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(records))
    assert list(convert(read_dataset([path]), "alpaca").records) == records


def test_one_pair_becomes_two_labelled_rows() -> None:
    """TRL's way from pairs to labels: the preferred one is good, the other is not."""
    pair = Row(1, "a", (Message("user", "q"), SAY), rejected=(replace(SAY, content="x"),),
               answer_at=1)  # fmt: skip
    records = convert(dataset(pair), "kto", as_text=True).records
    assert records == (
        {"prompt": "q", "completion": "r", "label": True},
        {"prompt": "q", "completion": "x", "label": False},
    )


def test_an_answer_that_nobody_judged_is_not_compared() -> None:
    """Chats make no pairs and no labels, and labels make no pairs."""
    chat, label = Row(1, "a", (ASK, SAY)), Row(1, "a", (ASK, SAY), label=True, answer_at=1)
    for row, target in ((chat, "dpo"), (chat, "kto"), (chat, "openai-dpo"), (label, "dpo")):
        with pytest.raises(InvalidData, match=f"can't become '{target}'"):
            convert(dataset(row), target)


def test_every_target_is_one_that_is_read() -> None:
    """The names of targets are the shapes, and OpenAI's."""
    assert set(TARGETS) - {target.shape for target in TARGETS.values()} == {"openai"}


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """Nothing is left of a file that could not be written, and none is written over unasked."""
    path = tmp_path / "a.csv"
    with pytest.raises(InvalidData, match="NUL"):
        write_records(path, [{"prompt": "a"}, {"prompt": "\0"}])
    with pytest.raises(InvalidData, match="longer than"):
        write_records(path, [{"prompt": "a" * 140_000}])
    with pytest.raises(InvalidData, match="Parquet can't hold"):
        write_records(tmp_path / "a.parquet", [{"content": "a"}, {"content": [1]}])
    with pytest.raises(InvalidData, match="can't be written"):
        write_records(tmp_path / "none" / "a.csv", [{"prompt": "a"}])
    with pytest.raises(UsageError, match="does not say what to write"):
        write_records(tmp_path / "a.txt", [{"prompt": "a"}])
    assert list(tmp_path.iterdir()) == []
    write_records(path, [{"prompt": "a"}])
    with pytest.raises(InvalidData, match="the file exists"):
        write_records(path, [{"prompt": "b"}])
    assert path.read_bytes() == b"prompt\r\na\r\n"


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the training extra is not installed, reading and writing name it."""
    path = tmp_path / "a.parquet"
    write_records(path, [{"prompt": "a", "completion": "b"}])
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match="pyarrow"):
        read_dataset([path])
    with pytest.raises(MissingExtra, match="pyarrow"):
        write_records(tmp_path / "b.parquet", [{"prompt": "a"}])
