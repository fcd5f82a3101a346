"""From a record in somebody's shape to canonical messages.

The shapes: OpenAI messages (with tools), Alpaca (instruction, input, output), prompt/completion
(text or messages), ShareGPT conversations. `SHAPES` says by which columns each is known, which
others it reads, and what reads it. Content is never trimmed or reworded; the one translation is
OpenAI's newer role `developer`, which chat templates know as `system`.

Absent on purpose: preference pairs and KTO labels, which are known only to be refused by name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from train.formats_files import kind
from train.rows import ROLES, Message

Record = Mapping[str, Any]

ACCEPTED = (
    "Accepted are `messages` (OpenAI), `instruction`/`input`/`output` (Alpaca), "
    "`prompt`/`completion`, and `conversations` (ShareGPT)."
)
_SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "assistant": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
}


class RowFault(Exception):
    """What is wrong with one record, in words; the reader adds file and row."""


@dataclass(frozen=True)
class Shape:
    name: str
    required: frozenset[str]
    optional: frozenset[str]
    read: Callable[[Record], list[Message]]


def shape_of(record: Record) -> Shape:
    """The shape of a record, by its columns.

    Raises:
        RowFault: naming what was found and what is accepted.
    """
    found = frozenset(record)
    if {"chosen", "rejected"} <= found or "preferred_output" in found:
        raise RowFault(f"these are preference pairs, which are not trained on yet. {ACCEPTED}")
    if {"prompt", "completion", "label"} <= found and isinstance(record["label"], bool):
        raise RowFault(f"these are KTO labels, which are not trained on yet. {ACCEPTED}")
    for shape in SHAPES:
        if shape.required <= found:
            return shape
    columns = ", ".join(f"`{name}`" for name in sorted(found)[:8]) or "none"
    raise RowFault(f"no known shape: the columns are {columns}. {ACCEPTED}")


def tools_of(record: Record) -> tuple[dict[str, Any], ...]:
    tools = record.get("tools") or []
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise RowFault(f"`tools` must be a list of objects, found {kind(tools)}")
    return tuple(tools)


def check(messages: list[Message]) -> None:
    """What every row must be, whatever its shape was.

    Raises:
        RowFault: when there is nothing to answer, or no answer.
    """
    if not messages:
        raise RowFault("the conversation is empty")
    last = messages[-1]
    if last.role != "assistant":
        raise RowFault(f"the row has no answer: its last message is from '{last.role}'")
    if not last.content.strip() and not last.tool_calls:
        raise RowFault("the row has no answer: it is empty")
    if not any(message.role != "assistant" for message in messages):
        raise RowFault("the row has an answer but nothing that it answers")


def _messages(record: Record) -> list[Message]:
    return _chat(record["messages"], "messages")


def _chat(items: object, column: str) -> list[Message]:
    if not isinstance(items, list):
        raise RowFault(f"`{column}` must be a list of messages, found {kind(items)}")
    return [_message(item, f"{column}[{place}]") for place, item in enumerate(items)]


def _message(item: object, field: str) -> Message:
    if not isinstance(item, dict):
        raise RowFault(f"`{field}` must be an object with role and content, found {kind(item)}")
    role = item.get("role")
    if role == "developer":
        role = "system"
    if role not in ROLES:
        raise RowFault(f"`{field}.role` is {_shown(role)}; roles are {', '.join(ROLES)}")
    calls = item.get("tool_calls") or []
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise RowFault(f"`{field}.tool_calls` must be a list of objects")
    return Message(
        role=role,
        content=_content(item.get("content"), field, may_lack=role == "assistant"),
        name=_optional_text(item.get("name"), f"{field}.name"),
        tool_calls=tuple(calls),
        tool_call_id=_optional_text(item.get("tool_call_id"), f"{field}.tool_call_id"),
    )


def _content(value: object, field: str, *, may_lack: bool) -> str:
    """Text, or OpenAI's list of text parts joined. An answer of tool calls has none."""
    if isinstance(value, str):
        return value
    if value is None and may_lack:
        return ""
    if isinstance(value, list):
        parts = [
            part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
            for part in value
        ]
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) == len(parts):
            return "".join(texts)
        raise RowFault(f"`{field}.content` has parts that are not text; only text is trained on")
    raise RowFault(f"`{field}.content` must be text, found {kind(value)}")


def _alpaca(record: Record) -> list[Message]:
    messages = _system(record)
    history = record.get("history") or []
    if not isinstance(history, list):
        raise RowFault(f"`history` must be a list of [question, answer], found {kind(history)}")
    for turn in history:
        if not isinstance(turn, list) or len(turn) != 2:
            raise RowFault("each turn of `history` must be [question, answer]")
        messages.append(Message("user", _required_text(turn[0], "history")))
        messages.append(Message("assistant", _required_text(turn[1], "history")))
    instruction = _required_text(record["instruction"], "instruction")
    given = _optional_text(record.get("input"), "input")
    messages.append(Message("user", f"{instruction}\n\n{given}" if given else instruction))
    messages.append(Message("assistant", _answer(record["output"], "output")))
    return messages


def _prompt_completion(record: Record) -> list[Message]:
    prompt, completion = record["prompt"], record["completion"]
    before = (
        _chat(prompt, "prompt")
        if isinstance(prompt, list)
        else [*_system(record), Message("user", _required_text(prompt, "prompt"))]
    )
    after = (
        _chat(completion, "completion")
        if isinstance(completion, list)
        else [Message("assistant", _answer(completion, "completion"))]
    )
    return before + after


def _sharegpt(record: Record) -> list[Message]:
    turns = record["conversations"]
    if not isinstance(turns, list):
        raise RowFault(f"`conversations` must be a list, found {kind(turns)}")
    return _system(record) + [
        _turn(turn, f"conversations[{place}]") for place, turn in enumerate(turns)
    ]


def _turn(turn: object, field: str) -> Message:
    if not isinstance(turn, dict):
        raise RowFault(f"`{field}` must be an object with from and value, found {kind(turn)}")
    if "from" not in turn:
        return _message(turn, field)
    role = _SHAREGPT_ROLES.get(turn["from"]) if isinstance(turn["from"], str) else None
    if role is None:
        raise RowFault(
            f"`{field}.from` is {_shown(turn['from'])}; it may be {', '.join(_SHAREGPT_ROLES)}"
        )
    return Message(role, _content(turn.get("value"), field, may_lack=role == "assistant"))


def _system(record: Record) -> list[Message]:
    text = _optional_text(record.get("system"), "system")
    return [Message("system", text)] if text else []


def _answer(value: object, field: str) -> str:
    """An answer that is absent is refused by `check`, in the words that fit every shape."""
    return "" if value is None else _required_text(value, field)


def _required_text(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise RowFault(f"`{field}` must be text, found {kind(value)}")
    return value


def _optional_text(value: object, field: str) -> str | None:
    return None if value is None else _required_text(value, field)


def _shown(value: object) -> str:
    return f"'{value}'" if isinstance(value, str) else kind(value)


SHAPES = (
    Shape("messages", frozenset({"messages"}), frozenset({"tools"}), _messages),
    Shape("sharegpt", frozenset({"conversations"}), frozenset({"system", "tools"}), _sharegpt),
    Shape(
        "alpaca",
        frozenset({"instruction", "output"}),
        frozenset({"input", "system", "history"}),
        _alpaca,
    ),
    Shape(
        "prompt-completion",
        frozenset({"prompt", "completion"}),
        frozenset({"system", "tools"}),
        _prompt_completion,
    ),
)
