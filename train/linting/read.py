"""Read data for the lint: rows that can't be used become findings, and the others are linted.

Training refuses a file with a faulty row (`train.data.formats`). The lint is there to show all that
is wrong, so it reads such a file again, row by row. A source of which no row can be used is refused
as training refuses it, and so is what is wrong with a file as a whole.
"""

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from hub.errors import InvalidData
from train.data.formats import Read, read_dataset, row_of
from train.data.formats_chat import Conversation, RowFault
from train.data.formats_files import json_lines, records_of, source_name, stem_of
from train.data.formats_map import Columns, renamed
from train.data.formats_shapes import Draft, Shape, shape_of, shape_of_all
from train.data.formats_text import LONGEST_LINE, Numbered, jsonl
from train.data.rows import DataSet, Row
from train.linting.findings import Finding


@dataclass(frozen=True)
class Fault:
    """A row that can't be used: where it is, the rule that it breaks, and why in words."""

    file: str
    number: int
    rule: str
    reason: str


def read_for_lint(
    sources: Sequence[Path | str],
    *,
    columns: Columns | None = None,
    stdin: IO[bytes] | None = None,
) -> tuple[DataSet, tuple[Fault, ...]]:
    """The usable rows of the sources, and what is wrong with the others.

    Raises:
        InvalidData: as `train.data.formats.read_dataset`, where no row of a source can be used, or
            the fault is not one of single rows.
    """
    kept = io.BytesIO(stdin.read()) if stdin is not None and "-" in map(str, sources) else None
    try:
        return read_dataset(sources, columns=columns, stdin=kept), ()
    except InvalidData as refusal:
        read = [_read_rows(source, columns or {}, kept) for source in sources]
        faults = tuple(fault for _, faulty in read for fault in faulty)
        sound = [one for one, _ in read if one is not None and one.rows]
        kinds = {one.shape.kind for one in sound}
        if not faults or len(sound) < len(sources) or len(kinds) > 1:
            raise refusal
    dataset = DataSet(
        name=stem_of(sources[0]),
        source=", ".join(source_name(source) for source in sources),
        format="+".join(dict.fromkeys(one.shape.name for one in sound)),
        rows=tuple(row for one in sound for row in one.rows),
        unused_columns=tuple(dict.fromkeys(column for one in sound for column in one.unused)),
    )
    return dataset, faults


def fault_findings(faults: Sequence[Fault]) -> list[Finding]:
    """One finding for each thing that is wrong, with its rows."""
    found: dict[tuple[str, str], list[Row]] = {}
    for fault in faults:
        place = Row(fault.number, fault.file, ())
        found.setdefault((fault.rule, fault.reason), []).append(place)
    return [
        Finding(rule, "error", reason, tuple(places)) for (rule, reason), places in found.items()
    ]


def _read_rows(
    source: Path | str, columns: Columns, stdin: io.BytesIO | None
) -> tuple[Read | None, list[Fault]]:
    """What of a source can be used; None where no row says in which shape it is."""
    file = source_name(source)
    faults: list[Fault] = []
    records = [
        (number, renamed(record, columns))
        for number, record in _records(source, file, stdin, faults)
    ]
    shaped = [record for _, record in records if _has_shape(record)]
    if not shaped:
        return None, faults
    shape = shape_of_all(shaped)
    read = Read(shape, [], records, {}, Counter())
    for number, record in records:
        try:
            read.rows.append(row_of(file, number, record, shape, read))
            read.unused.update(dict.fromkeys(sorted(record.keys() - shape.columns)))
        except KeyError as missing:
            reason = f"the file is '{shape.name}', and this row lacks {missing}"
            faults.append(Fault(file, number, "malformed-row", reason))
        except RowFault as fault:
            faults.append(Fault(file, number, _rule_broken(record, shape), str(fault)))
    return read, sorted(faults, key=lambda fault: fault.number)


def _records(
    source: Path | str, file: str, stdin: io.BytesIO | None, faults: list[Fault]
) -> Iterator[Numbered]:
    """Numbered records; of JSON Lines and tables, those lines that can be read."""
    if stdin is not None:
        stdin.seek(0)
    with json_lines(source, stdin) as stream:
        number = 0
        while stream is not None and (line := stream.readline(LONGEST_LINE + 1)):
            number += 1
            try:
                for _, record in jsonl(file, io.BytesIO(line)):
                    yield number, record
            except InvalidData as error:
                if len(line) > LONGEST_LINE:
                    where = f"{file}, line {number}"
                    raise InvalidData(error.message, where=where, hint=error.hint) from error
                faults.append(Fault(file, number, "malformed-row", error.message))
    if stream is None:
        if stdin is not None:
            stdin.seek(0)
        yield from records_of(
            source,
            stdin,
            lambda number, reason: faults.append(Fault(file, number, "malformed-row", reason)),
        )


def _has_shape(record: dict[str, Any]) -> bool:
    try:
        shape_of(record)
    except RowFault:
        return False
    return True


def _rule_broken(record: dict[str, Any], shape: Shape) -> str:
    """The rule for a row that is read but not good; `malformed-row` for one that can't be read."""
    try:
        draft = shape.read(record, Conversation())
    except RowFault:
        return "malformed-row"
    if not draft.messages or not _ends_with_answer(draft):
        return "no-answer"
    last = draft.messages[-1]
    if not last.content.strip() and not last.tool_calls:
        return "empty-answer"
    if draft.answer_at is None and not any(message.learned for message in draft.messages):
        return "no-trainable-token"
    if draft.rejected and draft.rejected == draft.messages[draft.answer_at :]:
        return "same-pair"
    return "malformed-row"


def _ends_with_answer(draft: Draft) -> bool:
    roles = [message.role for message in draft.messages]
    return roles[-1] == "assistant" and any(role != "assistant" for role in roles)
