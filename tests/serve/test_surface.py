"""Every call of vLLM's that passes, treated alike: named, leased, retried, aborted, logged."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from serve.requests import refusals, sse
from serve.requests.answer_items import Items
from serve.requests.figures import Figures
from serve.requests.surface import ROUTES
from tests.serve.conftest import MESSAGES, Gateway, Publish, until
from tests.serve.engine_double import EngineDouble
from tests.serve.engine_shapes import CALL, TEXTS, TOKENS, VECTORS

PATHS = sorted(ROUTES)
RESPONSES = "/v1/responses"
TOOLS: list[Any] = [{"type": "function", "function": {"name": "look_up", "parameters": {}}}]

Body = dict[str, Any]


def body_for(path: str, **more: Any) -> Body:
    """One that vLLM takes, for any of the paths."""
    needs: dict[str, Body] = {
        "chat": {"messages": MESSAGES},
        "completions": {"prompt": "Hello"},
        "responses": {"input": "Hello"},
        "tokenize": {"prompt": "Hello"},
        "detokenize": {"tokens": [1, 2]},
        "score": {"queries": "Hello", "documents": ["a"]},
        "rerank": {"query": "Hello", "documents": ["a"]},
    }
    return {"model": "support", **needs.get(ROUTES[path], {"input": ["Hello", "you"]}), **more}


def _engine_for(double: EngineDouble, path: str) -> None:
    """Make it one that has this call."""
    double.runner = "pooling" if path in VECTORS else "generate"


def _direct(double: EngineDouble, path: str, body: Body) -> bytes:
    """The engine's own bytes for a body."""
    return httpx.post(f"{double.url}{path}", json=body).content


# -- each of them ----------------------------------------------------------------------------------


async def test_each_call_answers_in_the_engines_bytes_for_the_version(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """The adapter is loaded and asked, `model` is the version, headers, log and metrics know it."""
    version = published("acme/support")
    field = b'"model":"%s"' % version.engine_name.encode()
    for path in PATHS:
        _engine_for(double, path)
        asked = body_for(path, model="acme/support@1", user="ann", unknown=[1, {"model": "x"}])
        answer = await gateway.http.post(path, json=asked)
        named = {**asked, "model": version.engine_name}
        assert double.asked[-1] == named
        own = _direct(double, path, named)
        assert answer.status_code == 200
        assert answer.content == own.replace(field, b'"model":"acme/support@1"')
        assert field in own or path in TOKENS
        assert answer.headers["x-hub-adapter"] == "acme/support@1"
        assert answer.headers["x-hub-digest"] == f"sha256:{version.digest}"
        entry = gateway.logged()[0]
        assert entry.id == answer.headers["x-hub-interaction-id"]
        assert (entry.endpoint, entry.adapter) == (ROUTES[path], "acme/support@1")
        assert (entry.status, json.loads(entry.request)) == ("complete", asked)
        assert gateway.residency.residents()[0].leases == 0
    metrics = (await gateway.http.get("/metrics")).text
    for endpoint in ROUTES.values():
        assert f'adapter="acme/support",endpoint="{endpoint}",status="200"' in metrics


async def test_each_call_is_tried_again_and_refused_in_the_engines_words(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """A dropped connection costs the client nothing; 400 passes without the engine's own name."""
    published("support")
    for path in PATHS:
        _engine_for(double, path)
        before = len(double.asked)
        double.faults = ["die"]
        assert (await gateway.http.post(path, json=body_for(path))).status_code == 200
        assert len(double.asked) == before + 2
        double.faults = ["refuse"]
        refused = await gateway.http.post(path, json=body_for(path))
        assert refused.status_code == 400
        assert refused.json()["error"]["message"] == "`support@1` takes 16 tokens at most"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_frees_engine_and_lease_of_each_call(
    gateway: Gateway, published: Publish, double: EngineDouble, stream: bool
) -> None:
    """The engine's request is aborted at once, the lease is given back, the record is kept."""
    published("support")
    paths = TEXTS if stream else PATHS
    for count, path in enumerate(paths, 1):
        _engine_for(double, path)
        double.hold.clear()
        asked = body_for(path, **({"stream": True} if stream else {}))
        asking = asyncio.create_task(gateway.http.post(path, json=asked))
        await until(lambda count=count: len(double.asked) == count)
        await until(lambda: not stream or double.streaming)
        assert gateway.residency.residents()[0].leases == 1
        asking.cancel()
        await until(lambda count=count: double.aborted == count)
        entry = (await gateway.logged_soon(count))[0]
        assert (entry.endpoint, entry.status) == (ROUTES[path], "incomplete")
        assert entry.error == "the client went away"
        assert gateway.residency.residents()[0].leases == 0
        assert gateway.parts.admission.inside == 0
        double.hold.set()


async def test_a_call_that_the_engine_has_not_got_is_a_404_that_says_so(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """OpenAI's shape rather than a web framework's; what every engine has is there for both."""
    published("support")
    for path in PATHS:
        double.runner = "generate" if path in VECTORS else "pooling"
        answer = await gateway.http.post(path, json=body_for(path))
        if path in TOKENS:
            assert answer.status_code == 200
            continue
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (404, "endpoint_not_served")
        assert "text or with vectors" in error["message"]
        assert gateway.logged()[0].status == "failed"


async def test_responses_are_not_stored_and_that_is_said(gateway: Gateway) -> None:
    """404, as for every response that is not there."""
    for method, rest in (
        ("GET", "resp_1"),
        ("DELETE", "resp_1"),
        ("GET", "resp_1/input_items"),
        ("POST", "resp_1/cancel"),
    ):
        content = {"json": {}} if method == "POST" else {}
        answer = await gateway.http.request(method, f"{RESPONSES}/{rest}", **content)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (404, "responses_not_stored")


async def test_what_could_not_be_used_is_refused_before_the_engine(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """A response in one engine's memory, vectors whose shapes are in a header: 400, by name."""
    published("support")
    for path, field, value in (
        (RESPONSES, "background", True),
        (RESPONSES, "previous_response_id", "resp_1"),
        ("/v1/embeddings", "encoding_format", "bytes"),
        ("/pooling", "encoding_format", "bytes"),
    ):
        answer = await gateway.http.post(path, json=body_for(path, **{field: value}))
        assert answer.status_code == 400
        assert f"'{field}'" in answer.json()["error"]["message"]
    assert not double.asked


async def test_what_is_absent_is_a_plain_404(gateway: Gateway) -> None:
    """In OpenAI's shape."""
    for path in ("/v1/audio/transcriptions", "/v1/messages", "/v2/embed", "/v1/tokenize"):
        answer = await gateway.http.post(path, json={"model": "base"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found"), path


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"object":"error","message":"no","type":"BadRequest","param":null,"code":400}', "no"),
        (b'{"detail":"no"}', "no"),
        (b"<html>no</html>", "<html>no</html>"),
        (b'{"error":"no"}', "no"),
    ],
)
def test_other_engines_errors_come_in_openais_shape(body: bytes, message: str) -> None:
    """SGLang's, FastAPI's, and what is no JSON."""
    error = json.loads(refusals.in_openais_shape(400, body))["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["message"], error["code"]) == (message, 400)


# -- what is kept of an answer ---------------------------------------------------------------------


async def test_vectors_are_not_logged(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """That there was an embedding, how much of it, and its tokens; never the numbers."""
    published("support")
    double.runner = "pooling"
    await gateway.http.post("/v1/embeddings", json=body_for("/v1/embeddings"))
    await gateway.http.post("/rerank", json=body_for("/rerank"))
    ranked, embedded = gateway.logged()
    kept = json.loads(embedded.response)
    assert set(kept) == {"bytes", "usage"}
    assert (embedded.answer, embedded.prompt_tokens, embedded.completion_tokens) == ("", 3, 0)
    assert json.loads(ranked.response)["results"][0]["relevance_score"] == 0.5
    assert "#" not in ranked.response


def test_a_batch_of_vectors_is_not_even_parsed() -> None:
    """Its usage is read from its end, where vLLM writes it; without one there is none."""
    made = Figures(keep=False)
    row = {"index": 0, "object": "embedding", "embedding": [0.123456789] * 1000}
    usage = {"prompt_tokens": 9, "total_tokens": 9, "prompt_tokens_details": None}
    whole = json.dumps({"data": [row] * 20, "usage": usage}).encode()
    made.add_body(whole)
    assert made.prompt_tokens == 9
    assert json.loads(made.response) == {"bytes": len(whole), "usage": usage}
    other = Figures(keep=False)
    other.add_body(json.dumps({"usage": usage, "data": [row] * 20}).encode())
    assert other.prompt_tokens is None


@pytest.mark.parametrize("stream", [False, True])
async def test_every_choice_and_tool_call_is_logged(
    gateway: Gateway, published: Publish, stream: bool
) -> None:
    """n>1 and tools, whole and put together from a stream's pieces."""
    published("support")
    await gateway.chat("support", n=2, stream=stream)
    await gateway.chat("support", tools=TOOLS, stream=stream)
    called, chosen = (json.loads(entry.response)["choices"] for entry in gateway.logged())
    texts = [choice["message"]["content"].strip() for choice in chosen]
    assert len(texts) == 2
    assert texts[1] == f"{texts[0]} (1)"
    (call,) = called[0]["message"]["tool_calls"]
    assert (call["id"], call["function"]) == ("call-1", CALL)
    assert called[0]["finish_reason"] == "tool_calls"


# -- streams of /v1/responses ----------------------------------------------------------------------


async def test_a_responses_stream_is_the_engines_own_and_is_committed_before_its_end(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """Byte for byte but for the nested `model`; its last event is `response.completed`."""
    name = published("support").engine_name
    asked = body_for(RESPONSES, stream=True, metadata={"model": "mine"})
    async with gateway.http.stream("POST", RESPONSES, json=asked) as answer:
        received = b""
        async for event in sse.events(answer.aiter_bytes()):
            if sse.is_last(event):
                entry = gateway.logged()[0]
            received += event
    own = _direct(double, RESPONSES, {**asked, "model": name})
    field = b'"model":"%s"' % name.encode()
    assert own.count(field) == 3
    assert received == own.replace(field, b'"model":"support@1"')
    assert received.rstrip().split(b"\n")[-2] == b"event: response.completed"
    assert (entry.status, entry.prompt_tokens, entry.completion_tokens) == ("complete", 3, 7)
    assert entry.answer.startswith("answered by support@1#")
    assert json.loads(entry.response)["output"][0]["content"][0]["text"] == entry.answer
    assert entry.ttft_ms is not None


@pytest.mark.parametrize("fault", ["cut", "cut_late", "no_done"])
async def test_a_responses_stream_that_breaks_ends_with_the_error_event(
    gateway: Gateway, published: Publish, double: EngineDouble, fault: str
) -> None:
    """Defined and retryable, in OpenAI's own shape of an error event too; what came is logged."""
    published("support")
    double.faults = [fault]
    received = await gateway.stream("support", RESPONSES, input="Hello")
    *others, last = [part for part in received.split(b"\n\n") if part]
    name, data = last.split(b"\n")
    event = json.loads(data.removeprefix(b"data: "))
    before = json.loads(sse.data_of(others[-1]))
    assert name == b"event: error"
    assert (event["type"], event["code"]) == ("error", "engine_interrupted")
    assert event["sequence_number"] == before["sequence_number"] + 1
    assert event["error"]["type"] == "engine_interrupted"
    assert event["error"]["retryable"] is True
    entry = gateway.logged()[0]
    assert entry.status == "incomplete"
    if fault != "cut":
        assert entry.answer.startswith("answered by")
    assert gateway.residency.residents()[0].leases == 0


async def test_a_responses_stream_that_breaks_before_it_says_anything_is_tried_again(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """vLLM sends two events before it begins to work: they wait for what follows them."""
    published("support")
    double.faults = ["cut_opening"]
    received = await gateway.stream("support", RESPONSES, input="Hello")
    assert b"event: response.completed" in received
    assert received.count(b"event: response.created") == 1
    assert [entry.status for entry in gateway.logged()] == ["complete"]


def test_a_response_that_was_cut_off_keeps_what_it_had() -> None:
    """Texts, a function's arguments and reasoning, begun and not ended; and why it was cut."""
    made = Items()

    def say(kind: str, **more: Any) -> str:
        return made.add_data(json.dumps({"type": kind, **more}).encode())

    added = "response.output_item.added"
    say(added, output_index=0, item={"type": "reasoning", "id": "r"})
    assert say("response.reasoning_text.delta", output_index=0, delta="hm") == ""
    say(added, output_index=1, item={"type": "message", "content": []})
    assert say("response.output_text.delta", output_index=1, delta="Hel") == "Hel"
    assert say("response.output_text.delta", output_index=1, delta="lo") == "lo"
    say(added, output_index=2, item={"type": "function_call", "name": "f", "arguments": ""})
    say("response.function_call_arguments.delta", output_index=2, delta='{"x"')
    reasoning, message, call = json.loads(made.response)["output"]
    assert reasoning["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert message["content"][0]["text"] == made.answer == "Hello"
    assert call["arguments"] == '{"x"'
    for data in (b"", b"[]", b'{"output_index":"x"}', b'{"response":3,"delta":1,"output_index":1}'):
        made.add_data(data)
    say("response.failed", response={"error": {"message": "no"}, "output": []})
    assert (made.reason, made.answer) == ("no", "Hello")
