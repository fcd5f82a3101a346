"""The formats that rows can be written in: one writer each, from a row to its records.

A writer does its best and reports nothing; `train.data.convert` finds out what was lost. It raises
Unfit where the format can't hold the row at all. Columns that only some rows have are left out
where they are empty; `train.data.formats_write` fills them in for files that are tables.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from train.data.rows import Kind, Message, Row, spelled

Record = dict[str, Any]
_ASKING = ("system", "user")


class Unfit(Exception):
    """Why a row can't be held by a format at all, in words."""


@dataclass(frozen=True)
class Target:
    """`kinds` are those of the rows that it can be made from, `shape` is what reads it back."""

    shape: str
    kinds: tuple[Kind, ...]
    write: Callable[[Row, bool], list[Record]]


def with_arguments(call: dict[str, Any]) -> dict[str, Any]:
    """A tool call with its arguments as an object, where they are JSON text."""
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        return call
    return {**call, "function": {**function, "arguments": arguments}}


def _to_messages(row: Row, as_text: bool) -> list[Record]:
    return [_with_tools({"messages": spelled(_good(row))}, row, parallel=True)]


def _to_openai(row: Row, as_text: bool) -> list[Record]:
    return [_with_tools({"messages": _checked(_good(row))}, row, parallel=True)]


def _to_prompt_completion(row: Row, as_text: bool) -> list[Record]:
    messages = _good(row)
    start = _learned_from(messages)
    asked = [_unweighted(message) for message in messages[:start]]
    answer = [_unweighted(message) for message in messages[start:]]
    return [_with_tools(_columns(asked, as_text, completion=answer), row)]


def _to_dpo(row: Row, as_text: bool) -> list[Record]:
    record = _columns(row.prompt, as_text, chosen=row.completion, rejected=row.rejected)
    return [_with_tools(record, row)]


def _to_kto(row: Row, as_text: bool) -> list[Record]:
    answers = (
        [(row.completion, row.label)]
        if row.kind == "labelled"
        else [(row.completion, True), (row.rejected, False)]
    )
    return [
        _with_tools(_columns(row.prompt, as_text, completion=answer) | {"label": label}, row)
        for answer, label in answers
    ]


def _to_openai_dpo(row: Row, as_text: bool) -> list[Record]:
    for answer in (row.completion, row.rejected):
        if any(message.role in _ASKING for message in answer):
            raise Unfit("its answers go on over several turns")
    given = _with_tools({"messages": _checked(row.prompt)}, row, parallel=True)
    return [
        {
            "input": given,
            "preferred_output": _checked(row.completion),
            "non_preferred_output": _checked(row.rejected),
        }
    ]


def _to_alpaca(row: Row, as_text: bool) -> list[Record]:
    messages = list(_good(row))
    record: Record = {}
    if messages[0].role == "system" and messages[0].content:
        record["system"] = messages.pop(0).content
    roles = [message.role for message in messages]
    if roles != ["user", "assistant"] * (len(roles) // 2):
        raise Unfit("it is not questions and answers in turn")
    if any(message.tool_calls for message in messages):
        raise Unfit("it calls tools")
    *before, question, answer = messages
    instruction, given = question.joined_from or (question.content, "")
    record |= {"instruction": instruction, "input": given, "output": answer.content}
    if before:
        said = [message.content for message in before]
        record["history"] = [list(pair) for pair in zip(said[::2], said[1::2], strict=True)]
    return [record]


def _to_sharegpt(row: Row, as_text: bool) -> list[Record]:
    turns: list[Record] = []
    for message in _good(row):
        weight = {} if message.weight is None else {"weight": message.weight}
        if message.tool_calls:
            calls = [with_arguments(call).get("function") for call in message.tool_calls]
            if message.content or not all(_is_call(call) for call in calls):
                raise Unfit("it has tool calls that are not a name and arguments alone")
            said = json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=False)
            turns.append({"from": "function_call", "value": said} | weight)
            continue
        speaker = {"user": "human", "assistant": "gpt"}.get(message.role, message.role)
        turns.append({"from": speaker, "value": message.content} | weight)
    return [_with_tools({"conversations": turns}, row)]


TARGETS: dict[str, Target] = {
    "messages": Target("messages", ("chat", "preference", "labelled"), _to_messages),
    "openai": Target("messages", ("chat", "preference", "labelled"), _to_openai),
    "prompt-completion": Target(
        "prompt-completion", ("chat", "preference", "labelled"), _to_prompt_completion
    ),
    "alpaca": Target("alpaca", ("chat", "preference", "labelled"), _to_alpaca),
    "sharegpt": Target("sharegpt", ("chat", "preference", "labelled"), _to_sharegpt),
    "dpo": Target("dpo", ("preference",), _to_dpo),
    "openai-dpo": Target("openai-dpo", ("preference",), _to_openai_dpo),
    "kto": Target("kto", ("labelled", "preference"), _to_kto),
}


def _good(row: Row) -> Sequence[Message]:
    """The conversation to learn: of a pair with the preferred answer, of a label where it is so."""
    if row.label is False:
        raise Unfit("its answer is labelled as not good")
    return row.messages


def _learned_from(messages: Sequence[Message]) -> int:
    """Where the completion begins: with the first answer to the last question that is learned."""
    asking = [at for at, message in enumerate(messages) if message.role in _ASKING]
    start = asking[-1] + 1 if asking else 1
    unlearned = [
        at
        for at, message in enumerate(messages)
        if at >= start and message.role == "assistant" and not message.learned
    ]
    after = unlearned[-1] + 1 if unlearned else start
    while after < len(messages) - 1 and messages[after].role != "assistant":
        after += 1
    return min(after, len(messages) - 1)


def _columns(asked: Sequence[Message], as_text: bool, **answers: Sequence[Message]) -> Record:
    if not as_text:
        return {"prompt": spelled(asked)} | {name: spelled(a) for name, a in answers.items()}
    system = [message.content for message in asked if message.role == "system"][:1]
    users = asked[len(system) :]
    plain = [*users, *(message for answer in answers.values() for message in answer)]
    if (
        [message.role for message in users] != ["user"]
        or any(len(answer) != 1 for answer in answers.values())
        or any(message.tool_calls for message in plain)
    ):
        raise Unfit("it is more than one question and one answer, which text does not tell apart")
    record: Record = {"system": system[0]} if system else {}
    record["prompt"] = users[0].content
    return record | {name: answer[0].content for name, answer in answers.items()}


def _with_tools(record: Record, row: Row, *, parallel: bool = False) -> Record:
    if row.tools:
        record["tools"] = list(row.tools)
    if parallel and row.parallel_tool_calls is not None:
        record["parallel_tool_calls"] = row.parallel_tool_calls
    return record


def _checked(messages: Sequence[Message]) -> list[Record]:
    """As OpenAI's API wants it: arguments as text, and no empty content beside tool calls."""
    spelt = spelled(messages)
    for message in spelt:
        if "tool_calls" in message:
            message["tool_calls"] = [_as_text(call) for call in message["tool_calls"]]
            message["content"] = message["content"] or None
    return spelt


def _as_text(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, dict) or isinstance(function.get("arguments"), str | None):
        return call
    arguments = json.dumps(function["arguments"], ensure_ascii=False)
    return {**call, "function": {**function, "arguments": arguments}}


def _unweighted(message: Message) -> Message:
    return message if message.weight is None else replace(message, weight=None)


def _is_call(function: object) -> bool:
    return isinstance(function, dict) and isinstance(function.get("name"), str)
