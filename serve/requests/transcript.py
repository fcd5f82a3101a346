"""What an answer says, gathered while it passes: text, finish reasons, usage, tool calls.

It reads copies and changes nothing. Chunks that are not JSON, or not shaped like an answer, are
passed over: the engine is free to send more than this knows of.
"""

from typing import Any

import orjson

_KEPT_ONCE = frozenset({"role", "id", "type", "name"})


class Transcript:
    """Feed it a whole body, or a stream's data one by one. What all kinds of answers have."""

    # How the endpoint calls the two counts of its usage.
    _prompt_count = "prompt_tokens"
    _completion_count = "completion_tokens"

    def __init__(self) -> None:
        self._usage: dict[str, Any] | None = None
        self.error: dict[str, Any] | None = None

    def add_body(self, body: bytes) -> None:
        self._note(as_object(body))

    def add_data(self, data: bytes) -> str:
        """Take in one chunk of a stream; returns what it adds to `answer`."""
        self._note(as_object(data))
        return ""

    @property
    def answer(self) -> str:
        """The answer's text; empty where there is none."""
        return ""

    @property
    def response(self) -> str:
        """What is kept of the answer, as JSON text, for the log."""
        return orjson.dumps({"usage": self._usage}).decode()

    @property
    def finish_reasons(self) -> list[str]:
        return []

    @property
    def reason(self) -> str:
        """Why there is no answer, in the engine's words."""
        return str((self.error or {}).get("message") or "no reason given")

    @property
    def prompt_tokens(self) -> int | None:
        return self._count(self._prompt_count)

    @property
    def completion_tokens(self) -> int | None:
        return self._count(self._completion_count)

    def _count(self, name: str) -> int | None:
        count = (self._usage or {}).get(name)
        return count if isinstance(count, int) else None

    def _note(self, answer: dict[str, Any]) -> None:
        if isinstance(answer.get("usage"), dict):
            self._usage = answer["usage"]
        if answer.get("error"):
            error = answer["error"]
            self.error = error if isinstance(error, dict) else {"message": str(error)}


class Choices(Transcript):
    """Of chat completions and completions; `answer` is the first choice's text."""

    def __init__(self) -> None:
        super().__init__()
        self._choices: dict[int, dict[str, Any]] = {}

    def add_body(self, body: bytes) -> None:
        answer = as_object(body)
        for choice in _objects(answer.get("choices")):
            self._choices[_index(choice)] = choice
        self._note(answer)

    def add_data(self, data: bytes) -> str:
        chunk = as_object(data)
        added = ""
        for part in _objects(chunk.get("choices")):
            index = _index(part)
            choice = self._choices.setdefault(index, {"index": index})
            text = _merge(choice, part)
            added += text if index == 0 else ""
        self._note(chunk)
        return added

    @property
    def answer(self) -> str:
        if not self._choices:
            return ""
        first = self._choices[min(self._choices)]
        message = first.get("message")
        text = message.get("content") if isinstance(message, dict) else first.get("text")
        return text if isinstance(text, str) else ""

    @property
    def response(self) -> str:
        choices = [self._choices[index] for index in sorted(self._choices)]
        return orjson.dumps({"choices": choices, "usage": self._usage}).decode()

    @property
    def finish_reasons(self) -> list[str]:
        reasons = (self._choices[index].get("finish_reason") for index in sorted(self._choices))
        return [reason for reason in reasons if isinstance(reason, str)]


def _index(choice: dict[str, Any]) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def _merge(choice: dict[str, Any], part: dict[str, Any]) -> str:
    """Add a stream's part to its choice; returns the text that it adds."""
    if part.get("finish_reason") is not None:
        choice["finish_reason"] = part["finish_reason"]
    if isinstance(part.get("text"), str):
        choice["text"] = choice.get("text", "") + part["text"]
        return str(part["text"])
    delta = part.get("delta")
    if not isinstance(delta, dict):
        return ""
    _join(choice.setdefault("message", {}), delta)
    content = delta.get("content")
    return content if isinstance(content, str) else ""


def _join(whole: dict[str, Any], delta: dict[str, Any]) -> None:
    """Texts grow, objects are joined key by key, lists by their items' `index`."""
    for key, value in delta.items():
        if isinstance(value, str) and isinstance(whole.get(key), str) and key not in _KEPT_ONCE:
            whole[key] += value
        elif isinstance(value, dict):
            inner = whole.setdefault(key, {})
            if isinstance(inner, dict):
                _join(inner, value)
        elif isinstance(value, list):
            _join_list(whole.setdefault(key, []), value)
        elif value is not None and (key not in whole or key not in _KEPT_ONCE):
            whole[key] = value


def _join_list(whole: Any, parts: list[Any]) -> None:
    if not isinstance(whole, list):
        return
    for part in parts:
        index = part.get("index") if isinstance(part, dict) else None
        same = [item for item in whole if isinstance(item, dict) and item.get("index") == index]
        if index is None or not same:
            whole.append(part)
        else:
            _join(same[0], part)


def as_object(data: bytes) -> dict[str, Any]:
    """A JSON object; an empty one where it is none."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
