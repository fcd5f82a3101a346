"""OpenAI's surface on a real engine: through the gateway it answers as it does by itself.

Each request is sent twice, to the gateway for `support` and to the engine under the name that it
knows that version by: the answers are equal but for that name, ids and times.
"""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import APIStatusError, OpenAI

from tests.e2e.conftest import Demo, engine_processes

MESSAGES: Any = [{"role": "user", "content": "I lost my card, what now?"}]
SCHEMA: Any = {
    "type": "object",
    "properties": {"intent": {"enum": ["lost", "other"]}, "urgent": {"type": "boolean"}},
    "required": ["intent", "urgent"],
    "additionalProperties": False,
}
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
PARAMETERS: Any = {
    "type": "object",
    "properties": {"card": {"enum": ["debit", "credit"]}},
    "required": ["card"],
    "additionalProperties": False,
}
TOOL: Any = {
    "type": "function",
    "function": {"name": "block", "parameters": PARAMETERS, "strict": True},
}
NAMED: Any = {"type": "function", "function": {"name": "block"}}
# What differs between two answers to one request.
OWN = frozenset({"id", "created", "created_at", "item_id"})

CHATS: dict[str, Any] = {
    "plain": {},
    "n and seed": {"n": 3, "temperature": 0.9, "seed": 7},
    "logprobs": {"logprobs": True, "top_logprobs": 3},
    "stop and user": {"stop": ["."], "user": "ann"},
    "max_completion_tokens": {"max_tokens": None, "max_completion_tokens": 5},
    "logit_bias": {"logit_bias": {"42": 5}},
    "json_schema": {"response_format": FORMAT, "max_tokens": 60},
    "json_object": {"response_format": {"type": "json_object"}},
    "tools": {"tools": [TOOL], "tool_choice": "none"},
    # Refused by an engine without --tool-call-parser, as the demo's is.
    "a named tool": {"tools": [TOOL], "tool_choice": NAMED},
    "a required tool": {"tools": [TOOL], "tool_choice": "required"},
    "vLLM's own": {"top_k": 5, "min_tokens": 3, "return_token_ids": True, "prompt_logprobs": 1},
    "structured_outputs": {"structured_outputs": {"choice": ["yes", "no"]}},
    "no such temperature": {"temperature": 9},
    "too many tokens": {"max_tokens": 100_000},
    "no such schema": {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "x", "schema": {"type": "nonsense"}},
        }
    },
    "no messages": {"messages": "x"},
    "n of 0": {"n": 0},
}
COMPLETIONS: dict[str, Any] = {
    "plain": {},
    "n and seed": {"n": 2, "temperature": 0.9, "seed": 7},
    "logprobs": {"logprobs": 2},
    "echo": {"echo": True},
    "a list": {"prompt": ["Hello", "Goodbye"]},
    "tokens": {"prompt": [42, 478]},
    "suffix": {"suffix": "x"},
    "stop": {"stop": "."},
}
RESPONSES: dict[str, Any] = {
    "plain": {},
    "instructions": {"instructions": "Be brief."},
    "messages": {"input": MESSAGES},
    "a schema": {
        "text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}},
        "max_output_tokens": 60,
    },
    "metadata that looks like a name": {"metadata": {"model": "starter"}},
    "no input": {"input": 7},
}
OTHERS: dict[str, Any] = {
    "/tokenize": {"prompt": "Hello there", "return_token_strs": True},
    "/detokenize": {"tokens": [42, 478]},
}
CALLS = [
    *(("/v1/chat/completions", {"messages": MESSAGES}, name, CHATS[name]) for name in CHATS),
    *(("/v1/completions", {"prompt": "Hello"}, name, COMPLETIONS[name]) for name in COMPLETIONS),
    *(("/v1/responses", {"input": "Hello"}, name, RESPONSES[name]) for name in RESPONSES),
    *((path, {}, "", body) for path, body in OTHERS.items()),
]
STREAMS = [call for call in CALLS if call[2] in ("plain", "n and seed", "json_schema")]
# Whitespace is no choice of the model's here, as it is between the parts of an object.
CHOICE: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["a", "b"]}}}


@pytest.fixture(scope="module")
def engine(demo: Demo) -> str:
    """Where the demo's engine listens: on its own command line."""
    for pid in engine_processes(demo.hub.home):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        if "--served-model-name" in command:
            return f"http://127.0.0.1:{command[command.index('--port') + 1]}"
    pytest.fail("no engine is there")


@pytest.fixture(scope="module")
def name(demo: Demo, engine: str) -> str:
    """What the engine calls support@1."""
    body = {"model": "support@1", "prompt": "Hi", "max_tokens": 1}
    assert httpx.post(f"{demo.url}/v1/completions", json=body, timeout=60).status_code == 200
    models = httpx.get(f"{engine}/v1/models").json()["data"]
    (found,) = (model["id"] for model in models if model["id"].startswith("support@1#"))
    return str(found)


def less_own(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: less_own(inner) for key, inner in value.items() if key not in OWN}
    if isinstance(value, list):
        return [less_own(inner) for inner in value]
    return value


def asked(path: str, body: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    limit = {} if path in OTHERS else {"max_output_tokens": 24}
    if path.endswith("completions"):
        limit = {"max_tokens": 24}
    whole = {"temperature": 0, **limit, **body, **more}
    return {key: value for key, value in whole.items() if value is not None}


@pytest.mark.parametrize(
    ("path", "body", "what", "more"), CALLS, ids=[f"{path} {what}" for path, _, what, _ in CALLS]
)
def test_an_answer_is_the_engines_own(
    demo: Demo, engine: str, name: str, path: str, body: Any, what: str, more: Any
) -> None:
    """Status and body, refusals too; the engine's own name is nowhere in it."""
    sent = asked(path, body, more)
    ours = httpx.post(f"{demo.url}{path}", json={"model": "support@1", **sent}, timeout=120)
    own = httpx.post(f"{engine}{path}", json={"model": name, **sent}, timeout=120)
    assert ours.status_code == own.status_code
    assert name not in ours.text
    assert less_own(ours.json()) == less_own(json.loads(own.text.replace(name, "support@1")))
    if own.status_code == 200:
        assert ours.headers["x-hub-adapter"] == "support@1"


@pytest.mark.parametrize(
    ("path", "body", "what", "more"),
    STREAMS,
    ids=[f"{path} {what}" for path, _, what, _ in STREAMS],
)
def test_a_stream_says_the_same_as_the_engines_own(
    demo: Demo, engine: str, name: str, path: str, body: Any, what: str, more: Any
) -> None:
    """Put together: how many tokens an event holds depends on the moment. The ends are alike."""
    sent = {**asked(path, body, more), "stream": True}
    ours = httpx.post(f"{demo.url}{path}", json={"model": "support@1", **sent}, timeout=120)
    own = httpx.post(f"{engine}{path}", json={"model": name, **sent}, timeout=120)
    assert ours.headers["content-type"] == own.headers["content-type"]
    assert name not in ours.text
    assert said(ours.text) == said(own.text.replace(name, "support@1"))


def said(stream: str) -> Any:
    """What every choice says in all, its end, and the last event."""
    found: dict[Any, str] = {}
    ends: dict[int, Any] = {}
    last = ""
    for line in stream.splitlines():
        if not line.startswith("data: "):
            continue
        last = line.removeprefix("data: ")
        event = json.loads(last) if last != "[DONE]" else {}
        if isinstance(event.get("delta"), str):
            found[event["type"]] = found.get(event["type"], "") + event["delta"]
        for choice in event.get("choices", ()):
            index, delta = choice["index"], choice.get("delta") or {}
            text = choice.get("text") or delta.get("content") or ""
            found[index] = found.get(index, "") + text
            ends[index] = choice["finish_reason"] or ends.get(index)
        assert event.get("model", "support@1") == "support@1"
    assert found
    end = json.loads(last) if last != "[DONE]" else {}
    end.pop("sequence_number", None)  # it counts the events
    return found, ends, less_own(end)


def test_the_openai_client_gets_what_it_asks_of_a_real_engine(demo: Demo) -> None:
    """A schema is kept, and a seed gives the same choices again."""
    client = demo.openai()
    answer = client.chat.completions.create(
        model="support", messages=MESSAGES, response_format=CHOICE, max_tokens=8, temperature=0
    )
    assert json.loads(answer.choices[0].message.content or "") in ("a", "b")
    drawn = [
        client.chat.completions.create(
            model="support", messages=MESSAGES, n=3, seed=11, temperature=1, max_tokens=16
        )
        for _ in range(2)
    ]
    first, second = ([choice.message.content for choice in one.choices] for one in drawn)
    assert len(first) == 3
    assert first == second
    whole = client.responses.create(model="support", input="Hello", max_output_tokens=24)
    assert whole.model == "support@1"
    assert whole.output_text
    refused(client)


def refused(client: OpenAI) -> None:
    """Vectors are not for an engine of this kind, and stored responses for none."""
    with pytest.raises(APIStatusError) as absent:
        client.embeddings.create(model="support", input="Hello")
    assert absent.value.code == "endpoint_not_served"
    with pytest.raises(APIStatusError) as gone:
        client.responses.retrieve("resp_1")
    assert gone.value.code == "responses_not_stored"
