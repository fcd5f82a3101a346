"""Traces that are on: OpenTelemetry's SDK behind `serve.traces`, sending OTLP over HTTP.

Spans are handed to a thread of the SDK's, which sends them in batches; when it can't keep up or
nobody listens, spans are dropped, and requests never wait. Parents are passed on explicitly rather
than through the SDK's context variables: a request's stages open and close in several generators.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from hub.errors import HubError
from hub.feedback.interactions import Interaction
from serve.metrics import CLIENT_GONE
from serve.traces import Attributes, Headers, Stage, Trace, Traces

_SERVICE = "loom-gateway"
_W3C = TraceContextTextMapPropagator()
_CARRIERS = frozenset({b"traceparent", b"tracestate"})
# No reference is longer. What is no reference may be megabytes, and thousands of spans wait.
_MODEL_MOST = 512
_OPERATIONS = {
    "chat": "chat",
    "completions": "text_completion",
    "responses": "chat",
    "embeddings": "embeddings",
}
# A request's field, and what the conventions call it. The first that is there counts.
_ASKED = {
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "max_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "n": "gen_ai.request.choice.count",
}


class SpanTraces(Traces):
    def __init__(self, environ: Mapping[str, str]) -> None:
        named = environ.get("OTEL_SERVICE_NAME") or "service.name=" in environ.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        )
        version = metadata.version("lora-loom")
        own = {"service.version": version} | ({} if named else {"service.name": _SERVICE})
        self._provider = TracerProvider(resource=Resource.create(own), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("loom", version)

    @contextmanager
    def request(self, path: str, headers: Headers) -> Iterator[Trace]:
        carried = {
            name.decode(): value.decode("latin-1") for name, value in headers if name in _CARRIERS
        }
        span = self._tracer.start_span(
            f"POST {path}",
            _W3C.extract(carried, Context()),
            SpanKind.SERVER,
            {"http.request.method": "POST", "http.route": path, "url.path": path},
        )
        try:
            yield _SpanTrace(self._tracer, span)
        finally:
            span.end()

    def close(self, limit_s: float) -> None:
        # Its own limit is half a minute, and longer than that where nobody listens.
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(limit_s)


class _SpanTrace(Trace):
    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span
        self._within = set_span_in_context(span, Context())

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        kind = SpanKind.CLIENT if name == "engine" else SpanKind.INTERNAL
        span = self._tracer.start_span(name, self._within, kind)
        try:
            yield _SpanStage(span)
        except BaseException as error:  # also a cancelled request; it goes on
            span.set_attribute("error.type", _kind(error))
            span.set_status(Status(StatusCode.ERROR, str(error)))
            raise
        finally:
            span.end()

    def asked(self, endpoint: str, body: Mapping[str, Any]) -> None:
        told: dict[str, Any] = {
            "gen_ai.operation.name": _OPERATIONS.get(endpoint, endpoint),
            # Whom the client asked: what stands behind is told by the stages.
            "gen_ai.provider.name": "loom",
            "gen_ai.request.model": body["model"][:_MODEL_MOST],
        }
        for field, name in _ASKED.items():
            value = body.get(field)
            if isinstance(value, int | float) and not isinstance(value, bool) and _fits(value):
                told.setdefault(name, value)
        if body.get("stream") is True:
            told["gen_ai.request.stream"] = True
        self._span.set_attributes(told)

    def answered(
        self, interaction: Interaction, model: str, status: int, finish_reasons: list[str]
    ) -> None:
        told: dict[str, Any] = {
            "hub.version": interaction.adapter,
            "hub.interaction": interaction.id,
            "gen_ai.response.model": model,
            "http.response.status_code": status,
        }
        if finish_reasons:
            told["gen_ai.response.finish_reasons"] = finish_reasons
        for name, count in (
            ("gen_ai.usage.input_tokens", interaction.prompt_tokens),
            ("gen_ai.usage.output_tokens", interaction.completion_tokens),
        ):
            if count is not None:
                told[name] = count
        if interaction.ttft_ms is not None:
            told["gen_ai.response.time_to_first_chunk"] = interaction.ttft_ms / 1000
        self._span.set_attributes(told)
        if interaction.status == "incomplete":
            self._fail(status, "client_gone" if status == CLIENT_GONE else "engine_interrupted")
        elif interaction.status == "failed":
            self._fail(status, str(status))

    def refused(self, status: int, code: str) -> None:
        self._span.set_attribute("http.response.status_code", status)
        self._fail(status, code)

    def _fail(self, status: int, kind: str) -> None:
        self._span.set_attribute("error.type", kind)
        # The conventions: what the client did wrong is no error of the server's.
        if not 400 <= status < 500:
            self._span.set_status(Status(StatusCode.ERROR))


class _SpanStage(Stage):
    def __init__(self, span: Span) -> None:
        self._span = span
        self.headers = headers = dict[str, str]()
        _W3C.inject(headers, set_span_in_context(span, Context()))

    def tell(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)


def _fits(value: float) -> bool:
    """OTLP's integers have 64 bits with a sign; JSON's may have one more here."""
    return isinstance(value, float) or -(1 << 63) <= value < 1 << 63


def _kind(error: BaseException) -> str:
    code = error.code if isinstance(error, HubError) else None
    return code or type(error).__name__
