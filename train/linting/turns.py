"""The lint's rules about the order of turns, and about tools that are called and answered."""

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from train.data.rows import Message, Row
from train.linting.facts import Facts
from train.linting.findings import Finding


def turn_order(facts: Facts) -> Iterator[Finding]:
    """Many chat templates refuse what does not alternate; the others were never trained on it.

    One finding for each thing that is wrong, with the first of them for a row.
    """
    found: dict[str, list[Row]] = {}
    for row in facts.rows:
        fault = _disorder(row.messages)
        if fault is not None:
            found.setdefault(fault, []).append(row)
    for fault, rows in found.items():
        yield Finding("turn-order", "warning", fault, tuple(rows))


def _disorder(messages: tuple[Message, ...]) -> str | None:
    roles = [message.role for message in messages]
    if "system" in roles[1:]:
        return "a system message stands in the middle of the chat"
    turns = [message for message in messages if message.role != "system"]
    if turns and turns[0].role != "user":
        return f"the chat begins with '{turns[0].role}', not with the user"
    for before, after in pairwise(turns):
        match before.role, after.role:
            case "user", "user":
                return "two user turns in a row, where the first was never answered"
            case "assistant", "assistant":
                return "two assistant turns in a row"
            case "user", "tool":
                return "a tool answers although the assistant did not call it"
            case "tool", "user":
                return "the user speaks where the assistant was to answer a tool's result"
    return None


def tool_call(facts: Facts) -> Iterator[Finding]:
    """Calls that no server would accept: of a tool that is not there, or without JSON arguments."""
    found: dict[str, list[Row]] = {}
    for row in facts.rows:
        if any(m.tool_calls or m.tool_call_id for m in (*row.messages, *row.rejected)):
            for fault in _tool_faults(row):
                found.setdefault(fault, []).append(row)
    for fault, rows in found.items():
        yield Finding("tool-call", "warning", fault, tuple(rows))


def _tool_faults(row: Row) -> list[str]:
    faults: dict[str, None] = {}
    declared = {_function(tool).get("name") for tool in row.tools}
    called: set[str] = set()
    for message in (*row.messages, *row.rejected):
        for call in message.tool_calls:
            function = _function(call)
            if isinstance(call.get("id"), str):
                called.add(call["id"])
            if not row.tools:
                faults["a tool is called, but the row has no `tools`"] = None
            elif function.get("name") not in declared:
                faults["a tool is called that the row's `tools` do not have"] = None
            if not _is_object(function.get("arguments", {})):
                faults["the arguments of a call are not a JSON object"] = None
        if message.tool_call_id and message.tool_call_id not in called:
            faults["a tool's result names a call that was not made"] = None
    return list(faults)


def _function(tool: dict[str, Any]) -> dict[str, Any]:
    function = tool.get("function", tool)
    return function if isinstance(function, dict) else {}


def _is_object(arguments: object) -> bool:
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return False
    return isinstance(arguments, dict)
