"""From a stream of bytes to numbered records: JSON Lines, a JSON list, or a table (CSV, TSV).

A record is still in its own shape. JSON Lines and tables are read line by line, so that a file of
any size is refused at its first fault and not after it has filled the memory; a JSON list is read
whole and may be a gigabyte. Every refusal names the file and, where there is one, the line.
"""

import csv
import io
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from hub.errors import InvalidData

READABLE = (
    "Give a file in UTF-8: JSONL (one object a line), JSON (a list of objects), CSV or TSV; "
    "or Parquet."
)
LONGEST_LINE = 64 << 20  # bytes; a row of chat is some thousands
LARGEST_JSON = 1 << 30
_DEEPEST = 100  # levels of lists and objects in a row; far more than any, far less than Python's
_BOM = b"\xef\xbb\xbf"
_SEPARATOR = re.compile(r'"?sep=([,;\t|])"?', re.IGNORECASE)
_QUOTED = re.compile(r'"[^"]*"')

Record = dict[str, Any]
Numbered = tuple[int, Record]
Uneven = Callable[[int, str], None]  # a line, and what is wrong with it


class _Repeated(ValueError):
    """An object has one name twice, so one of its values would be lost."""


def jsonl(file: str, stream: io.BufferedIOBase) -> Iterator[Numbered]:
    """One object a line; blank lines are read past, and counted."""
    for number, line in _lines(file, stream):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            value = json.loads(line, object_pairs_hook=_object_of)
        except ValueError as error:
            raise InvalidData(
                f"not valid JSON: {_reason(error)}", where=where, hint=_hint(line, error)
            ) from error
        except RecursionError as error:
            raise InvalidData("nested too deeply", where=where) from error
        yield number, _checked(value, where)


def json_list(file: str, stream: io.BufferedIOBase) -> Iterator[Numbered]:
    """A list of objects, or a single one. JSON Lines under the name of JSON are read as such."""
    text = _text(file, stream)
    try:
        value = json.loads(text, object_pairs_hook=_object_of)
    except json.JSONDecodeError as error:
        # Common enough to be read as it is meant.
        if error.msg == "Extra data" and text.lstrip().startswith("{"):
            yield from jsonl(file, io.BytesIO(text.encode()))
            return
        hint = "The file must be one whole JSON list of objects."
        if error.msg == "Extra data" and '"role"' in text.partition("\n")[0]:
            hint = "If each line is a list of messages: jq -c '{messages: .}' FILE > rows.jsonl"
        raise InvalidData(
            f"not valid JSON: {error.msg} (column {error.colno})",
            where=f"{file}, line {error.lineno}",
            hint=hint,
        ) from error
    except _Repeated as error:
        raise InvalidData(f"not valid JSON: {error}", where=file) from error
    except ValueError as error:
        raise InvalidData(
            f"not valid JSON: {_reason(error)}", where=f"{file}, line {_line_of_digits(text)}"
        ) from error
    except RecursionError as error:
        raise InvalidData("nested too deeply", where=file, hint=READABLE) from error
    items = value if isinstance(value, list) else [value]
    for number, item in enumerate(items, start=1):
        yield number, _checked(item, f"{file}, row {number}")


def table(
    file: str,
    stream: io.BufferedIOBase,
    *,
    delimiter: str | None = None,
    uneven: Uneven | None = None,
) -> Iterator[Numbered]:
    """Rows under a header; lines and records that are all blank are read past, and counted.

    A row with more or fewer fields than the header is told to `uneven`, where there is one.
    """
    lines = _lines(file, stream)
    start: list[str] = []
    for _, line in lines:
        start.append(line)
        if line.strip():
            break
    delimiter = delimiter or delimiter_of("".join(start).strip())
    reader = csv.reader(_again(start, lines), strict=True, delimiter=delimiter)
    before = 0
    header: list[str] = []
    try:
        for cells in reader:
            # A record may span lines; it is known by the first of them.
            number, before = before + 1, reader.line_num
            if is_no_record(cells, header):
                continue
            if not header:
                header = _header(file, number, cells)
                continue
            if len(cells) != len(header):
                fields = f"{len(cells)} field{'' if len(cells) == 1 else 's'}"
                reason = f"this row has {fields}, and the header has {len(header)}"
                if uneven is not None:
                    uneven(number, reason)
                    continue
                raise InvalidData(
                    reason,
                    where=f"{file}, line {number}",
                    hint="Quote fields that hold commas or line breaks.",
                )
            yield number, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise _not_csv(error, f"{file}, line {before + 1}") from error


def delimiter_of(first: str) -> str:
    """By a table's first line: what Excel's `sep=;` says, else the one that it has most of."""
    if said := _SEPARATOR.fullmatch(first):
        return said[1]
    unquoted = _QUOTED.sub("", first)
    return max(",\t;", key=unquoted.count)


def is_no_record(cells: list[str], header: list[str]) -> bool:
    """Blank in every cell, as spreadsheets leave rows, or Excel's line before the header."""
    if not any(cell.strip() for cell in cells):
        return True
    return not header and len(cells) <= 2 and cells[0].lower().startswith("sep=")


def _header(file: str, number: int, cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise InvalidData(f"the column name `{twice}` occurs twice", where=f"{file}, line {number}")
    return names


def _not_csv(error: csv.Error, where: str) -> InvalidData:
    if "field limit" in str(error):
        return InvalidData(
            f"a field is longer than {csv.field_size_limit():,} characters",
            where=where,
            hint="A quote may not be closed; where the field is meant so, use JSONL.",
        )
    if "new-line character" in str(error):
        return InvalidData(
            "a carriage return stands alone, and ends a line or is a field's",
            where=where,
            hint="Quote fields that hold one; if all lines end so: tr '\\r' '\\n' < FILE > NEW.csv",
        )
    return InvalidData(
        f"not valid CSV: {error}",
        where=where,
        hint="Quote fields that hold commas, quotes or line breaks, and double the quotes in "
        "them; or use JSONL.",
    )


def _again(start: list[str], lines: Iterator[tuple[int, str]]) -> Iterator[str]:
    yield from start
    for _, line in lines:
        yield line


def _lines(file: str, stream: io.BufferedIOBase) -> Iterator[tuple[int, str]]:
    # Not splitlines(): it also splits at U+2028 and others, which JSON texts may hold unescaped.
    number = 0
    while raw := stream.readline(LONGEST_LINE + 1):
        number += 1
        if len(raw) > LONGEST_LINE:
            raise InvalidData(
                f"the line is longer than {LONGEST_LINE >> 20} MiB, which no row is",
                where=f"{file}, line {number}",
                hint=READABLE,
            )
        if number == 1:
            raw = raw.removeprefix(_BOM)
        yield number, _decoded(raw, f"{file}, line {number}")


def _text(file: str, stream: io.BufferedIOBase) -> str:
    raw = stream.read(LARGEST_JSON + 1)
    if len(raw) > LARGEST_JSON:
        raise InvalidData(
            "a JSON list of more than 1 GiB is not read",
            where=file,
            hint="Write it as JSONL, one object a line: jq -c '.[]' FILE > rows.jsonl",
        )
    raw = raw.removeprefix(_BOM)
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _not_utf8(error, f"{file}, line {line}") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise _holds_nul(f"{file}, line {line}")
    return text


def _decoded(raw: bytes, where: str) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise _not_utf8(error, where) from error
    if "\0" in text:
        raise _holds_nul(where)
    return text


def _not_utf8(error: UnicodeDecodeError, where: str) -> InvalidData:
    return InvalidData(
        f"not UTF-8 text (byte {error.object[error.start]:#04x})",
        where=where,
        hint="Save it as UTF-8; for text from Windows: "
        "iconv -f WINDOWS-1252 -t UTF-8 FILE > FILE.utf8",
    )


def _holds_nul(where: str) -> InvalidData:
    return InvalidData(
        "the line holds a NUL byte, so this is not text, or was not written to its end",
        where=where,
        hint=READABLE,
    )


def _hint(line: str, error: ValueError) -> str:
    if isinstance(error, _Repeated):
        return "One of its two values would be lost: keep the right one."
    if not line.endswith("\n"):
        return "The last line is cut off, or not JSON: copy or export the file again."
    if line.lstrip().startswith("{'"):
        return "This is how Python prints a dict; json.dumps writes JSON."
    if line.strip() in ("{", "}", "},"):
        return "Each line must be one whole JSON object: jq -c . FILE > rows.jsonl"
    return "Each line must be one whole JSON object."


def _object_of(pairs: list[tuple[str, Any]]) -> Record:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Repeated(f"the name `{twice}` occurs twice in one object")
    return found


def _checked(value: object, where: str) -> Record:
    if not isinstance(value, dict):
        raise InvalidData(
            f"a row must be a JSON object, this one is {kind(value)}", where=where, hint=READABLE
        )
    if fault := fault_of(value):
        raise InvalidData(fault, where=where)
    return value


def fault_of(value: object, depth: int = 0) -> str | None:
    """Why a value can't be worked on although it is JSON."""
    if depth > _DEEPEST:
        return "nested too deeply"
    if isinstance(value, str):
        if value.isascii() or _is_unicode(value):
            return None
        return "the text holds half a character (a lone surrogate, such as \\ud800)"
    if isinstance(value, dict):
        parts: list[object] = [*value, *value.values()]
    elif isinstance(value, list):
        parts = value
    else:
        return None
    for part in parts:
        if fault := fault_of(part, depth + 1):
            return fault
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def kind(value: object) -> str:
    """What a value is, in words."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case float() if math.isnan(value):
            return "NaN"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case dict():
            return "an object"
    return f"a value of type {type(value).__name__}"


def _reason(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} (column {error.colno})"
    if isinstance(error, _Repeated):
        return str(error)
    return f"a number has more than {sys.get_int_max_str_digits():,} digits"


def _line_of_digits(text: str) -> int:
    """The line of the first number that is too long; JSON's own error does not say."""
    found = re.search(rf"\d{{{sys.get_int_max_str_digits() + 1}}}", text)
    return text.count("\n", 0, found.start()) + 1 if found else 1
