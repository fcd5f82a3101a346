"""Columns under other names (`--map instruction=question`), and which map to try.

A map says for each field of a known shape which column holds it. Columns that are not named keep
their names. Suggestions go by names that people use for the same thing; they are only ever printed.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from hub.errors import InvalidData, UsageError
from train.data.formats_shapes import SHAPES

Columns = Mapping[str, str]

FIELDS = frozenset().union(*(shape.columns for shape in SHAPES))
_MEANT = {
    "prompt": ("question", "query", "q", "ask", "user", "human", "input", "text", "problem",
               "instruction", "source", "request", "context", "ticket", "message", "utterance"),
    "completion": ("answer", "response", "output", "reply", "a", "target", "solution", "assistant",
                   "gpt", "model", "generation", "expected", "label", "category", "intent"),
    "chosen": ("preferred", "better", "winner", "win", "accepted", "positive", "good"),
    "rejected": ("dispreferred", "worse", "loser", "lose", "refused", "negative", "bad"),
    "label": ("kto_tag", "thumb", "thumbs_up", "desirable", "is_good", "feedback", "rating"),
    "system": ("system_prompt", "system_message", "instructions", "persona"),
    "messages": ("conversation", "dialog", "dialogue", "chat", "turns", "chat_history"),
    "conversations": ("conversation", "dialog", "dialogue", "chat", "turns"),
}  # fmt: skip


def parse_columns(texts: Iterable[str]) -> dict[str, str]:
    """`["instruction=question,output=answer"]` as a dict from field to column.

    Raises:
        UsageError: when a part is no FIELD=COLUMN, or the field is one that no shape has.
    """
    columns: dict[str, str] = {}
    for part in (part for text in texts for part in text.split(",") if part.strip()):
        field, equals, column = (piece.strip() for piece in part.partition("="))
        if not equals or not column:
            raise UsageError(
                f"--map takes FIELD=COLUMN, found '{part.strip()}'",
                hint="Such as --map instruction=question,output=answer",
            )
        columns[known_field(field)] = column
    return columns


def known_field(field: str) -> str:
    """The field, if a shape has one of that name; else raises UsageError with the names."""
    if field not in FIELDS:
        raise UsageError(
            f"there is no field '{field}' to map a column to",
            hint=f"The fields are {', '.join(sorted(FIELDS))}.",
        )
    return field


def renamed(record: dict[str, Any], columns: Columns) -> dict[str, Any]:
    """The record with the mapped columns under their fields' names.

    A column of a field's name that the map gives to another one is not read.
    """
    found = {field: column for field, column in columns.items() if column in record}
    taken = {*found, *found.values()}
    kept = {name: value for name, value in record.items() if name not in taken}
    return kept | {field: record[column] for field, column in found.items()}


def refuse_unknown(record: dict[str, Any], columns: Columns, where: str) -> None:
    """Raises InvalidData for a column that the first row of a source does not have.

    Unless it has the field under its own name: so one map serves files that differ.
    """
    for field, column in columns.items():
        if column not in record and field not in record:
            found = ", ".join(f"`{name}`" for name in list(record)[:12])
            raise InvalidData(
                f"--map {field}={column}: there is no column `{column}`; there are {found}",
                where=where,
            )


def suggestion(record: Mapping[str, Any]) -> str:
    """Which --map to try for a record of no known shape."""
    names = {str(name).strip().lower(): str(name) for name in record}
    for field in ("messages", "conversations"):
        for name in _MEANT[field]:
            if _is_conversation(record.get(names.get(name, "")), field):
                return f"Try --map {field}={names[name]}"
    inside = next((name for name, value in record.items() if _is_rows(value)), None)
    if inside is not None:
        return f"The rows seem to be inside of `{inside}`: jq -c '.{inside}[]' FILE > rows.jsonl"
    pairs = ("chosen", "rejected") if "chosen" in _found(names, ("chosen",)) else ("completion",)
    found = _found(names, ("prompt", *pairs))
    if "prompt" in found and all(field in found for field in pairs):
        found |= _found(names, ("system",))
        return "Try --map " + ",".join(f"{field}={name}" for field, name in found.items())
    return "Say which column is which, such as --map prompt=COLUMN,completion=COLUMN"


def _found(names: dict[str, str], fields: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for field in fields:
        for name in (field, *_MEANT[field]):
            if name in names and names[name] not in found.values():
                found[field] = names[name]
                break
    return found


def _is_conversation(value: object, field: str) -> bool:
    role = "role" if field == "messages" else "from"
    return (
        isinstance(value, list) and bool(value) and isinstance(value[0], dict) and role in value[0]
    )


def _is_rows(value: object) -> bool:
    if not isinstance(value, list) or not value or not isinstance(value[0], dict):
        return False
    return any(shape.required <= value[0].keys() for shape in SHAPES)
