"""What passes through the gateway stays as it was, but for `model`; and is logged in time."""

import json
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError

from serve.requests import sse
from tests.serve.conftest import MESSAGES, Gateway, Publish
from tests.serve.engine_double import EngineDouble

PATHS = ["/v1/chat/completions", "/v1/completions"]
TRICKY = 'he-said-"model":"{}" \\"model\\": \u2028 naïve ✓'


def _direct(double: EngineDouble, path: str, body: dict[str, Any]) -> bytes:
    """The engine's own bytes for a body."""
    return httpx.post(f"{double.url}{path}", json=body).content


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
async def test_every_byte_but_model_is_the_engines(
    gateway: Gateway, published: Publish, double: EngineDouble, path: str, stream: bool
) -> None:
    """Both endpoints, streaming or not, also when the text itself imitates the field."""
    name = published("support").engine_name
    double.text = lambda model: TRICKY.format(model)
    body: dict[str, Any] = {"messages": MESSAGES, "prompt": "Hello", "stream": stream, "n": 1}
    answer = await gateway.http.post(path, json={"model": "support", **body})
    expected = _direct(double, path, {"model": name, **body})
    field = b'"model":"%s"' % name.encode()
    assert expected.count(field) >= 1
    assert answer.content == expected.replace(field, b'"model":"support@1"')
    assert b'\\"model\\":\\"' + name.encode() in answer.content


async def test_the_engine_gets_the_clients_body(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """Fields that the gateway has never heard of, in order, with only `model` replaced."""
    version = published("support")
    body = {
        "temperature": 0.5,
        "model": "support",
        "messages": MESSAGES,
        "guided_json": {"type": "object", "big": 12345678901234, "deep": [[1.5, None, "é"]]},
        "zzz": True,
    }
    await gateway.http.post("/v1/chat/completions", json=body)
    assert list(double.asked[0].items()) == list({**body, "model": version.engine_name}.items())


async def test_the_openai_client_works_unmodified(gateway: Gateway, published: Publish) -> None:
    """Lists models, chats, streams, and raises its own exceptions for our errors."""
    published("support")
    client = AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="unused", max_retries=0)
    assert "support" in [model.id async for model in client.models.list()]
    messages: Any = MESSAGES
    raw = await client.chat.completions.with_raw_response.create(model="support", messages=messages)
    assert raw.headers["x-hub-interaction-id"].startswith("int_")
    assert raw.parse().model == "support@1"
    text = ""
    stream = await client.chat.completions.create(
        model="support", messages=messages, stream=True, stream_options={"include_usage": True}
    )
    async for chunk in stream:
        assert chunk.model == "support@1"
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        usage = chunk.usage
    assert text.startswith("answered by")
    assert usage is not None
    assert usage.prompt_tokens == 3
    with pytest.raises(NotFoundError) as refused:
        await client.chat.completions.create(model="nope", messages=messages)
    assert refused.value.code == "model_not_found"
    with pytest.raises(BadRequestError):
        await client.chat.completions.create(model="auto", messages=messages)
    await client.close()


async def test_an_engines_refusal_passes_with_the_public_name(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """vLLM's status and words; the engine's own name for the adapter never shows."""
    published("support")
    double.faults = ["refuse"]
    answer = await gateway.chat("support")
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "`support@1` takes 16 tokens at most"
    assert b"#" not in answer.content
    entry = gateway.logged()[0]
    assert (entry.status, entry.adapter) == ("failed", "support@1")
    assert "16 tokens" in (entry.error or "")


@pytest.mark.parametrize(
    ("body", "words"),
    [(b"{", "not JSON"), (b"[]", "object"), (b"{}", "model"), (b'{"model":3}', "model")],
)
async def test_a_body_that_names_no_model_is_refused(
    gateway: Gateway, body: bytes, words: str
) -> None:
    """400 in OpenAI's shape, before the engine."""
    headers = {"content-type": "application/json"}
    answer = await gateway.http.post("/v1/chat/completions", content=body, headers=headers)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


async def test_an_interaction_holds_what_was_asked_and_answered(
    gateway: Gateway, published: Publish
) -> None:
    """The client's own body, the exact version, text, usage and times, under the header's id."""
    version = published("support")
    answer = await gateway.chat("support", user="ann", temperature=0)
    entry = gateway.logged()[0]
    assert entry.id == answer.headers["x-hub-interaction-id"]
    assert (entry.endpoint, entry.requested, entry.user) == ("chat", "support", "ann")
    assert (entry.adapter, entry.digest) == ("support@1", version.digest)
    assert json.loads(entry.request)["temperature"] == 0
    assert json.loads(entry.request)["model"] == "support"
    assert entry.answer == answer.json()["choices"][0]["message"]["content"]
    assert (entry.status, entry.error, entry.prompt_tokens) == ("complete", None, 3)
    assert entry.latency_ms > 0


async def test_a_stream_is_committed_before_done_and_after_its_first_token(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """Not logged while it streams; there for another connection when [DONE] arrives."""
    published("support")
    double.hold.clear()
    body = {"model": "support", "messages": MESSAGES, "stream": True}
    async with gateway.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        events = sse.events(answer.aiter_bytes())
        first = await anext(events)
        assert b'"model":"support@1"' in first
        assert gateway.logged() == []
        double.hold.set()
        async for event in events:
            if sse.is_done(event):
                break
    entry = gateway.logged()[0]
    assert entry.id == answer.headers["x-hub-interaction-id"]
    assert entry.status == "complete"
    assert entry.answer.startswith("answered by support@1#")
    assert entry.ttft_ms is not None
    assert entry.ttft_ms <= entry.latency_ms
