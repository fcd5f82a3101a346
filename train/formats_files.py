"""From a file to numbered records: JSONL, JSON or CSV, told by its name or first character.

A record is still in its own shape (`train.formats_shapes` reads that). Every refusal names the file
and, where there is one, the line.

Absent on purpose: Parquet, compression, stdin, pipes and names on the Hugging Face Hub.
"""

import csv
import io
import json
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hub.errors import InvalidData

_READABLE = "Give a file in UTF-8: JSONL (one object a line), JSON (a list of objects) or CSV."
_DEEPEST = 100  # levels of lists and objects in a row; far more than any, far less than Python's


def records_of(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The records of one file with their numbers: lines for JSONL and CSV, places for JSON.

    Raises:
        InvalidData: when the file is missing, a folder, empty, not text, or malformed.
    """
    text = _text(path)
    match path.suffix.lower():
        case ".csv":
            records = list(_csv(path, text))
        case ".jsonl" | ".ndjson":
            records = list(_jsonl(path, text))
        case ".json":
            records = _json(path, text)
        case _:
            records = _sniffed(path, text)
    if not records:
        raise InvalidData("there are no rows in the file", where=str(path), hint=_READABLE)
    return records


def _text(path: Path) -> str:
    raw = _bytes(path)
    if raw[:4] == b"PAR1":
        raise InvalidData("Parquet is not read yet", where=str(path), hint=_READABLE)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InvalidData(
            f"not UTF-8 text (byte {error.start + 1})", where=f"{path}, line {line}", hint=_READABLE
        ) from error
    if not text.strip():
        raise InvalidData("the file is empty", where=str(path), hint=_READABLE)
    return text


def _bytes(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise InvalidData("this is a folder, not a file", where=str(path), hint=_READABLE)
        if not stat.S_ISREG(mode):  # it may have no end
            raise InvalidData("this is a device or a pipe", where=str(path), hint=_READABLE)
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InvalidData("no such file", where=str(path), hint=_READABLE) from error
    except OSError as error:
        raise InvalidData(f"can't be read: {error.strerror}", where=str(path)) from error


def _sniffed(path: Path, text: str) -> list[tuple[int, dict[str, Any]]]:
    match text.lstrip()[0]:
        case "[":
            return _json(path, text)
        case "{":
            return list(_jsonl(path, text))
    raise InvalidData(
        f"'{path.suffix or path.name}' is not a kind of file that can be trained on",
        where=str(path),
        hint=_READABLE,
    )


def _jsonl(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    # Not splitlines(): it also splits at U+2028 and others, which JSON texts may hold unescaped.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise InvalidData(
                f"not valid JSON: {_reason(error)}",
                where=f"{path}, line {number}",
                hint="Each line must be one whole JSON object.",
            ) from error
        except RecursionError as error:
            raise InvalidData("nested too deeply", where=f"{path}, line {number}") from error
        yield number, _object(value, f"{path}, line {number}")


def _json(path: Path, text: str) -> list[tuple[int, dict[str, Any]]]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        # JSONL under the name of JSON: common enough to be read as it is meant.
        if error.msg == "Extra data" and text.lstrip().startswith("{"):
            return list(_jsonl(path, text))
        raise InvalidData(
            f"not valid JSON: {error.msg} (column {error.colno})",
            where=f"{path}, line {error.lineno}",
            hint="The file must be one JSON list of objects.",
        ) from error
    except ValueError as error:
        raise InvalidData(
            f"not valid JSON: {_reason(error)}", where=f"{path}, line {_line_of_digits(text)}"
        ) from error
    except RecursionError as error:
        raise InvalidData("nested too deeply", where=str(path), hint=_READABLE) from error
    items = value if isinstance(value, list) else [value]
    return [
        (number, _object(item, f"{path}, row {number}"))
        for number, item in enumerate(items, start=1)
    ]


def _csv(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    before = 1
    try:
        header = reader.fieldnames or []
        if len(set(header)) < len(header):
            raise InvalidData("a column name occurs twice", where=f"{path}, line 1")
        before = reader.line_num
        for record in reader:
            # A record may span lines; it is known by the first of them.
            number, before = before + 1, reader.line_num
            if None in record or None in record.values():
                raise InvalidData(
                    f"this row does not have the header's {len(header)} fields",
                    where=f"{path}, line {number}",
                    hint="Quote fields that hold commas or line breaks.",
                )
            yield number, record
    except csv.Error as error:
        where = f"{path}, line {before + 1}"
        if "field limit" in str(error):
            raise InvalidData(
                f"a field is longer than {csv.field_size_limit():,} characters",
                where=where,
                hint="A quote may not be closed; where the field is meant so, use JSONL.",
            ) from error
        raise InvalidData(
            f"not valid CSV: {error}",
            where=where,
            hint="Quote fields that hold commas, quotes or line breaks, or use JSONL.",
        ) from error


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidData(
            f"a row must be a JSON object, this one is {kind(value)}", where=where, hint=_READABLE
        )
    if fault := _fault(value):
        raise InvalidData(fault, where=where)
    return value


def _fault(value: object, depth: int = 0) -> str | None:
    """Why a value can't be worked on although it is JSON."""
    if depth > _DEEPEST:
        return "nested too deeply"
    match value:
        case str():
            if value.isascii() or _is_unicode(value):
                return None
            return "the text holds half a character (a lone surrogate, such as \\ud800)"
        case list():
            parts = value
        case dict():
            parts = [*value, *value.values()]
        case _:
            return None
    return next((fault for part in parts if (fault := _fault(part, depth + 1))), None)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def kind(value: object) -> str:
    """What a JSON value is, in words."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
    return "an object"


def _reason(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} (column {error.colno})"
    return f"a number has more than {sys.get_int_max_str_digits():,} digits"


def _line_of_digits(text: str) -> int:
    """The line of the first number that is too long; JSON's own error does not say."""
    found = re.search(rf"\d{{{sys.get_int_max_str_digits() + 1}}}", text)
    return text.count("\n", 0, found.start()) + 1 if found else 1
