"""Records to a file: JSONL, JSON, CSV, TSV or Parquet, by its ending, each also with `.gz`.

A file appears whole or not at all. In tables (CSV, TSV) what is not text is JSON in its cell, and
in Parquet tools are, because they have no columns in common; `train.data.formats_files` reads all
of it back as it was.
"""

import csv
import gzip
import io
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from hub.errors import InvalidData, MissingExtra, UsageError
from train.data.formats_files import kind_of

Record = dict[str, Any]
_ENDINGS = "It may end in .jsonl, .json, .csv, .tsv or .parquet, and .gz after that."


def write_records(path: Path, records: Sequence[Record], *, force: bool = False) -> None:
    """Write the records to a new file.

    Raises:
        UsageError: when the ending says no kind of file.
        InvalidData: when the file exists and `force` is not set, can't be written, or is of a kind
            that can't hold the records.
        MissingExtra: when it is Parquet and pyarrow is not installed.
    """
    kind = kind_of(path)
    if kind is None:
        raise UsageError(f"'{path.name}' does not say what to write", hint=_ENDINGS)
    if path.exists() and not force:
        raise InvalidData("the file exists", where=str(path), hint="--force writes over it.")
    try:
        with _whole(path) as stream:
            if kind == "parquet":
                _parquet(path, stream, records)
            elif kind in ("csv", "tsv"):
                _table(path, stream, records, "," if kind == "csv" else "\t")
            else:
                for line in _json_lines(records, as_list=kind == "json"):
                    stream.write(line.encode())
    except OSError as error:
        raise InvalidData(
            f"can't be written: {error.strerror or error}", where=str(path)
        ) from error


def line_of(record: Record) -> str:
    """A record as a line of JSONL, without its end."""
    return json.dumps(record, ensure_ascii=False, default=str)


def _json_lines(records: Sequence[Record], *, as_list: bool) -> Iterator[str]:
    last = len(records) - 1
    if as_list:
        yield "[\n"
    for at, record in enumerate(records):
        yield f"{line_of(record)}{',' if as_list and at < last else ''}\n"
    if as_list:
        yield "]\n"


@contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    scratch = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with scratch.open("wb") as plain:
            if path.suffix.lower() == ".gz":
                # No time and no name in it: the same records are the same bytes.
                with gzip.GzipFile("", "wb", fileobj=plain, mtime=0) as packed:
                    yield packed  # type: ignore[misc]
            else:
                yield plain
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _table(path: Path, stream: BinaryIO, records: Sequence[Record], delimiter: str) -> None:
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
    try:
        columns = _columns(records)
        # CRLF as RFC 4180 has it; then a carriage return in a cell is quoted, too.
        writer = csv.writer(text, delimiter=delimiter, lineterminator="\r\n")
        writer.writerow(columns)
        for number, record in enumerate(records, start=1):
            cells = [_cell(record.get(name)) for name in columns]
            _refuse_unwritable(path, number, cells)
            writer.writerow(cells)
    finally:
        text.detach()


def _refuse_unwritable(path: Path, number: int, cells: Sequence[str]) -> None:
    limit = csv.field_size_limit()
    if any("\0" in cell for cell in cells):
        reason = "holds a NUL character"
    elif any(len(cell) > limit for cell in cells):
        reason = f"is longer than {limit:,} characters"
    else:
        return
    raise InvalidData(
        f"a field {reason}, which a table can't hold",
        where=f"{path}, record {number}",
        hint="Write JSONL.",
    )


def _columns(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(name for record in records for name in record))


def _cell(value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False, default=str)


def _parquet(path: Path, stream: BinaryIO, records: Sequence[Record]) -> None:
    try:
        import pyarrow  # type: ignore[import-untyped]
        from pyarrow.parquet import write_table  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtra(
            "writing Parquet needs pyarrow, which the core leaves out",
            hint="Install it: pip install 'lora-loom[train]', or write .jsonl.",
        ) from error
    columns = _columns(records)
    usual = all(_is_usual(call) for call in _calls(records))
    filled = [
        {name: _columnar(name, record.get(name), usual) for name in columns} for record in records
    ]
    try:
        write_table(pyarrow.Table.from_pylist(filled), stream)
    except pyarrow.ArrowException as error:
        raise InvalidData(
            f"Parquet can't hold these records: {str(error).splitlines()[0]}",
            where=str(path),
            hint="A column must be of one type in all rows. Write JSONL.",
        ) from error


def _columnar(name: str, value: Any, usual_calls: bool) -> Any:
    """A value with what differs from row to row as JSON text."""
    as_text = ("tools", "functions", "arguments", *(() if usual_calls else ("tool_calls",)))
    if name in as_text and value is not None:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        return {key: _columnar(key, part, usual_calls) for key, part in value.items()}
    if isinstance(value, list):
        return [_columnar("", part, usual_calls) for part in value]
    return value


def _calls(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for name, part in value.items():
            if name == "tool_calls" and isinstance(part, list):
                yield from part
            else:
                yield from _calls(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _calls(part)


def _is_usual(call: Any) -> bool:
    """Of OpenAI's own columns only, which a struct can have."""
    return (
        isinstance(call, dict)
        and call.keys() == {"id", "type", "function"}
        and isinstance(call["function"], dict)
        and call["function"].keys() == {"name", "arguments"}
    )
