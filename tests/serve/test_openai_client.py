"""The unmodified `openai` package against the gateway, both of its clients."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from openai import APIError, AsyncOpenAI, BadRequestError, NotFoundError, OpenAI

from tests.serve.conftest import MESSAGES, Gateway, Publish
from tests.serve.engine_double import EngineDouble
from tests.serve.engine_shapes import CALL

PROMPT: Any = MESSAGES
TOOLS: Any = [{"type": "function", "function": {"name": "look_up", "parameters": {}}}]
SCHEMA: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def plain(gateway: Gateway) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client:
        yield client


async def test_models_are_listed_and_found_by_any_name(
    client: AsyncOpenAI, published: Publish
) -> None:
    """Names with slashes and numbers too; one that is not there is the client's own error."""
    published("acme/support")
    assert {model.id async for model in client.models.list()} == {
        "tiny",
        "acme/support",
        "acme/support@1",
    }
    assert (await client.models.retrieve("acme/support@1")).id == "acme/support@1"
    with pytest.raises(NotFoundError) as refused:
        await client.models.retrieve("acme/support@2")
    assert refused.value.code == "model_not_found"


async def test_every_option_reaches_the_engine_as_it_was_given(
    client: AsyncOpenAI, published: Publish, double: EngineDouble
) -> None:
    """OpenAI's, and vLLM's own in extra_body."""
    published("support")
    options: dict[str, Any] = {
        "n": 2,
        "seed": 7,
        "stop": ["\n", "###"],
        "user": "ann",
        "max_completion_tokens": 9,
        "logit_bias": {"42": -1},
        "logprobs": True,
        "top_logprobs": 3,
        "response_format": SCHEMA,
        "tools": TOOLS,
        "tool_choice": {"type": "function", "function": {"name": "look_up"}},
        "parallel_tool_calls": False,
    }
    extra = {"top_k": 5, "min_tokens": 1, "structured_outputs": {"choice": ["a", "b"]}}
    answer = await client.chat.completions.create(
        model="support", messages=PROMPT, extra_body=extra, **options
    )
    assert answer.model == "support@1"
    assert {name: double.asked[0].get(name) for name in (*options, *extra)} == {**options, **extra}
    assert len(answer.choices) == 2
    assert answer.choices[0].logprobs is not None
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].function.arguments == CALL["arguments"]


async def test_streams_of_chats_tools_and_completions(
    client: AsyncOpenAI, published: Publish
) -> None:
    """With the usage where it was asked for; tool calls in pieces."""
    published("support")
    words, usage = "", None
    async for chunk in await client.chat.completions.create(
        model="support", messages=PROMPT, stream=True, stream_options={"include_usage": True}
    ):
        words += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        usage = chunk.usage or usage
    assert words.startswith("answered by")
    assert usage is not None
    assert usage.completion_tokens == 7
    arguments = ""
    async for chunk in await client.chat.completions.create(
        model="support", messages=PROMPT, stream=True, tools=TOOLS
    ):
        for call in chunk.choices[0].delta.tool_calls or ():
            arguments += (call.function and call.function.arguments) or ""
    assert arguments == CALL["arguments"]
    text = ""
    async for part in await client.completions.create(model="support", prompt="Hi", stream=True):
        assert part.model == "support@1"
        text += part.choices[0].text
    assert text.strip() == words.strip()


async def test_responses_whole_and_streamed(
    client: AsyncOpenAI, published: Publish, double: EngineDouble
) -> None:
    """Typed events to the last; a stream that breaks is an error with ours inside."""
    published("support")
    whole = await client.responses.create(model="support", input="Hello")
    assert (whole.model, whole.output_text.split()[0]) == ("support@1", "answered")
    kinds, text = [], ""
    async for event in await client.responses.create(model="support", input="Hello", stream=True):
        kinds.append(event.type)
        if event.type == "response.output_text.delta":
            text += event.delta
        if event.type == "response.completed":
            assert event.response.model == "support@1"
            assert event.response.usage is not None
            assert event.response.usage.output_tokens == 7
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert text == whole.output_text
    double.faults = ["cut"]
    cut = await client.responses.create(model="support", input="Hello", stream=True)
    with pytest.raises(APIError) as broken:
        kinds = [event.type async for event in cut]
    assert broken.value.type == "engine_interrupted"
    with pytest.raises(NotFoundError) as absent:
        await client.responses.retrieve("resp_1")
    assert absent.value.code == "responses_not_stored"


async def test_embeddings_in_the_clients_own_encoding(
    client: AsyncOpenAI, published: Publish, double: EngineDouble
) -> None:
    """And where the engine has none, an error that says so."""
    published("support")
    with pytest.raises(NotFoundError) as absent:
        await client.embeddings.create(model="support", input="Hello")
    assert absent.value.code == "endpoint_not_served"
    double.runner = "pooling"
    found = await client.embeddings.create(model="support", input=["Hello", "you"])
    assert (found.model, found.usage.prompt_tokens) == ("support@1", 3)
    assert [row.embedding for row in found.data] == [[0.25, -0.5]] * 2


async def test_the_client_that_is_not_async(
    plain: OpenAI, published: Publish, double: EngineDouble
) -> None:
    """The same in a thread: whole, streamed, refused, broken off."""
    published("support")

    def talk() -> None:
        raw = plain.chat.completions.with_raw_response.create(model="support", messages=PROMPT)
        assert raw.headers["x-hub-adapter"] == raw.parse().model == "support@1"
        stream = plain.chat.completions.create(model="support", messages=PROMPT, stream=True)
        assert all(chunk.model == "support@1" for chunk in stream)
        events = list(plain.responses.create(model="support", input="Hello", stream=True))
        assert events[-1].type == "response.completed"
        double.faults = ["refuse"]
        with pytest.raises(BadRequestError, match="support@1"):
            plain.chat.completions.create(model="support", messages=PROMPT)
        double.faults = ["cut"]
        with pytest.raises(APIError) as broken:
            list(plain.chat.completions.create(model="support", messages=PROMPT, stream=True))
        assert broken.value.type == "engine_interrupted"

    await asyncio.to_thread(talk)
