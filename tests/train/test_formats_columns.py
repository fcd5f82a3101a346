"""Parquet files and data sets of the Hub give the rows that JSONL gives."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hub.errors import InvalidData
from train.data.formats import read_dataset
from train.data.formats_columns import HubName, hub_dataset
from train.data.formats_files import hub_name, kept_name

PLAIN = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]}
CALLS = {
    "messages": [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "r", "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}]},
    ]
}  # fmt: skip


def test_nulls_of_a_struct_are_left_out(tmp_path: Path) -> None:
    """Arrow gives every row every field; the row is as if it had only its own."""
    path, lines = tmp_path / "a.parquet", tmp_path / "a.jsonl"
    pq.write_table(pa.Table.from_pylist([PLAIN, CALLS]), path)
    lines.write_text(json.dumps(PLAIN) + "\n" + json.dumps(CALLS) + "\n")
    dataset = read_dataset([path])
    assert dataset.digest == read_dataset([lines]).digest
    assert [row.number for row in dataset.rows] == [1, 2]


def test_faults_of_parquet_are_named(tmp_path: Path) -> None:
    """A row by its place; no rows; half a file."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"prompt": ["a", "b"], "completion": ["c", None]}), path)
    with pytest.raises(InvalidData, match="no answer") as refusal:
        read_dataset([path])
    assert refusal.value.where == f"{path}, row 2"
    pq.write_table(pa.table({"prompt": [b"\xff"], "completion": ["c"]}), path)
    with pytest.raises(InvalidData, match="`prompt` must be text, found a value of type bytes"):
        read_dataset([path])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InvalidData, match="damaged"):
        read_dataset([path])
    pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), path)
    with pytest.raises(InvalidData, match="no rows"):
        read_dataset([path])


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("hf:acme/tickets", ()),
        ("acme/tickets", ()),
        ("hf:squad", ()),
        ("hf:acme/tickets:test", ("test",)),
        ("hf:acme/tickets:english:test", ("english", "test")),
        ("acme/tickets:train[:10%]", ("train[:10%]",)),
    ],
)
def test_names_of_data_sets(source: str, parts: tuple[str, ...]) -> None:
    """`hf:` marks a name; without it only what no file can be meant by is one."""
    name = HubName.parse(source)
    assert name is not None
    assert name.name == source.removeprefix("hf:").split(":")[0]
    assert name.parts == parts
    assert kept_name(source) == source


def test_what_is_no_name_of_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths stay paths, a misspelt one in a folder that is here too; a bad name says how it is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "rows").write_text("")
    for source in ("rows", "./acme/tickets", "data/tickets", "acme/tickets.jsonl", "-", "/a/b"):
        assert hub_name(source) is None
    assert kept_name("rows") == str(tmp_path / "rows")
    with pytest.raises(InvalidData, match="not the name of a data set") as refusal:
        hub_name("hf:acme tickets")
    assert "hf:OWNER/NAME" in (refusal.value.hint or "")


def test_a_data_set_is_read_by_configuration_and_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`datasets` loads it; here from a folder, which it takes where it takes a name."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "tickets"
    folder.mkdir()
    (folder / "train.jsonl").write_text(json.dumps(PLAIN) + "\n" + json.dumps(CALLS) + "\n")
    (folder / "test.jsonl").write_text(json.dumps(PLAIN) + "\n")

    def read(*parts: str) -> list[int]:
        return [number for number, _ in hub_dataset("x", HubName(str(folder), parts))]

    assert read() == [1, 2]
    assert read("test") == [1]
    assert read("default", "train[:1]") == [1]
    with pytest.raises(InvalidData, match="Unknown split"):
        read("nope")


def test_without_a_way_to_the_hub_the_name_is_refused(tmp_path: Path) -> None:
    """One plain error, with what else the name could have meant."""
    code = (
        "from train.data.formats import read_dataset\n"
        "from hub.errors import InvalidData\n"
        "try: read_dataset(['acme/tickets'])\n"
        "except InvalidData as error: print(error, error.hint)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert "acme/tickets: the data set can't be loaded from the Hugging Face Hub" in done.stdout
    assert "A file of that name is not here either" in done.stdout
