"""The text of a data file with some of its rows rewritten or dropped, and the diff of the two.

JSON Lines, a JSON list, and tables (CSV, TSV). Rows are found by the numbers that the readers gave
them; a row that is not touched keeps its bytes. A row is touched only if the new one reads back as
what was wanted; otherwise it stays, and is not among `done`. Only where a message is put together
from several texts (Alpaca's instruction and input) each of them is trimmed, so that the blanks
between them go as well.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Any, Literal

from train.data.formats import row_of
from train.data.formats_chat import RowFault
from train.data.formats_files import kind_of
from train.data.formats_map import Columns, renamed
from train.data.formats_shapes import shape_of_kind
from train.data.formats_text import delimiter_of, is_no_record
from train.data.rows import Message, Row
from train.linting.text import trimmed

_BOM = b"\xef\xbb\xbf"
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')
_BLANK = re.compile(r"[\s,]*")
_CONTEXT = 1  # lines around a change; a line is a whole row
Wanted = Mapping[int, Row | None]
Record = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """Lines `start` to before `end` of the old text become `lines` (with their line ends)."""

    start: int
    end: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Edited:
    """A file before and after. `done` holds each row that was changed, or None where it is gone."""

    file: str
    before: bytes
    after: bytes
    changes: tuple[Change, ...]
    done: dict[int, Row | None]

    @property
    def changed(self) -> bool:
        return self.before != self.after

    @property
    def dropped(self) -> int:
        return sum(row is None for row in self.done.values())

    @property
    def rewritten(self) -> int:
        return len(self.done) - self.dropped


def edited(file: str, raw: bytes, wanted: Wanted, columns: Columns) -> Edited:
    """The file with rows by their numbers replaced, or dropped where None is wanted."""
    body = raw.removeprefix(_BOM)
    # Lines that are no text stay what they are.
    text = body.decode(errors="surrogateescape")
    change = _Change(wanted, columns)
    match text.lstrip()[:1]:
        case _ if not wanted:
            changes: list[Change] = []
        case "[":
            changes = _of_json(text, change)
        case "{":
            changes = _of_jsonl(text, change) if _is_lines(text) else _of_json(text, change)
        case _:
            delimiter = "\t" if kind_of(file) == "tsv" else None
            changes = _of_table(text, change, delimiter)
    after = raw[: len(raw) - len(body)] + _applied(text, changes).encode(errors="surrogateescape")
    return Edited(file, raw, after, tuple(changes), change.done)


class _Change:
    """Makes a record anew from the row that is wanted of it, and remembers which it did."""

    def __init__(self, wanted: Wanted, columns: Columns) -> None:
        self.wanted = wanted
        self.columns = columns
        self.done: dict[int, Row | None] = {}

    def drops(self, number: int) -> bool:
        if number in self.wanted and self.wanted[number] is None:
            self.done[number] = None
            return True
        return False

    def record(self, number: int, record: Record) -> Record | None:
        """The new record, or None where it stays as it is."""
        row = self.wanted.get(number)
        if row is None:
            return None
        try:
            shape = shape_of_kind(renamed(record, self.columns), row.kind)
            old = row_of(row.file, number, renamed(record, self.columns), shape)
            mine = {self.columns.get(field, field) for field in shape.columns}
            for rewrite, form in ((_exactly(old, row), _itself), (trimmed, _worded)):
                new = {k: _walk(v, rewrite) if k in mine else v for k, v in record.items()}
                read = row_of(row.file, number, renamed(new, self.columns), shape)
                if new != record and form(read) == form(row):
                    self.done[number] = read
                    return new
        except RowFault:
            return None
        return None


def _exactly(old: Row, new: Row) -> Callable[[str], str]:
    """Puts the new content of each message in the place of the old."""
    pairs = zip((*old.messages, *old.rejected), (*new.messages, *new.rejected), strict=True)
    texts = {before.content: after.content for before, after in pairs if before != after}
    return lambda text: texts.get(text, text)


def _itself(row: Row) -> Row:
    return row


def _worded(row: Row) -> Row:
    """A row without its whitespace, but for that between words."""

    def words(messages: tuple[Message, ...]) -> tuple[Message, ...]:
        return tuple(replace(one, content=" ".join(one.content.split())) for one in messages)

    return replace(row, messages=words(row.messages), rejected=words(row.rejected))


def _walk(value: Any, rewrite: Callable[[str], str]) -> Any:
    match value:
        case str():
            return rewrite(value)
        case list():
            return [_walk(item, rewrite) for item in value]
        case dict():
            return {key: _walk(item, rewrite) for key, item in value.items()}
    return value


# JSON Lines


def _is_lines(text: str) -> bool:
    """Not one JSON object over several lines."""
    try:
        json.loads(text)
    except ValueError:
        return True
    return "\n" not in text.strip()


def _of_jsonl(text: str, change: _Change) -> list[Change]:
    changes: list[Change] = []
    lines = text.split("\n")
    for at, line in enumerate(lines):
        number = at + 1
        if number not in change.wanted:
            continue
        if change.drops(number):
            changes.append(Change(at, at + 1, ()))
            continue
        body = line.rstrip("\r")
        record = json.loads(body)
        new = change.record(number, record)
        if new is not None:
            ending = line[len(body) :] + ("\n" if number < len(lines) else "")
            changes.append(Change(at, at + 1, (_with_strings(body, record, new) + ending,)))
    return changes


def _with_strings(text: str, old: Any, new: Any) -> str:
    """The JSON text of the old value with the new one's texts; all else stays as it is written."""
    parts: list[str] = []
    at = 0
    pairs = zip(_strings(old), _strings(new), strict=True)
    for literal, (before, after) in zip(_STRING.finditer(text), pairs, strict=True):
        if before != after:
            parts += [text[at : literal.start()], json.dumps(after, ensure_ascii=text.isascii())]
            at = literal.end()
    return "".join(parts) + text[at:]


def _strings(value: Any) -> Iterator[str]:
    """All texts of a value, names too, in the order in which they were written."""
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from _strings(item)
        case dict():
            for name, part in value.items():
                yield name
                yield from _strings(part)


# A JSON list


def _of_json(text: str, change: _Change) -> list[Change]:
    head = text[: text.index("[") + 1] if text.lstrip().startswith("[") else ""
    parts: list[str] = []
    before = 0
    for number, (start, end, item) in enumerate(_items(text), start=1):
        gap, before = text[before:start], end
        if change.drops(number):
            continue
        new = change.record(number, item)
        # The gap before the first that is kept may have been one between two.
        parts.append(gap if parts or number == 1 else head + gap.lstrip().removeprefix(","))
        written = text[start:end]
        parts.append(written if new is None else _with_strings(written, item, new))
    if not change.done:
        return []
    return _difference(_lines(text), _lines(("".join(parts) or head) + text[before:]))


def _items(text: str) -> Iterator[tuple[int, int, Any]]:
    """Where each object of a list stands, and what it is; a single object is a list of one."""
    decoder = json.JSONDecoder()
    at = _BLANK.match(text).end()  # type: ignore[union-attr]
    if text[at] == "{":
        item, end = decoder.raw_decode(text, at)
        yield at, end, item
        return
    at = _BLANK.match(text, at + 1).end()  # type: ignore[union-attr]
    while text[at] != "]":
        item, end = decoder.raw_decode(text, at)
        yield at, end, item
        at = _BLANK.match(text, end).end()  # type: ignore[union-attr]


def _difference(before: Sequence[str], after: Sequence[str]) -> list[Change]:
    same = SequenceMatcher(None, before, after)
    return [
        Change(start, end, tuple(after[low:high]))
        for tag, start, end, low, high in same.get_opcodes()
        if tag != "equal"
    ]


# Tables


def _of_table(text: str, change: _Change, delimiter: str | None) -> list[Change]:
    lines = _lines(text)
    first = next((line.strip() for line in lines if line.strip()), "")
    delimiter = delimiter or delimiter_of(first)
    reader = csv.reader(iter(lines), strict=True, delimiter=delimiter)
    header: list[str] = []
    changes: list[Change] = []
    before = 0
    for cells in reader:
        start, before = before, reader.line_num
        if is_no_record(cells, header):
            continue
        if not header:
            header = [cell.strip() for cell in cells]
            continue
        if change.drops(start + 1):
            changes.append(Change(start, before, ()))
            continue
        if start + 1 not in change.wanted:
            continue
        new = change.record(start + 1, dict(zip(header, cells, strict=True)))
        if new is not None:
            text = "".join(lines[start:before])
            written = _row(list(new.values()), cells, text, delimiter)
            changes.append(Change(start, before, tuple(_lines(written))))
    return changes


def _row(new: list[str], old: list[str], text: str, delimiter: str) -> str:
    """A record written as the old one was: its quotes, its line end."""
    ending = "\r\n" if text.endswith("\r\n") else "\n" if text.endswith("\n") else ""
    styles: tuple[Literal[0, 1], ...] = (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)

    def written(cells: list[str], quoting: Literal[0, 1]) -> str:
        buffer = io.StringIO()
        csv.writer(buffer, delimiter=delimiter, lineterminator=ending, quoting=quoting).writerow(
            cells
        )
        return buffer.getvalue()

    style = next((one for one in styles if written(old, one) == text), styles[0])
    return written(new, style)


def _lines(text: str) -> list[str]:
    """Lines with their ends; not splitlines(), which also splits at U+2028 and others."""
    parts = text.split("\n")
    return [f"{part}\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


# What comes out


def _applied(text: str, changes: Sequence[Change]) -> str:
    lines = _lines(text)
    after: list[str] = []
    at = 0
    for change in changes:
        after += lines[at : change.start]
        after += change.lines
        at = change.end
    return "".join(after + lines[at:])


def unified_diff(file: Edited) -> Iterator[str]:
    """The changes as `diff -u` and `patch` have them, with one line around each."""
    lines = _lines(file.before.decode("utf-8-sig", errors="replace"))
    if file.changes:
        yield f"--- {file.file}\n+++ {file.file}\n"
    shift = 0
    for group in _grouped(file.changes):
        start = max(0, group[0].start - _CONTEXT)
        end = min(len(lines), group[-1].end + _CONTEXT)
        body: list[str] = []
        at = start
        for change in group:
            body += [f" {line}" for line in lines[at : change.start]]
            body += [f"-{line}" for line in lines[change.start : change.end]]
            body += [f"+{line}" for line in change.lines]
            at = change.end
        body += [f" {line}" for line in lines[at:end]]
        new = sum(line[0] != "-" for line in body)
        yield f"@@ -{_range(start, end - start)} +{_range(start + shift, new)} @@\n"
        yield from (line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
                    for line in body)  # fmt: skip
        shift += new - (end - start)


def _range(start: int, count: int) -> str:
    return f"{start + 1 if count else start},{count}"


def _grouped(changes: Sequence[Change]) -> Iterator[list[Change]]:
    group: list[Change] = []
    for change in changes:
        if group and change.start - group[-1].end > 2 * _CONTEXT:
            yield group
            group = []
        group.append(change)
    if group:
        yield group
