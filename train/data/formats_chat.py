"""One conversation, from the spellings that are about to canonical messages.

Read are OpenAI's messages with everything that its fine-tuning files may hold (tools, `weight`,
refusals, text parts, the older `functions` and `function_call`), and ShareGPT's turns. Content is
never trimmed or reworded. What is read under another name than the file has it (`developer` as
`system`, functions as tools) is remembered in `translated`, so that it can be said.

Absent on purpose: pictures, sound and files in messages, which are refused by name.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from train.data.formats_text import fault_of, kind
from train.data.rows import ROLES, Message

Record = Mapping[str, Any]

SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "assistant": "assistant",
    "function_call": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
}

_READ = {
    "role",
    "content",
    "name",
    "tool_calls",
    "tool_call_id",
    "function_call",
    "refusal",
    "weight",
}


class RowFault(Exception):
    """What is wrong with one record, in words; the reader adds file and row."""


class Conversation:
    """Reads the parts of one record, and remembers what it translated and what it read past."""

    def __init__(self) -> None:
        self.translated: set[str] = set()
        self.unused: set[str] = set()
        self._calls = 0
        self._open_calls: list[str] = []  # without an answer, in their order
        self._answered: str | None = None

    def chat(self, items: object, column: str) -> list[Message]:
        """A list of OpenAI's messages, which a table holds as JSON text.

        Raises:
            RowFault: with the place of the part that is wrong.
        """
        items = decoded(items)
        if not isinstance(items, list):
            raise RowFault(f"`{column}` must be a list of messages, found {kind(items)}")
        return [self.message(item, f"{column}[{place}]") for place, item in enumerate(items)]

    def turns(self, items: object, column: str) -> list[Message]:
        """ShareGPT's list of turns; turns that are OpenAI's messages are read as such."""
        items = decoded(items)
        if not isinstance(items, list):
            raise RowFault(f"`{column}` must be a list, found {kind(items)}")
        return [self._turn(item, f"{column}[{place}]") for place, item in enumerate(items)]

    def message(self, item: object, field: str) -> Message:
        item = decoded(item)
        if not isinstance(item, dict):
            raise RowFault(f"`{field}` must be an object with role and content, found {kind(item)}")
        role = self._role(item.get("role"), field)
        if not item.keys() <= _READ:
            column = field.partition("[")[0]
            self.unused |= {f"{column}[].{key}" for key in item.keys() - _READ if item[key]}
        calls = _calls(item.get("tool_calls"), field)
        name = optional_text(item.get("name"), f"{field}.name")
        answers = optional_text(item.get("tool_call_id"), f"{field}.tool_call_id")
        if item.get("function_call"):
            calls = (*calls, self._old_call(item["function_call"], field))
        elif role != "tool":
            self._open_calls = []
        if item.get("role") == "function":
            answers = self._answered_call()
        content = self._content(item.get("content"), field, may_lack=role == "assistant")
        refused = item.get("refusal")
        if refused:
            if role != "assistant" or content:
                raise RowFault(f"`{field}` has both content and a refusal; keep one of them")
            content = required_text(refused, f"{field}.refusal")
        weight = _weight(item.get("weight"), role, field)
        return Message(role, content, name, calls, answers, weight, bool(refused))

    def tools(self, record: Record) -> tuple[dict[str, Any], ...]:
        """A record's tools, from `tools` (also as JSON text) or the older `functions`.

        Functions that stand in `tools` as they are, as in LLaMA-Factory's files, become tools: so
        a template shows them as it does when they are served.
        """
        tools = _objects(record.get("tools"), "tools")
        functions = _objects(record.get("functions"), "functions")
        if functions or any(map(_is_bare, tools)):
            self.translated.add("`functions` are read as tools")
        wrapped = [_as_tool(one) if _is_bare(one) else one for one in tools]
        return (*wrapped, *map(_as_tool, functions))

    def _role(self, role: object, field: str) -> str:
        if role == "developer":
            self.translated.add("messages of the role `developer` are read as `system`")
            return "system"
        if role == "function":
            self.translated.add("messages of the role `function` are read as `tool`")
            return "tool"
        if role not in ROLES:
            raise RowFault(f"`{field}.role` is {shown(role)}; roles are {', '.join(ROLES)}")
        return str(role)

    def _content(self, value: object, field: str, *, may_lack: bool) -> str:
        """Text, or OpenAI's list of text parts joined. An answer of tool calls has none."""
        if isinstance(value, str):
            return value
        if value is None and may_lack:
            return ""
        if not isinstance(value, list):
            raise RowFault(f"`{field}.content` must be text, found {kind(value)}")
        texts = [_part(part, f"{field}.content[{at}]") for at, part in enumerate(value)]
        self.translated.add("the text parts of a message are joined")
        return "".join(texts)

    def _turn(self, turn: object, field: str) -> Message:
        turn = decoded(turn)
        if not isinstance(turn, dict):
            raise RowFault(f"`{field}` must be an object with from and value, found {kind(turn)}")
        if "from" not in turn:
            return self.message(turn, field)
        spoken = turn["from"]
        spoken = spoken.lower() if isinstance(spoken, str) else spoken
        role = SHAREGPT_ROLES.get(spoken) if isinstance(spoken, str) else None
        if role is None:
            raise RowFault(
                f"`{field}.from` is {shown(spoken)}; it may be {', '.join(SHAREGPT_ROLES)}"
            )
        weight = _weight(turn.get("weight"), role, field)
        said = turn["value"] if "value" in turn else turn.get("content")
        if spoken == "function_call":
            found = decoded(said)
            calls = found if isinstance(found, list) else [found]
            made = tuple(self._old_call(call, f"{field}.value") for call in calls)
            return Message(role, "", tool_calls=made, weight=weight)
        content = self._content(said, field, may_lack=role == "assistant")
        if role == "tool":
            return Message(role, content, tool_call_id=self._answered_call(), weight=weight)
        self._open_calls = []
        return Message(role, content, weight=weight)

    def _old_call(self, call: object, field: str) -> dict[str, Any]:
        """A call without an id of its own; its answer is known by the order that they come in."""
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            raise RowFault(f"`{field}` must hold a function call with name and arguments")
        self._calls += 1
        self._open_calls.append(f"call_{self._calls}")
        self.translated.add("function calls are read as tool calls, with ids of their own")
        return {"id": self._open_calls[-1], "type": "function", "function": call}

    def _answered_call(self) -> str | None:
        """The first call that has no answer yet; where none is left, the last that was answered."""
        if self._open_calls:
            self._answered = self._open_calls.pop(0)
        return self._answered


def _is_bare(tool: dict[str, Any]) -> bool:
    return isinstance(tool.get("name"), str) and not tool.keys() & {"type", "function"}


def _as_tool(function: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": function}


def _part(part: object, field: str) -> str:
    if not isinstance(part, dict):
        raise RowFault(f"`{field}` must be an object with type and text, found {kind(part)}")
    sort = part.get("type")
    text = part.get("text") if sort == "text" else None
    if not isinstance(text, str):
        raise RowFault(f"`{field}` is a part of type {shown(sort)}; only text is trained on")
    return text


def _calls(value: object, field: str) -> tuple[dict[str, Any], ...]:
    return _objects(value, f"{field}.tool_calls") if value else ()


def _objects(value: object, column: str) -> tuple[dict[str, Any], ...]:
    """A list of objects, or of the JSON text of them."""
    found = decoded(value) or []
    parts = [decoded(part) for part in found] if isinstance(found, list) else None
    if parts is None or not all(isinstance(part, dict) for part in parts):
        raise RowFault(f"`{column}` must be a list of objects, found {kind(found)}")
    return tuple(part for part in parts if isinstance(part, dict))


def _weight(value: object, role: str, field: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or value not in (0, 1):
        raise RowFault(f"`{field}.weight` must be 0 or 1, found {value!r:.20}")
    if role == "assistant":
        return 1 if value else 0
    if value:
        raise RowFault(f"`{field}.weight` is 1, but only assistants' messages are trained on")
    return None


def decoded(value: object) -> object:
    """A list or object that a table or a column of text holds as JSON; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            return value
        if fault := fault_of(found):
            raise RowFault(fault)
        return found
    return value


def required_text(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise RowFault(f"`{field}` must be text, found {kind(value)}")
    return value


def optional_text(value: object, field: str) -> str | None:
    """Text or nothing; NaN is how pandas writes nothing."""
    is_nothing = value is None or (isinstance(value, float) and math.isnan(value))
    return None if is_nothing else required_text(value, field)


def shown(value: object) -> str:
    return f"'{value}'" if isinstance(value, str) else kind(value)
