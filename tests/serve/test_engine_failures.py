"""An engine that fails before the first byte costs time; after it, the client is told."""

import asyncio
import json

import pytest

from serve.engines.base import EngineState
from serve.requests import sse
from tests.serve.conftest import MESSAGES, Gateway, Publish, until
from tests.serve.engine_double import EngineDouble


@pytest.mark.parametrize("fault", ["die", "empty", "unavailable"])
@pytest.mark.parametrize("stream", [False, True])
async def test_what_fails_before_the_first_byte_is_tried_again(
    gateway: Gateway, published: Publish, double: EngineDouble, fault: str, stream: bool
) -> None:
    """The client sees one good answer, and one interaction is logged."""
    published("support")
    double.faults = [fault]
    answer = await gateway.chat("support", stream=stream)
    assert answer.status_code == 200
    assert b"answered" in answer.content
    assert len(double.asked) == 2
    assert [entry.status for entry in gateway.logged()] == ["complete"]


async def test_a_request_that_always_kills_is_given_up(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """503 with Retry-After after three tries: it must not kill engine after engine."""
    published("support")
    double.faults = ["die"] * 9
    answer = await gateway.chat("support")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "engine_unavailable"
    assert answer.headers["retry-after"]
    assert len(double.asked) == 3
    assert [entry.status for entry in gateway.logged()] == ["failed"]


@pytest.mark.parametrize("fault", ["cut", "core_died", "no_done"])
async def test_a_stream_cut_off_ends_with_a_retryable_error_event(
    gateway: Gateway, published: Publish, double: EngineDouble, fault: str
) -> None:
    """Its last event is ours, nothing follows it, and the interaction is logged as incomplete."""
    published("support")
    double.faults = [fault]
    received = await gateway.stream("support")
    events = received.split(b"\n\n")
    assert events.pop() == b""
    error = json.loads(sse.data_of(events[-1]))["error"]
    assert error["type"] == error["code"] == "engine_interrupted"
    assert error["retryable"] is True
    assert b"[DONE]" not in received
    assert b"#" not in events[-1]
    entry = gateway.logged()[0]
    assert entry.status == "incomplete"
    assert entry.answer.startswith("answered")
    assert gateway.residency.residents()[0].leases == 0


async def test_a_restart_forgets_what_was_loaded(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """A request that meets the dead engine waits for its next life, and loads the adapter anew."""
    published("support")
    await gateway.chat("support")
    generation = gateway.engine.generation
    double.health, double.faults = 503, ["unavailable"]
    waiting = asyncio.create_task(gateway.chat("support"))
    await until(lambda: gateway.engine.state is not EngineState.READY)
    assert (await gateway.http.get("/ready")).status_code == 503
    assert (await gateway.http.get("/health")).status_code == 200
    double.restart()
    assert (await waiting).status_code == 200
    assert gateway.engine.generation == generation + 1
    assert len(double.loads) == 2
    assert (await gateway.http.get("/ready")).status_code == 200


async def test_an_engine_that_forgot_an_adapter_gets_it_again(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """A restart too quick to be seen, or somebody else's unload: one load more, no failure."""
    published("support")
    await gateway.chat("support")
    double.loaded.clear()
    assert (await gateway.chat("support")).status_code == 200
    assert len(double.loads) == 2


async def test_a_client_that_leaves_frees_its_lease_and_the_engine(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """The engine's request is aborted at once, the lease is given back, the record is kept."""
    published("support")
    double.hold.clear()
    body = {"model": "support", "messages": MESSAGES, "stream": True}
    async with gateway.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        await anext(answer.aiter_bytes())
        assert gateway.residency.residents()[0].leases == 1
    (entry,) = await gateway.logged_soon()
    assert (entry.status, entry.error) == ("incomplete", "the client went away")
    assert gateway.residency.residents()[0].leases == 0
    assert gateway.parts.admission.inside == 0
    await until(lambda: double.aborted)


async def test_a_client_that_leaves_before_any_byte_is_let_go_too(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """Not streaming, nothing sent yet: still noticed."""
    published("support")
    double.hold.clear()
    asking = asyncio.create_task(gateway.chat("support"))
    await until(lambda: double.asked)
    asking.cancel()
    (entry,) = await gateway.logged_soon()
    assert entry.status == "incomplete"
    assert gateway.residency.residents()[0].leases == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_a_hung_engine_keeps_nobody_for_ever(
    gateway: Gateway, published: Publish, double: EngineDouble, stream: bool
) -> None:
    """Requests stuck in an engine that is given up end: retried, or with the error event."""
    published("support")
    double.hold.clear()
    stuck = asyncio.create_task(gateway.chat("support", stream=stream))
    await until(lambda: double.asked)
    await asyncio.sleep(0.1)
    double.health = 503
    await until(lambda: gateway.engine.state is not EngineState.READY)
    double.hold.set()
    double.restart()
    answer = await asyncio.wait_for(stuck, 10)
    assert answer.status_code == 200
    if stream:
        assert b"engine_interrupted" in answer.content
    else:
        assert answer.json()["model"] == "support@1"


async def test_a_client_cannot_have_an_adapter_forgotten(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """What a refusal repeats of a request is not taken for the engine's own words: asked once,
    answered with the refusal, and the adapter is still there."""
    published("support")
    await gateway.chat("support")
    double.faults = ["invalid"]
    words = "The following requested LoRA adapters are not loaded: support"
    answer = await gateway.chat("support", temperature=words)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]
    assert len(double.asked) == 2
    assert len(double.loads) == 1
    assert [resident.state for resident in gateway.residency.residents()] == ["loaded"]


async def test_a_refused_load_says_neither_folder_nor_inner_name(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """vLLM's words name both; the answer and the log have the reason without them."""
    name = published("support").engine_name
    folder = str(gateway.home.adapters)
    double.load_refusal = "Loading lora {name} failed: No adapter found for {path}"
    answer = await gateway.chat("support")
    assert answer.status_code == 502
    for told in (answer.text, str(gateway.logged()[0].error)):
        assert "Loading lora support@1 failed: No adapter found for its folder" in told
        assert name not in told
        assert folder not in told
