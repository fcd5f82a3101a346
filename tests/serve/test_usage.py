"""Streams are counted, and nobody sees that they are."""

import json
from typing import Any

import httpx
import pytest

from serve.requests import sse
from serve.requests.usage import UsageHidden, asking_for_usage
from tests.serve.conftest import MESSAGES, Gateway, Publish
from tests.serve.engine_double import EngineDouble

PATHS = ["/v1/chat/completions", "/v1/completions"]
OPTIONS: list[Any] = [
    None,
    {},
    {"include_usage": False},
    {"include_usage": True},
    {"include_usage": None, "continuous_usage_stats": True},
]


def _direct(double: EngineDouble, path: str, body: dict[str, Any]) -> bytes:
    """The engine's own bytes for a body."""
    return httpx.post(f"{double.url}{path}", json=body).content


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("given", [True, False])
async def test_a_stream_is_the_engines_own_and_its_tokens_are_logged(
    gateway: Gateway, published: Publish, double: EngineDouble, path: str, options: Any, given: bool
) -> None:
    """The very bytes that the engine would have sent for this body, fingerprint included."""
    name = published("support").engine_name
    body: dict[str, Any] = {"messages": MESSAGES, "prompt": "Hello", "stream": True}
    if given:
        body["stream_options"] = options
    answer = await gateway.http.post(path, json={"model": "support", **body})
    expected = _direct(double, path, {"model": name, **body})
    field = b'"model":"%s"' % name.encode()
    assert answer.content == expected.replace(field, b'"model":"support@1"')
    assert b"system_fingerprint" in answer.content
    entry = gateway.logged()[0]
    assert (entry.prompt_tokens, entry.completion_tokens) == (3, 7)
    assert json.loads(entry.request).get("stream_options", "none") == (options if given else "none")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"stream": False},
        {"stream": True, "n": 2},
        {"stream": True, "prompt": ["a", "b"]},
        {"stream": True, "stream_options": 7},
        {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    ],
)
def test_nothing_is_asked_for_where_it_would_show(body: dict[str, Any]) -> None:
    """Whole answers have usage anyway; several choices and what vLLM refuses go as they are."""
    assert asking_for_usage(body) == {}


@pytest.mark.parametrize("prompt", ["a", ["a"], [1, 2, 3], [[1, 2, 3]]])
def test_one_prompt_is_counted_in_whatever_shape(prompt: Any) -> None:
    """A text, its token ids, or a list with one of these: a stream of one choice."""
    assert asking_for_usage({"stream": True, "prompt": prompt})


async def test_the_double_does_not_get_more_than_that(
    gateway: Gateway, double: EngineDouble
) -> None:
    """Other options stay; continuous usage, which is nothing without usage, is not woken by it."""
    options = {"include_usage": False, "continuous_usage_stats": True, "other": 1}
    await gateway.stream("base", stream_options=options)
    assert double.asked[0]["stream_options"] == {"other": 1, "include_usage": True}


@pytest.mark.parametrize("fault", ["cut_late", "no_done"])
async def test_a_cut_loses_no_event(
    gateway: Gateway, published: Publish, double: EngineDouble, fault: str
) -> None:
    """The chunk that was held back for its fingerprint comes before the error event."""
    published("support")
    double.faults = [fault]
    received = await gateway.stream("support")
    events = [sse.data_of(part) for part in received.split(b"\n\n") if part]
    assert json.loads(events[-2])["choices"][0]["finish_reason"] == "stop"
    assert json.loads(events[-1])["error"]["type"] == "engine_interrupted"


def test_an_engine_that_sends_usage_to_everybody_is_left_to() -> None:
    """--enable-force-include-usage: there is usage beside the choices, so nothing is hidden."""
    events = [
        sse.write({"choices": [{"finish_reason": None}], "usage": {"completion_tokens": 1}}),
        sse.write({"choices": [{"finish_reason": "stop"}], "usage": {"completion_tokens": 2}}),
        sse.write({"choices": [], "usage": {"completion_tokens": 2}, "system_fingerprint": "f"}),
    ]
    hidden = UsageHidden()
    seen = b"".join(hidden.seen(event, sse.data_of(event)) for event in events) + hidden.rest()
    assert seen == b"".join(events)


def test_words_that_look_like_usage_pass() -> None:
    """A text may well hold what this looks for."""
    text = '"usage":{},"finish_reason":"stop","choices":[]'
    events = [sse.write({"choices": [{"delta": {"content": text}}]})] * 3
    hidden = UsageHidden()
    assert b"".join(hidden.seen(event, sse.data_of(event)) for event in events) == b"".join(events)
