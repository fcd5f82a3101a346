"""Read sources in any accepted format into one data set of canonical rows.

The format is detected, source by source, and every row of one must have the same; sources of
different formats go together as long as they are of one kind (`train.data.rows`). A fault in a row
is reported with its file and number; where several rows are faulty the first is explained and the
others are listed, so that one round of mending is enough.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from hub.errors import InvalidData
from hub.manifest import canonical_json
from train.data.formats_chat import Conversation, RowFault
from train.data.formats_files import records_of, source_name, stem_of
from train.data.formats_map import Columns, refuse_unknown, renamed, suggestion
from train.data.formats_shapes import KIND_WORDS, Shape, check, shape_of, shape_of_all
from train.data.formats_text import Numbered
from train.data.rows import DataSet, Kind, Message, Row, listed

__all__ = ["DataSet", "Message", "Row", "read_dataset", "require_kind"]


@dataclass(frozen=True)
class Read:
    """One source, read: its rows with the records that they were made from."""

    shape: Shape
    rows: list[Row]
    records: list[Numbered]
    unused: dict[str, None]
    translated: Counter[str]


def read_dataset(
    sources: Sequence[Path | str],
    *,
    name: str | None = None,
    columns: Columns | None = None,
    stdin: IO[bytes] | None = None,
) -> DataSet:
    """All rows of the sources (`train.data.formats_files` lists what one may be), in order.

    The name is the first source's unless given. `columns` says which column holds a field, where
    it has another name. `stdin` is what the source `-` reads.

    Raises:
        InvalidData: with file, row and reason, when a source or a row cannot be used, or when the
            sources are of different kinds.
        MissingExtra: when a source needs a library that is not installed.
    """
    if not sources:
        raise InvalidData("no data file was given", hint="Name one with --data FILE.")
    read = [read_source(source, columns or {}, stdin) for source in sources]
    _refuse_mixed_kinds(read)
    translated = sum((one.translated for one in read), Counter[str]())
    return DataSet(
        name=name or stem_of(sources[0]),
        source=", ".join(source_name(source) for source in sources),
        format="+".join(dict.fromkeys(one.shape.name for one in read)),
        rows=tuple(row for one in read for row in one.rows),
        unused_columns=tuple(dict.fromkeys(column for one in read for column in one.unused)),
        translated=tuple(translated.items()),
    )


def require_kind(dataset: DataSet, kind: Kind, doing: str) -> None:
    """Refuse what a command can't work on: `doing` says what needs the kind, such as a method.

    Raises:
        InvalidData: saying what the rows are and what is needed.
    """
    if dataset.kind != kind:
        raise InvalidData(
            f"these are {KIND_WORDS[dataset.kind]}, and {doing} needs {KIND_WORDS[kind]}",
            where=dataset.source,
            hint="`hub data convert` turns one kind into another where that can be done.",
        )


def read_source(source: Path | str, columns: Columns, stdin: IO[bytes] | None = None) -> Read:
    """One source, with its records kept beside the rows; raises as `read_dataset` does."""
    file = source_name(source)
    records = records_of(source, stdin)
    number, first = records[0]
    named = records
    if columns:
        refuse_unknown(first, columns, file)
        named = [(number, renamed(record, columns)) for number, record in records]
    try:
        shape = shape_of_all([record for _, record in named])
    except RowFault as fault:
        hint = suggestion(named[0][1])
        raise InvalidData(str(fault), where=f"{file}, row {number}", hint=hint) from fault
    read = Read(shape, [], records, {}, Counter())
    _refuse_mixed_shapes(file, named, shape)
    faults: list[tuple[int, str]] = []
    for number, record in named:
        try:
            read.unused.update(dict.fromkeys(sorted(record.keys() - shape.columns)))
            read.rows.append(row_of(file, number, record, shape, read))
        except RowFault as fault:
            faults.append((number, str(fault)))
    if faults:
        raise _refusal(file, faults)
    return read


def _refuse_mixed_shapes(file: str, records: Sequence[Numbered], shape: Shape) -> None:
    others: dict[str, list[int]] = {}
    for number, record in records:
        if record.keys() <= shape.columns and shape.required <= record.keys():
            continue
        try:
            found = shape_of(record).name
        except RowFault as fault:
            raise InvalidData(str(fault), where=f"{file}, row {number}") from fault
        if found != shape.name and not (shape.kind == "labelled" and "label" in record):
            others.setdefault(found, []).append(number)
    if not others:
        return
    name, numbers = next(iter(others.items()))
    which = "; ".join(f"'{other}': {listed(rows)}" for other, rows in others.items())
    raise InvalidData(
        f"the file began in the shape '{shape.name}' and this row is '{name}'",
        where=f"{file}, row {numbers[0]}",
        hint=f"Put them into files of their own. Rows that are not '{shape.name}': {which}.",
    )


def row_of(
    file: str, number: int, record: dict[str, Any], shape: Shape, read: Read | None = None
) -> Row:
    """A record of a known shape as a row; what was translated or not read goes into `read`.

    Raises:
        RowFault: when it is not a good row.
    """
    reader = Conversation()
    draft = shape.read(record, reader)
    check(draft)
    row = Row(
        number,
        file,
        tuple(draft.messages),
        draft.tools,
        tuple(draft.rejected),
        draft.label,
        draft.answer_at,
        draft.parallel_tool_calls,
    )
    if row.tools or any(message.tool_calls for message in (*row.messages, *row.rejected)):
        try:
            canonical_json(row.to_json())
        except (ValueError, TypeError) as error:  # Python reads them, JSON does not have them
            raise RowFault(
                "its tools hold what JSON does not have, such as NaN or Infinity"
            ) from error
    if read is not None:
        read.translated.update(reader.translated)
        read.unused.update(dict.fromkeys(sorted(reader.unused)))
    return row


def _refuse_mixed_kinds(read: Sequence[Read]) -> None:
    kinds: dict[Kind, str] = {}
    for one in read:
        kinds.setdefault(one.shape.kind, one.rows[0].file)
    if len(kinds) > 1:
        which = "; ".join(f"{file} holds {KIND_WORDS[kind]}" for kind, file in kinds.items())
        raise InvalidData(
            f"one data set has one kind of rows: {which}",
            hint="Train on them one after the other, or `hub data convert` one of them.",
        )


def _refusal(file: str, faults: list[tuple[int, str]]) -> InvalidData:
    number, reason = faults[0]
    hint = None
    if len(faults) > 1:
        others = listed([row for row, _ in faults[1:]])
        hint = f"{len(faults)} rows of this file can't be used; the others are {others}."
    return InvalidData(reason, where=f"{file}, row {number}", hint=hint)
