"""`--fix`: mends what is safe, once, without touching a byte of what is not at fault."""

import csv
import io
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.errors import InvalidData, UsageError
from tests.train.conftest import chat, chats, dataset
from train.linting.fix import mend, plan_fix, write_fix
from train.linting.lint import lint

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a text to a file, by name."""

    def written(text: str, name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode())
        return path

    return written


def lines(records: list[dict[str, Any]]) -> list[str]:
    return [json.dumps(record) + "\n" for record in records]


def faulty() -> list[str]:
    """60 good rows, and after them a copy, stray spaces, and two labels in another spelling."""
    records = chats(60)
    return [
        *lines(records),
        *lines(records[3:4]),
        *lines([chat("  And the lamp?\r\nIs it new?\n", "[Colour: red] It is a red lamp. ")]),
        *lines([chat("And the tree?", "[Colour: RED] It is a red tree.")]),
        *lines([chat("And the sky?", "[colour: Blue] It is a blue sky.")]),
    ]


def test_each_fault_is_mended_and_nothing_else_changes(write: Write) -> None:
    """The copy is gone, texts and labels are as they should be, and good lines keep their bytes."""
    before = faulty()
    fix = plan_fix([write("".join(before))])
    after = fix.files[0].after.decode().splitlines(keepends=True)
    assert after == [
        *before[:60],
        *lines([chat("And the lamp?\nIs it new?", "[Colour: red] It is a red lamp.")]),
        *lines([chat("And the tree?", "[Colour: red] It is a red tree.")]),
        *lines([chat("And the sky?", "[Colour: blue] It is a blue sky.")]),
    ]
    assert fix.changes == {"exact-duplicate": 1, "stray-whitespace": 1, "label-spelling": 2}
    assert lint(fix.dataset).findings == ()


def test_copies_but_for_spaces_are_copies_once_mended(write: Write) -> None:
    """A row that is another's copy after its spaces are gone is dropped in the same go."""
    records = [*chats(9), chat("Is it red?", "Yes."), chat(" Is it red?", "Yes. ")]
    fix = plan_fix([write("".join(lines(records)))])
    assert fix.files[0].after.decode() == "".join(lines(records[:-1]))


def test_the_diff_is_one_that_patch_applies(write: Write, tmp_path: Path) -> None:
    """`patch` makes the mended file of the old one with the diff that was shown."""
    patch = shutil.which("patch")
    if patch is None:
        pytest.skip("there is no `patch` here")
    for name, text in {
        "whole.jsonl": "".join(faulty()),
        "open.jsonl": "".join(faulty()).rstrip("\n"),
        "list.json": json.dumps([json.loads(line) for line in faulty()], indent=1),
    }.items():
        path = write(text, name)
        fix = plan_fix([path])
        copy = tmp_path / "copy"
        shutil.copy(path, copy)
        subprocess.run(
            [patch, "--quiet", str(copy)], input=fix.diff, text=True, check=True, timeout=20
        )
        assert copy.read_bytes() == fix.files[0].after


@pytest.mark.parametrize(
    "dump",
    [
        {"indent": 2},
        {"separators": (",", ":")},
        {"ensure_ascii": False, "indent": 4},
    ],
)
def test_a_json_list_keeps_its_layout(write: Write, dump: dict[str, Any]) -> None:
    """The mended list is written with the old one's indent, separators and letters."""
    records = [*chats(10), chat("Où?", " Là-bas.")]
    wanted = [*chats(10), chat("Où?", "Là-bas.")]
    fix = plan_fix([write(json.dumps(records, **dump) + "\n", "rows.json")])
    assert fix.files[0].after.decode() == json.dumps(wanted, **dump) + "\n"


def test_a_list_keeps_every_byte_of_the_other_rows(write: Write) -> None:
    """However it is written: numbers that Python has no float for, odd layouts; only texts change,
    and what is left is a list even where its first rows, or all, are gone."""
    good = """{"prompt": "a?", "completion":"b.",  "n": 1.10, "big": 12345678901234567.89}"""
    text = f"""[ {good}  ,
   {{"prompt":"c?  ","completion": "\\u00e4.", "n": 1e400}},\n\n {good},{{"prompt": "d?",
    "completion": "e."}}\n]\n"""
    first, second = write(f"[{good}]", "a.json"), write(text, "b.json")
    after = plan_fix([second]).files[0].after.decode()
    assert after == text.replace("c?  ", "c?").replace(f",\n\n {good}", "")
    both = plan_fix([first, second]).files[1].after.decode()
    assert both == after.replace(f" {good}  ,", "")
    third = write(f"[{good}, {good}]", "c.json")
    assert plan_fix([first, third]).files[1].after == b"[]"


def test_a_table_keeps_its_columns_and_quotes(write: Write) -> None:
    """Other columns, line ends and quoting stay; only the cells at fault differ."""
    rows = [
        [f"Is number {at} red?", "Yes." if at % 2 else "No.", f"note, {at}"] for at in range(12)
    ]
    rows[4][1] = " Yes. "
    rows[7][1] = "yes"
    rows.append(rows[0])
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["prompt", "completion", "note"], *rows])
    text = buffer.getvalue()
    fix = plan_fix([write(text, "rows.csv")])
    after = fix.files[0].after.decode()
    assert after == text.replace(" Yes. ,", "Yes.,").replace(",yes,", ",Yes.,").replace(
        '"note, 0"\r\n', '"note, 0"\r\n', 1
    ).removesuffix('Is number 0 red?,No.,"note, 0"\r\n')


def test_alpaca_and_mapped_columns_are_mended_in_place(write: Write) -> None:
    """Columns keep their own names, and texts that make up one message are each trimmed."""
    records = [
        {"question": f"Is number {at} red? ", "given": f" {at}\n", "reply": "Yes. ", "id": " x "}
        for at in range(9)
    ]
    path = write("".join(lines(records)))
    columns = {"instruction": "question", "input": "given", "output": "reply"}
    fix = plan_fix([path], columns=columns)
    after = [json.loads(line) for line in fix.files[0].after.decode().splitlines()]
    assert [one["reply"] for one in after] == ["Yes."] * 9
    assert [one["id"] for one in after] == [" x "] * 9
    assert not plan_fix([write(fix.files[0].after.decode())], columns=columns).changed


def test_alpacas_parts_are_trimmed_before_copies_are_looked_for(write: Write) -> None:
    """Blanks where an instruction and an input meet go, and what is a copy then goes as well."""
    texts = [("Add. ", "1 2"), ("Add.", "1 2"), ("Add.", " "), ("Add.", "")]
    records = [{"instruction": one, "input": two, "output": "3."} for one, two in texts]
    path = write("".join(lines(records)))
    fix = plan_fix([path])
    assert fix.files[0].after.decode() == "".join(lines([records[1], records[2]]))
    path.write_bytes(fix.files[0].after)
    assert not plan_fix([path]).changed


def test_rows_that_cannot_be_read_stay(write: Write) -> None:
    """A broken line is left where it is, byte for byte, while others are mended."""
    table = "prompt,completion\na?,b.\nc,d,e\nf?  ,g.\nh\n"
    fixed = plan_fix([write(table, "rows.csv")])
    assert fixed.files[0].after.decode() == table.replace("f?  ", "f?")
    assert [(fault.number, fault.rule) for fault in fixed.faults] == [
        (3, "malformed-row"), (5, "malformed-row"),
    ]  # fmt: skip
    text = "".join(lines(chats(9))) + '{"messages": [\n' + "".join(lines(chats(1)))
    fix = plan_fix([write(text)])
    assert fix.files[0].after.decode() == "".join(lines(chats(9))) + '{"messages": [\n'
    assert [fault.number for fault in fix.faults] == [10]


def test_the_first_of_equal_rows_stays_also_across_files(write: Write) -> None:
    """A row that a second file repeats is dropped from the second."""
    one, two = (
        write("".join(lines(chats(9))), "a.jsonl"),
        write("".join(lines(chats(12))), "b.jsonl"),
    )
    fix = plan_fix([one, two])
    assert not fix.files[0].changed
    assert fix.files[1].after.decode() == "".join(lines(chats(12)[9:]))


def test_no_majority_leaves_labels_alone() -> None:
    """Where two spellings are as frequent, neither is changed."""
    rows = [(f"Is number {at} red?", ("Yes", "yes", "No", "No")[at % 4]) for at in range(40)]
    assert mend(dataset(*rows)) == []


def test_in_place_keeps_the_old_file(write: Write) -> None:
    """The file is replaced, its mode stays, and what it was is beside it, under a free name."""
    text = "".join(faulty())
    path = write(text)
    path.chmod(0o640)
    fix = plan_fix([path])
    assert write_fix(fix, output=None) == [path]
    assert path.read_bytes() == fix.files[0].after
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.with_name("rows.jsonl.orig").read_text() == text
    path.write_text(text)
    write_fix(plan_fix([path]), output=None)
    assert path.with_name("rows.jsonl.orig.2").read_text() == text
    assert write_fix(plan_fix([path]), output=None) == []
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "rows.jsonl", "rows.jsonl.orig", "rows.jsonl.orig.2",
    ]  # fmt: skip


def test_refusals(write: Write, tmp_path: Path) -> None:
    """Two files into one, a place that is not there, and what is not rewritten are refused."""
    one, two = (
        write("".join(lines(chats(9))), "a.jsonl"),
        write("".join(lines(chats(9))), "b.jsonl"),
    )
    with pytest.raises(UsageError, match="2 files"):
        write_fix(plan_fix([one, two]), output=tmp_path / "out.jsonl")
    with pytest.raises(InvalidData, match="can't be written"):
        write_fix(plan_fix([one]), output=tmp_path / "no" / "out.jsonl")
    packed = tmp_path / "rows.parquet"
    packed.write_bytes(b"PAR1")
    with pytest.raises(InvalidData, match="not rewritten"):
        plan_fix([packed])
    with pytest.raises(InvalidData, match="no such file"):
        plan_fix([tmp_path / "none.jsonl"])
    with pytest.raises(UsageError, match="in place"):
        write_fix(plan_fix(["-"], stdin=io.BytesIO(one.read_bytes())), output=None)


def test_no_row_is_lost_under_a_name_that_is_taken(write: Write, tmp_path: Path) -> None:
    """One file twice, two files into one name, and a file that is there are refused untouched."""
    text = "".join(lines(chats(9)))
    path = write(text)
    for again in (path, path.parent / "." / path.name, path.parent / "link.jsonl"):
        if again.name == "link.jsonl":
            again.symlink_to(path)
        with pytest.raises(UsageError, match="the same file"):
            plan_fix([path, again])
    out, other = tmp_path / "out", tmp_path / "other"
    out.mkdir()
    other.mkdir()
    namesake = other / path.name
    namesake.write_text(text.replace("What", "Why"))
    with pytest.raises(UsageError, match="would both become"):
        write_fix(plan_fix([path, namesake]), output=out)
    assert list(out.iterdir()) == []
    for taken in (namesake, other):
        with pytest.raises(InvalidData, match="exists"):
            write_fix(plan_fix([path]), output=taken)
    assert path.read_text() == text
    assert "Why" in namesake.read_text()


def test_rows_that_differ_in_a_setting_alone_are_no_copies(write: Write) -> None:
    """What may be called in parallel in one row and not in the other is kept in both."""
    records = [chat("Call both.", "Done.") | {"parallel_tool_calls": on} for on in (True, False)]
    assert not plan_fix([write("".join(lines(records)))]).changed


def test_labelled_rows_are_mended_whatever_spells_their_labels(write: Write) -> None:
    """Labels of 0 and 1 say by all rows together what they are; so does the row that is mended."""
    records = [
        {"prompt": f"Is it {at}?{' ' * (at == 3)}", "completion": f"It is {at}.", "label": at % 2}
        for at in range(9)
    ]
    fix = plan_fix([write("".join(lines(records)))])
    records[3]["prompt"] = "Is it 3?"
    assert fix.files[0].after.decode() == "".join(lines(records))


ANSWER = st.sampled_from(
    ["Yes", "yes", "Yes.", " Yes", "No", "NO", "no \n", "Maybe", "[Mood: Good] Fine.",
     "[Mood: good] Fine.", "[mood: Good]  Fine.\r\n"]
)  # fmt: skip
QUESTION = st.sampled_from(["Is it?", " Is it?", "Was it?", "Was it? ", "Will it be?\r\n", "And?"])
SYSTEM = st.sampled_from(["Be brief.", "Be  brief.", "Be brief.\n", "Be kind."])


@given(rows=st.lists(st.tuples(SYSTEM, QUESTION, ANSWER), min_size=1, max_size=30))
@settings(max_examples=80, deadline=None)
def test_mending_twice_is_mending_once(
    rows: list[tuple[str, str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A mended file has nothing left to mend, and no fixable finding but labels without a lead."""
    folder = tmp_path_factory.mktemp("fix")
    path = folder / "rows.jsonl"
    path.write_text("".join(lines([
        {"messages": [{"role": "system", "content": s}, *chat(q, a)["messages"]]}
        for s, q, a in rows
    ])))  # fmt: skip
    fix = plan_fix([path])
    write_fix(fix, output=None)
    again = plan_fix([path])
    assert not again.changed
    assert again.changes == {}
    left = {finding.rule for finding in lint(fix.dataset).findings if finding.fixable}
    assert left == set()
