"""OpenTelemetry: each request as a span, and in it one for each thing that it waits for.

    POST /v1/chat/completions     the request; continues the client's `traceparent`
    ├── resolve                   from the name to a version
    ├── queue                     waiting for a turn
    ├── adapter                   waiting for the version to be in the engine
    ├── engine                    from sending to the first event, or to a whole answer
    └── stream                    from the first event to the last

A request that is tried again has several of `adapter` and `engine`. The engine gets the span
`engine` as its `traceparent`: vLLM's own spans, where it sends any, hang under it. Attributes
follow the semantic conventions for HTTP servers and for generative AI; `hub.version` is the exact
version. Neither prompts nor answers are in any.

Off unless OTEL_EXPORTER_OTLP_ENDPOINT (or …_TRACES_ENDPOINT) is set; then nothing of OpenTelemetry
is imported, and every call here does nothing. OTEL_SDK_DISABLED and OTEL_TRACES_EXPORTER=none turn
it off all the same; the SDK itself reads the other OTEL_ variables.

Absent on purpose: metrics and logs (`serve.metrics`, `serve.logs`), and the comparisons' requests.
"""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from hub.errors import InvalidConfig, MissingExtra
from hub.feedback.interactions import Interaction

Attributes: TypeAlias = Mapping[str, str | int | float | bool | list[str]]
Headers: TypeAlias = Iterable[tuple[bytes, bytes]]

_ON = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_HTTP = "http/protobuf"


class Stage:
    """A part of a request's time. This one is of no trace."""

    headers: Mapping[str, str] = {}

    def tell(self, attributes: Attributes) -> None:
        """Add to what is known of it."""


class Trace:
    """One request's spans. This one has none."""

    def stage(self, name: str) -> AbstractContextManager[Stage]:
        """A span around what is done in the block; an error that leaves it is noted.

        The stage's `headers` continue the trace elsewhere.
        """
        return _NO_STAGE

    def asked(self, endpoint: str, body: Mapping[str, Any]) -> None:
        """What the request wants."""

    def answered(
        self, interaction: Interaction, model: str, status: int, finish_reasons: list[str]
    ) -> None:
        """How it ended; `model` is what the answer calls itself."""

    def refused(self, status: int, code: str) -> None:
        """It ended before it was known what should answer it."""


class Traces:
    """Off. `on_from` makes those that are on."""

    def request(self, path: str, headers: Headers) -> AbstractContextManager[Trace]:
        """The trace of a POST to `path`, which ends with the block."""
        return _NO_TRACE

    def close(self, limit_s: float) -> None:
        """Send what is left, for so long at most."""


_NO_STAGE = nullcontext(Stage())
UNTRACED = Trace()
_NO_TRACE = nullcontext(UNTRACED)


def traces_from(environ: Mapping[str, str]) -> Traces:
    """As the standard environment variables say.

    Raises:
        MissingExtra: when they want traces and OpenTelemetry is not installed.
        InvalidConfig: when they want another protocol than HTTP with protobuf, or name an endpoint
            that is no http or https address.
    """
    if not _wanted(environ):
        return Traces()
    for name in _ON:
        if environ.get(name) and not _is_address(environ[name]):
            raise InvalidConfig(
                [f"{name} is {environ[name]!r}: give an address like http://localhost:4318"],
                where="OpenTelemetry's environment variables",
            )
    protocol = next((environ[name] for name in _PROTOCOLS if environ.get(name)), _HTTP)
    if protocol != _HTTP:
        raise InvalidConfig(
            [f"{_PROTOCOLS[1]} is '{protocol}': traces are sent with {_HTTP} only"],
            where="OpenTelemetry's environment variables",
        )
    try:
        from serve.spans import SpanTraces
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"OTEL_EXPORTER_OTLP_ENDPOINT is set and '{error.name}' is not installed",
            hint="Run `uv pip install 'lora-loom[otel]'`, or set OTEL_SDK_DISABLED=true.",
        ) from error
    return SpanTraces(environ)


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that don't close, a port that is no number
        return False


def _wanted(environ: Mapping[str, str]) -> bool:
    off = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
    return not off and exporter == "otlp" and any(environ.get(name) for name in _ON)
