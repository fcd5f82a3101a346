"""Read data files in any accepted format into one data set of canonical rows.

The format is detected, file by file, and every row of a file must have the same. A fault in a row
is reported with its file and number; where several rows are faulty the first is explained and the
others are listed, so that one round of mending is enough.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hub.errors import InvalidData
from hub.manifest import canonical_json
from train.formats_files import records_of
from train.formats_shapes import RowFault, Shape, check, shape_of, tools_of
from train.rows import DataSet, Message, Row

__all__ = ["DataSet", "Message", "Row", "read_dataset"]

_LISTED = 5


def read_dataset(paths: Sequence[Path], *, name: str | None = None) -> DataSet:
    """All rows of the files, in order; the name is the first file's unless given.

    Raises:
        InvalidData: with file, row and reason, when a file or a row cannot be used.
    """
    if not paths:
        raise InvalidData("no data file was given", hint="Name one with --data FILE.")
    rows: list[Row] = []
    formats: dict[str, None] = {}
    unused: dict[str, None] = {}
    for path in paths:
        shape, read, extra = _read_file(path)
        rows += read
        formats[shape.name] = None
        unused |= dict.fromkeys(extra)
    return DataSet(
        name=name or paths[0].stem,
        source=", ".join(str(path) for path in paths),
        format="+".join(formats),
        rows=tuple(rows),
        unused_columns=tuple(unused),
    )


def _read_file(path: Path) -> tuple[Shape, list[Row], list[str]]:
    records = records_of(path)
    number, first = records[0]
    try:
        shape = shape_of(first)
    except RowFault as fault:
        raise _refusal(path, [(number, str(fault))]) from fault
    rows: list[Row] = []
    faults: list[tuple[int, str]] = []
    unused: dict[str, None] = {}
    for number, record in records:
        try:
            rows.append(_row(path, number, record, shape))
        except RowFault as fault:
            faults.append((number, str(fault)))
        unused |= dict.fromkeys(set(record) - shape.required - shape.optional)
    if faults:
        raise _refusal(path, faults)
    return shape, rows, sorted(unused)


def _row(path: Path, number: int, record: dict[str, Any], shape: Shape) -> Row:
    if not shape.required <= set(record):
        other = shape_of(record)
        raise RowFault(
            f"the file began in the shape '{shape.name}' and this row is '{other.name}'; "
            "put them into two files"
        )
    tools = tools_of(record) if "tools" in shape.optional else ()
    messages = shape.read(record)
    check(messages)
    row = Row(number, str(path), tuple(messages), tools)
    try:
        canonical_json(row.to_json())
    except ValueError as error:  # Python reads them, JSON does not have them
        raise RowFault("its tools hold NaN or Infinity, which are not JSON") from error
    return row


def _refusal(path: Path, faults: list[tuple[int, str]]) -> InvalidData:
    number, reason = faults[0]
    hint = None
    if len(faults) > 1:
        others = ", ".join(str(row) for row, _ in faults[1 : _LISTED + 1])
        more = f" and {len(faults) - 1 - _LISTED} more" if len(faults) > 1 + _LISTED else ""
        hint = f"{len(faults)} rows of this file can't be used; the others are {others}{more}."
    return InvalidData(reason, where=f"{path}, row {number}", hint=hint)
