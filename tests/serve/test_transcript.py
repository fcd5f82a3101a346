"""Reading answers as they pass: events cut right, texts and tool calls put together right."""

import json
from collections.abc import AsyncIterator

import pytest

from serve.requests import sse
from serve.requests.transcript import Choices


async def _events(data: bytes, size: int) -> list[bytes]:
    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(data), size):
            yield data[at : at + size]

    return [event async for event in sse.events(chunks())]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
async def test_events_come_out_whole_however_the_bytes_came(size: int) -> None:
    """Every cut of the stream gives the same events, with their exact bytes."""
    events = [b'data: {"a":1}\n\n', b": comment\n\n", b"data: x\r\n\r\n", sse.DONE]
    assert await _events(b"".join(events), size) == events


async def test_half_an_event_at_the_end_is_dropped_unless_it_is_done() -> None:
    """A client must never get half a JSON text."""
    assert await _events(b'data: {"a":1}\n\ndata: {"b"', 5) == [b'data: {"a":1}\n\n']
    assert await _events(b"data: [DONE]", 5) == [b"data: [DONE]"]


def test_deltas_become_messages() -> None:
    """Texts of several choices, reasoning, tool calls in pieces, finish reasons and usage."""
    transcript = Choices()
    deltas = [
        (0, {"role": "assistant", "content": ""}),
        (0, {"content": "Hel"}),
        (1, {"role": "assistant", "content": "Other"}),
        (0, {"content": "lo", "reasoning": "hm"}),
        (0, {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": ""}}]}),
        (0, {"tool_calls": [{"index": 0, "function": {"arguments": '{"x"'}}]}),
        (0, {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}),
    ]
    added = ""
    for index, delta in deltas:
        choice = {"index": index, "delta": delta, "finish_reason": None}
        added += transcript.add_data(json.dumps({"choices": [choice]}).encode())
    end = {"index": 0, "delta": {}, "finish_reason": "tool_calls"}
    transcript.add_data(json.dumps({"choices": [end]}).encode())
    transcript.add_data(b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}')
    assert added == transcript.answer == "Hello"
    response = json.loads(transcript.response)
    first, second = response["choices"]
    assert first["message"]["reasoning"] == "hm"
    assert first["message"]["role"] == "assistant"
    call = {"index": 0, "id": "c1", "function": {"name": "f", "arguments": '{"x":1}'}}
    assert first["message"]["tool_calls"] == [call]
    assert first["finish_reason"] == "tool_calls"
    assert second["message"]["content"] == "Other"
    assert (transcript.prompt_tokens, transcript.completion_tokens) == (3, 5)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        b"[]",
        b'{"choices":3}',
        b'{"choices":[1]}',
        b'{"choices":[{"index":"x"}]}',
        b'{"choices":[{"index":[1]}]}',
        b'{"choices":[{"index":{}}]}',
    ],
)
def test_what_is_not_a_completion_is_passed_over(data: bytes) -> None:
    """The engine may send more than this knows of."""
    transcript = Choices()
    assert transcript.add_data(data) == ""
    transcript.add_body(data)
    assert transcript.answer == ""
    assert transcript.prompt_tokens is None
