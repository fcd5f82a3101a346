"""Every accepted format gives the same canonical rows; every bad file gets one clear refusal."""

import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hub.errors import InvalidData, UsageError
from train.data.formats import read_dataset, require_kind
from train.data.formats_map import parse_columns
from train.data.formats_text import LONGEST_LINE
from train.linting.fix import plan_fix

TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
EXPECTED = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]


def lines(*rows: Any) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


MESSAGES = {"messages": EXPECTED}
GOOD = [
    ("a.jsonl", lines(MESSAGES), "messages"),
    ("a.json", json.dumps([MESSAGES]), "messages"),
    ("a.json", json.dumps(MESSAGES), "messages"),
    ("a.json", lines(MESSAGES, MESSAGES), "messages"),
    ("a.txt", lines(MESSAGES), "messages"),
    ("a.jsonl", "\ufeff\n" + lines(MESSAGES), "messages"),
    ("a.jsonl", lines({"instruction": "Hi", "output": "Hello."}), "alpaca"),
    ("a.jsonl", lines({"instruction": "Hi", "input": "", "output": "Hello."}), "alpaca"),
    ("a.jsonl", lines({"prompt": "Hi", "completion": "Hello."}), "prompt-completion"),
    ("a.jsonl", lines({"prompt": EXPECTED[:1], "completion": EXPECTED[1:]}), "prompt-completion"),
    ("a.csv", "prompt,completion\nHi,Hello.\n", "prompt-completion"),
    ("a.csv", 'instruction,input,output\n"Hi","",Hello.\n', "alpaca"),
    (
        "a.jsonl",
        lines(
            {
                "conversations": [
                    {"from": "human", "value": "Hi"},
                    {"from": "gpt", "value": "Hello."},
                ]
            }
        ),
        "sharegpt",
    ),
    ("a.jsonl", lines({"conversations": EXPECTED}), "sharegpt"),
    (
        "a.jsonl",
        lines(
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
                    EXPECTED[1],
                ]
            }
        ),
        "messages",
    ),
]


@pytest.mark.parametrize(("name", "text", "format"), GOOD)
def test_formats_become_messages(tmp_path: Path, name: str, text: str, format: str) -> None:
    """Whatever the shape and the file, the row is the same two messages and so has one digest."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    dataset = read_dataset([path])
    assert dataset.format == format
    assert [message.to_json() for message in dataset.rows[0].messages] == EXPECTED


BAD = [
    ("a.jsonl", "", "the file is empty", "a.jsonl"),
    ("a.jsonl", " \n\n", "the file is empty", "a.jsonl"),
    ("a.json", "[]", "no rows", "a.json"),
    ("a.csv", "prompt,completion\n", "no rows", "a.csv"),
    ("a.jsonl", lines(MESSAGES) + "{oops\n", "not valid JSON", "a.jsonl, line 2"),
    ("a.json", '[\n{"messages": ]', "not valid JSON", "a.json, line 2"),
    ("a.jsonl", lines(MESSAGES) + "[1]\n", "this one is a list", "a.jsonl, line 2"),
    ("a.csv", 'prompt,completion\nHi,Hello\n"a', "not valid CSV", "a.csv, line 3"),
    (
        "a.csv",
        "prompt,completion\nHi,Hello\na\n",
        "1 field, and the header has 2",
        "a.csv, line 3",
    ),
    ("a.csv", "prompt,prompt\nHi,Hello\n", "occurs twice", "a.csv, line 1"),
    ("a.txt", "Hello there", "'.txt' is not a kind of file", "a.txt"),
    ("a.csv", "prompt,completion\n\nHi,a,b\n", "has 3 fields", "a.csv, line 3"),
    ("a.parquet", "PAR1xxxx", "damaged", "a.parquet"),
    ("a.parquet", "hello", "not a Parquet file", "a.parquet"),
    ("a.jsonl", '{"prompt": "a", "prompt": "b"}\n', "`prompt` occurs twice", "a.jsonl, line 1"),
    ("a.json", '[{"prompt": "a", "prompt": "b"}]', "`prompt` occurs twice", "a.json"),
    ("a.jsonl", lines(MESSAGES) + '{"prompt": "\0"}\n', "NUL", "a.jsonl, line 2"),
    ("a.json", '[\n"\0"]', "NUL", "a.json, line 2"),
    ("a.csv", "prompt,completion\na,\0\n", "NUL", "a.csv, line 2"),
    ("a.jsonl", lines(MESSAGES) + '{"prompt": "a", "comp', "not valid JSON", "a.jsonl, line 2"),
    ("a.jsonl", lines(MESSAGES, {"text": "Hi"}), "the columns are `text`", "row 2"),
    (
        "a.jsonl",
        lines(MESSAGES, {"prompt": "Hi", "completion": "Hello"}),
        "began in the shape 'messages' and this row is 'prompt-completion'",
        "row 2",
    ),
    ("a.jsonl", lines({"messages": EXPECTED[:1]}), "no answer: its last message is", "row 1"),
    ("a.jsonl", lines({"messages": []}), "the conversation is empty", "row 1"),
    ("a.jsonl", lines({"messages": EXPECTED[1:]}), "nothing that it answers", "row 1"),
    ("a.jsonl", lines({"messages": "Hi"}), "must be a list of messages, found text", "row 1"),
    ("a.jsonl", lines({"messages": ["Hi"]}), "`messages[0]` must be an object", "row 1"),
    (
        "a.jsonl",
        lines({"messages": [{"role": "bot", "content": "Hi"}, EXPECTED[1]]}),
        "`messages[0].role` is 'bot'",
        "row 1",
    ),
    (
        "a.jsonl",
        lines({"messages": [{"role": "user", "content": 5}, EXPECTED[1]]}),
        "`messages[0].content` must be text, found a number",
        "row 1",
    ),
    (
        "a.jsonl",
        lines({"messages": [{"role": "user", "content": [{"type": "image_url"}]}, EXPECTED[1]]}),
        "`messages[0].content[0]` is a part of type 'image_url'",
        "row 1",
    ),
    ("a.jsonl", lines({"prompt": "Hi", "completion": " "}), "no answer: it is empty", "row 1"),
    ("a.jsonl", lines({"prompt": "Hi", "completion": None}), "no answer: it is empty", "row 1"),
    ("a.csv", "prompt,completion\nHi,\n", "no answer: it is empty", "row 2"),
    ("a.jsonl", lines({"instruction": 1, "output": "b"}), "`instruction` must be text", "row 1"),
    ("a.jsonl", lines(MESSAGES) + "[" * 200_000, "nested too deeply", "a.jsonl, line 2"),
    ("a.json", "[" * 200_000, "nested too deeply", "a.json"),
    (
        "a.json",
        json.dumps([MESSAGES, {"tools": [{"x": "y"}]}]).replace('"y"', "[" * 300 + "]" * 300),
        "nested too deeply",
        "a.json, row 2",
    ),
    ("a.jsonl", f'{{"n": {"7" * 6000}}}', "more than 4,300 digits", "a.jsonl, line 1"),
    ("a.json", f'[\n{{"n": {"7" * 6000}}}]', "more than 4,300 digits", "a.json, line 2"),
    (
        "a.jsonl",
        lines(MESSAGES, {"prompt": "\ud800", "completion": "b"}),
        "lone surrogate",
        "a.jsonl, line 2",
    ),
    ("a.json", lines({"\ud800": 1}), "lone surrogate", "a.json, row 1"),
    (
        "a.jsonl",
        lines({**MESSAGES, "tools": [{"least": float("nan")}]}),
        "NaN or Infinity",
        "row 1",
    ),
    (
        "a.csv",
        f"prompt,completion\nHi,Hello\n{'a' * 131_073},b\n",
        "a field is longer than 131,072 characters",
        "a.csv, line 3",
    ),
    (
        "a.jsonl",
        lines({"conversations": [{"from": "alien", "value": "Hi"}]}),
        "`conversations[0].from` is 'alien'",
        "row 1",
    ),
]


@pytest.mark.parametrize(("name", "text", "reason", "where"), BAD)
def test_bad_files_are_refused(
    tmp_path: Path, name: str, text: str, reason: str, where: str
) -> None:
    """Each fault is one InvalidData that says what is wrong and in which file, line or row."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidData) as refusal:
        read_dataset([path])
    assert reason in refusal.value.message
    assert where in (refusal.value.where or "")


def test_missing_file_folder_and_bytes_are_refused(tmp_path: Path) -> None:
    """No such file, a folder and a file that is not text are told apart."""
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes(b'{"prompt": "ok", "completion": "ok"}\n{"prompt": "caf\xe9"}\n')
    for path, reason in (
        (tmp_path / "none.jsonl", "no such file"),
        (tmp_path, "a folder"),
        (latin, "not UTF-8"),
    ):
        with pytest.raises(InvalidData, match=reason):
            read_dataset([path])
    with pytest.raises(InvalidData) as refusal:
        read_dataset([latin])
    assert refusal.value.where == f"{latin}, line 2"


def test_devices_and_pipes_are_refused(tmp_path: Path) -> None:
    """What may have no end, or nobody at the other one, is not even opened."""
    os.mkfifo(tmp_path / "pipe.jsonl")
    for path in (tmp_path / "pipe.jsonl", Path("/dev/zero")):
        with pytest.raises(InvalidData, match="a device or a pipe") as refusal:
            read_dataset([path])
        assert refusal.value.where == str(path)


def test_standard_input_is_any_kind_of_file(tmp_path: Path) -> None:
    """`-` reads JSONL, JSON, CSV and compressed bytes; not where it is read twice."""
    rows = lines(MESSAGES).encode()
    table = b"instruction,output\nHi,Hello.\n"
    for given in (rows, json.dumps([MESSAGES]).encode(), table, gzip.compress(rows)):
        dataset = read_dataset(["-"], stdin=io.BytesIO(given))
        assert [message.to_json() for message in dataset.rows[0].messages] == EXPECTED
        assert (dataset.name, dataset.rows[0].file) == ("stdin", "stdin")
    with pytest.raises(InvalidData, match="standard input") as refusal:
        read_dataset(["-"])
    assert "Save it to a file" in (refusal.value.hint or "")


def test_compressed_files_are_read_and_damaged_ones_refused(tmp_path: Path) -> None:
    """`.jsonl.gz` is read, by its bytes and not its name alone; half of one is refused."""
    whole, half = tmp_path / "a.jsonl.gz", tmp_path / "half.jsonl.gz"
    packed = gzip.compress(lines(*[MESSAGES] * 3).encode())
    whole.write_bytes(packed)
    half.write_bytes(packed[:-12])
    dataset = read_dataset([whole])
    assert (dataset.name, len(dataset)) == ("a", 3)
    with pytest.raises(InvalidData, match="cut off or damaged"):
        read_dataset([half])


def test_other_encodings_and_endless_lines_are_refused(tmp_path: Path) -> None:
    """UTF-16 is known by its mark; a line that is no row's is not read into memory."""
    wide, long = tmp_path / "wide.jsonl", tmp_path / "long.jsonl"
    wide.write_text(lines(MESSAGES), encoding="utf-16")
    with pytest.raises(InvalidData, match="UTF-16") as refusal:
        read_dataset([wide])
    assert "iconv" in (refusal.value.hint or "")
    with long.open("wb") as stream:
        stream.truncate(LONGEST_LINE * 40)  # 2.5 GiB of nothing: a hole, no disk
    with pytest.raises(InvalidData, match="longer than 64 MiB") as refusal:
        read_dataset([long])
    assert refusal.value.where == f"{long}, line 1"


def test_tables_of_other_places_are_read(tmp_path: Path) -> None:
    """A mark at the start, CRLF, semicolons, tabs and blanks in the header are no fault."""
    for name, text in (
        ("a.csv", "\ufeffinstruction, output\r\nHi,Hello.\r\n"),
        ("b.csv", "instruction;output\nHi;Hello.\n"),
        ("c.tsv", "instruction\toutput\nHi\tHello.\n"),
    ):
        path = tmp_path / name
        path.write_bytes(text.encode())
        assert [message.to_json() for message in read_dataset([path]).rows[0].messages] == EXPECTED


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ('\ufeffprompt;completion\r\n"a; b";"1,5"\r\n;\r\n ; \r\n', 2),
        ('sep=;\r\nprompt;completion\r\n"a; b";"1,5"\r\n', 3),
        ("\n\nprompt;completion\na\n", None),
        ('"completion";"of, what, ever";prompt\n1,5;;"a; b"\n', 2),
    ],
)
def test_tables_of_spreadsheets_are_read(tmp_path: Path, text: str, number: int | None) -> None:
    """Semicolons, Excel's `sep=`, blank lines before and blank rows behind, commas in a header."""
    path = tmp_path / "rows.csv"
    path.write_bytes(text.encode())
    if number is None:
        with pytest.raises(InvalidData, match="1 field, and the header has 2") as caught:
            read_dataset([path])
        assert caught.value.where == f"{path}, line 4"
        return
    [row] = read_dataset([path]).rows
    assert (row.number, row.question, row.answer) == (number, "a; b", "1,5")
    fix = plan_fix([path])
    assert not fix.changed
    path.write_bytes(text.replace("1,5", "1,5 ").encode())
    assert plan_fix([path]).files[0].after.decode() == text


def test_unknown_columns_can_be_named(tmp_path: Path) -> None:
    """The refusal says which --map to try; with it the rows are read, and its faults are named."""
    path = tmp_path / "a.csv"
    path.write_text("Question,Answer,id\nHi,Hello.,7\n")
    with pytest.raises(InvalidData) as refusal:
        read_dataset([path])
    assert refusal.value.hint == "Try --map prompt=Question,completion=Answer"
    columns = parse_columns(["instruction=Question,output=Answer"])
    dataset = read_dataset([path], columns=columns)
    assert [message.to_json() for message in dataset.rows[0].messages] == EXPECTED
    assert (dataset.format, dataset.unused_columns) == ("alpaca", ("id",))
    with pytest.raises(InvalidData, match="no column `Ask`; there are `Question`"):
        read_dataset([path], columns={"prompt": "Ask"})
    for bad in ("instruction", "instruction=", "instructoin=Question"):
        with pytest.raises(UsageError):
            parse_columns([bad])


@pytest.mark.parametrize(
    ("record", "hint"),
    [
        ({"query": "a", "reply": "b", "system_prompt": "c"},
         "--map prompt=query,completion=reply,system=system_prompt"),
        ({"question": "a", "chosen": "b", "worse": "c"},
         "--map prompt=question,chosen=chosen,rejected=worse"),
        ({"dialog": EXPECTED}, "--map messages=dialog"),
        ({"dialog": [{"from": "human", "value": "a"}]}, "--map conversations=dialog"),
        ({"data": [MESSAGES]}, "inside of `data`"),
        ({"x": 1}, "--map prompt=COLUMN"),
    ],
)  # fmt: skip
def test_the_map_to_try_is_suggested(tmp_path: Path, record: dict[str, Any], hint: str) -> None:
    """By the names that people give to questions, answers and conversations."""
    path = tmp_path / "a.jsonl"
    path.write_text(lines(record))
    with pytest.raises(InvalidData, match="no known shape") as refusal:
        read_dataset([path])
    assert hint in (refusal.value.hint or "")


def test_mixed_shapes_and_kinds_say_which_rows_are_which(tmp_path: Path) -> None:
    """In one file by row, in several by file: one data set has one kind."""
    pair = {"prompt": "a", "chosen": "b", "rejected": "c"}
    mixed, good, pairs = (tmp_path / name for name in ("mixed.jsonl", "good.jsonl", "pairs.jsonl"))
    mixed.write_text(lines(MESSAGES, pair, MESSAGES, {"prompt": "a", "completion": "b"}, pair))
    with pytest.raises(InvalidData, match="began in the shape 'messages'") as refusal:
        read_dataset([mixed])
    assert refusal.value.where == f"{mixed}, row 2"
    assert "'dpo': 2, 5; 'prompt-completion': 4" in (refusal.value.hint or "")
    good.write_text(lines(MESSAGES))
    pairs.write_text(lines(pair))
    with pytest.raises(InvalidData, match=f"{good} holds conversations.*{pairs} holds preference"):
        read_dataset([good, pairs])
    with pytest.raises(InvalidData, match=r"preference pairs.*needs conversations"):
        require_kind(read_dataset([pairs]), "chat", "the method sft")


def test_a_long_field_of_a_table_is_not_called_unquoted(tmp_path: Path) -> None:
    """The hint for a field over the limit is another format, not quotes around commas."""
    path = tmp_path / "a.csv"
    path.write_text(f'prompt,completion\nHi,"{"a" * 131_073}"\n')
    with pytest.raises(InvalidData) as refusal:
        read_dataset([path])
    assert "use JSONL" in (refusal.value.hint or "")
    assert "commas" not in (refusal.value.hint or "")


def test_all_faulty_rows_are_listed(tmp_path: Path) -> None:
    """One refusal names every faulty row, so that one round of mending is enough."""
    path = tmp_path / "a.jsonl"
    path.write_text(lines(MESSAGES, {"messages": []}, MESSAGES, {"messages": EXPECTED[:1]}))
    with pytest.raises(InvalidData) as refusal:
        read_dataset([path])
    assert refusal.value.where == f"{path}, row 2"
    assert "the others are 4" in (refusal.value.hint or "")


def test_numbers_survive_blank_lines_and_quoted_breaks(tmp_path: Path) -> None:
    """A row's number is the line where an editor finds it."""
    table, text = tmp_path / "a.csv", tmp_path / "a.jsonl"
    table.write_text('prompt,completion\n"two\nlines",b\nc,d\n')
    text.write_text("\n\n" + lines(MESSAGES) + "\n" + lines(MESSAGES))
    assert [row.number for row in read_dataset([table]).rows] == [2, 4]
    assert [row.number for row in read_dataset([text]).rows] == [3, 5]


def test_systems_histories_and_tools_are_kept(tmp_path: Path) -> None:
    """Nothing that belongs to a conversation is lost; other columns are named as unused."""
    alpaca, calls = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    alpaca.write_text(
        lines(
            {
                "system": "Be brief.",
                "history": [["a", "b"]],
                "instruction": "Add",
                "input": "1 2",
                "output": "3",
                "id": 7,
            }
        )
    )
    answer = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    developer = {"role": "developer", "content": "Use tools."}
    calls.write_text(lines({"messages": [developer, EXPECTED[0], answer], "tools": [TOOL]}))
    dataset = read_dataset([alpaca, calls])
    assert dataset.format == "alpaca+messages"
    assert dataset.unused_columns == ("id",)
    first, second = dataset.rows
    assert [message.role for message in first.messages] == [
        "system", "user", "assistant", "user", "assistant",
    ]  # fmt: skip
    assert first.question == "Add\n\n1 2"
    assert second.messages[0].role == "system"
    assert second.to_json()["tools"] == [TOOL]
    assert second.to_json()["messages"][-1]["tool_calls"] == [CALL]


def test_digest_is_of_the_content_alone(tmp_path: Path) -> None:
    """The same rows from another file have the same digest; another word has another."""
    first, second, third = tmp_path / "a.jsonl", tmp_path / "b.json", tmp_path / "c.jsonl"
    first.write_text(lines(MESSAGES))
    second.write_text(json.dumps([MESSAGES]))
    third.write_text(lines({"prompt": "Hi", "completion": "Hello!"}))
    assert read_dataset([first]).digest == read_dataset([second]).digest
    assert read_dataset([first]).digest != read_dataset([third]).digest
    assert read_dataset([first]).name == "a"
    assert read_dataset([first], name="mine").name == "mine"


def test_data_modules_need_no_torch() -> None:
    """Formats, lint, split and config load without the training extra."""
    code = (
        "import sys; import train.data.formats, train.linting.lint, train.data.split;"
        "import train.config, train.run;"
        "import train.data.convert, train.data.formats_write, train.linting.stats;"
        "heavy = {'torch', 'transformers', 'peft', 'trl', 'datasets', 'yaml', 'pyarrow'};"
        "heavy &= set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
