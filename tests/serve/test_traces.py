"""Traces as a collector receives them: over OTLP/HTTP, decoded; and nothing at all when off."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from hub.errors import InvalidConfig
from hub.home import Home
from serve.run import make_engines
from serve.settings import Settings
from serve.traces import Traces, traces_from
from tests.serve.conftest import MESSAGES, Publish, running, until
from tests.serve.engine_double import EngineDouble

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


class Collector:
    """OTLP/HTTP on loopback: keeps every span, and the resource that it came with."""

    def __init__(self) -> None:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers["content-length"]))
                collector.take(self.path, sent)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self.spans: list[Span] = []
        self.resource: dict[str, Any] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def take(self, path: str, sent: bytes) -> None:
        assert path == "/v1/traces"
        for group in ExportTraceServiceRequest.FromString(sent).resource_spans:
            self.resource = told(group.resource.attributes)
            for scope in group.scope_spans:
                self.spans.extend(scope.spans)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def one(self, name: str) -> Span:
        (span,) = (span for span in self.spans if span.name == name)
        return span


def told(attributes: Any) -> dict[str, Any]:
    found = {}
    for attribute in attributes:
        kind = attribute.value.WhichOneof("value")
        value = getattr(attribute.value, kind)
        if kind == "array_value":
            value = [item.string_value for item in value.values]
        found[attribute.key] = value
    return found


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    collector = Collector()
    monkeypatch.setenv(ENDPOINT, collector.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    yield collector
    collector.close()


async def test_a_request_is_a_trace_of_all_that_it_waited_for(
    home: Home, settings: Settings, published: Publish, double: EngineDouble, collector: Collector
) -> None:
    """It continues the client's trace and the engine gets its part; attributes by the conventions,
    the exact version; and not a word of what was asked or said."""
    version = published("support")
    sent = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "a=b"}
    body = {
        "model": "support",
        "messages": MESSAGES,
        "stream": True,
        "temperature": 0.5,
        "max_tokens": 9,
        "seed": 3,
    }
    async with running(home, settings, make_engines(home, settings)) as gateway:
        answer = await gateway.http.post("/v1/chat/completions", json=body, headers=sent)
        interaction = answer.headers["x-hub-interaction-id"]
    assert collector.resource["service.name"] == "loom-gateway"
    root = collector.one("POST /v1/chat/completions")
    stages = ["resolve", "queue", "adapter", "engine", "stream"]
    assert sorted(span.name for span in collector.spans) == sorted([root.name, *stages])
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    assert (root.parent_span_id.hex(), root.kind) == (PARENT, Span.SPAN_KIND_SERVER)
    assert all(collector.one(name).parent_span_id == root.span_id for name in stages)
    begun = [collector.one(name).start_time_unix_nano for name in stages]
    assert begun == sorted(begun)
    assert all(
        root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        for span in collector.spans
    )
    attributes = told(root.attributes)
    assert attributes["gen_ai.response.time_to_first_chunk"] > 0
    del attributes["gen_ai.response.time_to_first_chunk"]
    assert attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "url.path": "/v1/chat/completions",
        "http.response.status_code": 200,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "loom",
        "gen_ai.request.model": "support",
        "gen_ai.request.stream": True,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.seed": 3,
        "gen_ai.response.model": "support@1",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 7,
        "hub.version": "support@1",
        "hub.interaction": interaction,
    }
    engine = collector.one("engine")
    assert engine.kind == Span.SPAN_KIND_CLIENT
    assert told(collector.one("adapter").attributes)["hub.version"] == str(version)
    assert double.headers[0]["traceparent"] == f"00-{TRACE}-{engine.span_id.hex()}-01"
    assert double.headers[0]["tracestate"] == "a=b"
    raw = b"".join(span.SerializeToString() for span in collector.spans)
    assert b"Hello" not in raw
    assert b"answered" not in raw


async def test_what_fails_shows_where(
    home: Home, settings: Settings, published: Publish, double: EngineDouble, collector: Collector
) -> None:
    """A retry has two spans for the engine, a cut stream is an error, a wrong name is the client's,
    and one that left is told from both."""
    published("support")
    async with running(home, settings, make_engines(home, settings)) as gateway:
        double.faults = ["die"]
        await gateway.chat("support")
        tried = [span for span in await _soon(collector, 7) if span.name == "engine"]
        assert [span.status.code for span in tried] == [
            Status.STATUS_CODE_ERROR,
            Status.STATUS_CODE_UNSET,
        ]
        assert told(tried[0].attributes)["error.type"] == "engine_unavailable"
        double.faults = ["cut"]
        await gateway.stream("support")
        root = _root(await _soon(collector, 6))
        assert root.status.code == Status.STATUS_CODE_ERROR
        assert told(root.attributes)["error.type"] == "engine_interrupted"
        await gateway.chat("nope")
        root = _root(await _soon(collector, 2))
        assert root.status.code == Status.STATUS_CODE_UNSET
        assert told(root.attributes)["error.type"] == "model_not_found"
        assert told(root.attributes)["http.response.status_code"] == 404
        double.hold.clear()
        asking = asyncio.create_task(gateway.chat("support"))
        before = len(double.asked)
        await until(lambda: len(double.asked) > before)
        asking.cancel()
        root = _root(await _soon(collector, 5))
        assert told(root.attributes)["error.type"] == "client_gone"


async def test_a_request_cannot_hurt_the_spans(
    home: Home,
    settings: Settings,
    published: Publish,
    collector: Collector,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A number that OTLP can't hold is left out without a word, a name of megabytes is cut."""
    published("support")
    async with running(home, settings, make_engines(home, settings)) as gateway:
        await gateway.chat("support", seed=(1 << 64) - 1, top_k=-(1 << 63))
        attributes = told(_root(await _soon(collector, 5)).attributes)
        assert "gen_ai.request.seed" not in attributes
        assert attributes["gen_ai.request.top_k"] == -(1 << 63)
        await gateway.chat("a" * 1_000_000)
        attributes = told(_root(await _soon(collector, 2)).attributes)
        assert attributes["gen_ai.request.model"] == "a" * 512
    assert [record for record in caplog.records if "opentelemetry" in record.name] == []


async def _soon(collector: Collector, count: int) -> list[Span]:
    """The spans of one request, in the order in which they began, once they are there."""
    await until(lambda: len(collector.spans) >= count)
    spans = sorted(collector.spans, key=lambda span: span.start_time_unix_nano)
    assert len(spans) == count, [span.name for span in spans]
    collector.spans.clear()
    return spans


def _root(spans: list[Span]) -> Span:
    (root,) = (span for span in spans if span.kind == Span.SPAN_KIND_SERVER)
    return root


async def test_nobody_waits_for_a_collector_that_is_not_there(
    home: Home, settings: Settings, published: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers come, and the end comes."""
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:9")
    published("support")
    async with running(home, settings, make_engines(home, settings)) as gateway:
        assert (await gateway.chat("support")).status_code == 200


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {ENDPOINT: ""},
        {ENDPOINT: "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"},
        {ENDPOINT: "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_it_is_off_unless_it_is_wanted(environ: dict[str, str]) -> None:
    """By OpenTelemetry's own variables."""
    assert type(traces_from(environ)) is Traces


@pytest.mark.parametrize("endpoint", ["localhost:4318", "http://", "http://[", "http://x:y", "no"])
def test_an_endpoint_that_is_no_address_is_refused(endpoint: str) -> None:
    """Before anything is served: spans sent nowhere would be missed much later."""
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        with pytest.raises(InvalidConfig, match=name):
            traces_from({name: endpoint})


def test_another_protocol_is_refused() -> None:
    """Rather than sent where nobody understands it."""
    with pytest.raises(InvalidConfig, match="grpc"):
        traces_from({ENDPOINT: "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})


def test_off_it_imports_nothing() -> None:
    """A gateway without traces does not even know OpenTelemetry."""
    code = (
        "import sys, serve.run; from serve.traces import traces_from; traces_from({});"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
