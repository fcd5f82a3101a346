"""What an answer of `/v1/responses` says: its output items, and a stream's pieces of them.

A stream says everything several times: piece by piece, then each item whole, then the response with
all its items. The last that was said counts, so a stream that is cut off leaves what it had.
"""

from typing import Any

import orjson

from serve.requests.transcript import Transcript, as_object

_TEXT = "response.output_text.delta"
_KEPT = ("status", "incomplete_details", "output", "usage")


class Items(Transcript):
    """`answer` is the text of all its messages, one after the other."""

    _prompt_count = "input_tokens"
    _completion_count = "output_tokens"

    def __init__(self) -> None:
        super().__init__()
        self.sequence_number = -1
        self._response: dict[str, Any] = {}
        self._items: dict[int, dict[str, Any]] = {}
        self._pieces: dict[int, str] = {}

    def add_body(self, body: bytes) -> None:
        self._take(as_object(body))

    def add_data(self, data: bytes) -> str:
        event = as_object(data)
        number, place, delta = (
            event.get(name) for name in ("sequence_number", "output_index", "delta")
        )
        if isinstance(number, int):
            self.sequence_number = number
        if isinstance(response := event.get("response"), dict):
            self._take(response)
        if not isinstance(place, int):
            return ""
        if isinstance(item := event.get("item"), dict):
            self._items[place] = item
            self._pieces.pop(place, None)
        elif isinstance(delta, str):
            self._pieces[place] = self._pieces.get(place, "") + delta
            return delta if event.get("type") == _TEXT else ""
        return ""

    @property
    def answer(self) -> str:
        parts = (
            part.get("text")
            for item in self._output()
            if item.get("type") == "message" and isinstance(item.get("content"), list)
            for part in item["content"]
            if isinstance(part, dict) and part.get("type") == "output_text"
        )
        return "".join(part for part in parts if isinstance(part, str))

    @property
    def response(self) -> str:
        kept = {**self._response, "output": self._output(), "usage": self._usage}
        return orjson.dumps({name: kept[name] for name in _KEPT if name in kept}).decode()

    @property
    def finish_reasons(self) -> list[str]:
        details = self._response.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        status = self._response.get("status")
        return [said for said in (reason or status,) if isinstance(said, str)]

    def _take(self, response: dict[str, Any]) -> None:
        self._response = response
        self._note(response)

    def _output(self) -> list[dict[str, Any]]:
        whole = self._response.get("output")
        if isinstance(whole, list) and whole:
            return [item for item in whole if isinstance(item, dict)]
        return [
            _with_piece(self._items[place], self._pieces.get(place, ""))
            for place in sorted(self._items)
        ]


def _with_piece(item: dict[str, Any], piece: str) -> dict[str, Any]:
    """An item that was begun, with what came of it."""
    if not piece:
        return item
    match item.get("type"):
        case "message":
            return {**item, "content": [{"type": "output_text", "text": piece}]}
        case "reasoning":
            return {**item, "content": [{"type": "reasoning_text", "text": piece}]}
        case _:
            return {**item, "arguments": piece}
