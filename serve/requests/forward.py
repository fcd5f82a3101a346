"""A client's OpenAI request, passed to the engine and back untouched but for `model`.

The body is not validated beyond being a JSON object with a text in `model`: vLLM does that, and
knows more fields than any copy of its schema would. In the answer, `model` becomes the exact public
version; every other byte stays. (A stream is asked for its usage in any case, for the log: see
`serve.requests.usage`.) The interaction is committed before the client sees the end of its
answer (the last byte of a body, a stream's last event), and never before its first token.

A stream that breaks after its first byte ends with one event, and nothing after it:

    data: {"error": {"message": …, "type": "engine_interrupted", "code": "engine_interrupted",
                     "param": null, "retryable": true}}

In a stream of /v1/responses, whose events have names and types, it has both as well.

A request that is refused because too many wait is counted but not logged as an interaction: a flood
would fill the log with what nobody answered.
"""

import asyncio
import re
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

import orjson

from hub.errors import EndpointNotServed, EngineUnavailable, HubError, Overloaded, UsageError
from hub.feedback.interactions import Interaction
from serve.journal import Journal
from serve.metrics import CLIENT_GONE, Metrics
from serve.requests import refusals, sse
from serve.requests.admission import Admission
from serve.requests.answer_items import Items
from serve.requests.bodies import with_values
from serve.requests.dispatch import Dispatcher, Reply
from serve.requests.draft import Draft
from serve.requests.running import Answering, Running
from serve.requests.surface import RESPONSES, VECTORS, WITH_STREAM_OPTIONS
from serve.requests.usage import UsageHidden, asking_for_usage
from serve.resolver import Arm, Resolver
from serve.traces import Trace, Traces

Notes = MutableMapping[str, Any]

# Inside a JSON text every quote is escaped, so this can only be a real key and its value. One
# pattern for all names: one for each would be compiled anew where there are hundreds.
_MODEL = re.compile(rb'("model"\s*:\s*)("(?:[^"\\]|\\.)*")')


class Forwarder:
    def __init__(
        self,
        resolver: Resolver,
        dispatcher: Dispatcher,
        journal: Journal,
        admission: Admission,
        metrics: Metrics,
        traces: Traces,
    ) -> None:
        self.traces = traces
        self._resolver = resolver
        self._dispatcher = dispatcher
        self._journal = journal
        self._admission = admission
        self._metrics = metrics

    def answer(self, path: str, endpoint: str, raw: bytes, notes: Notes, trace: Trace) -> Running:
        """The response to a body sent to `path`, which is `endpoint` in `serve.requests.surface`;
        `notes` are for the log line, `trace` is the request's.

        Raises:
            UsageError: when the body is not an object that names a model.
            UnknownReference: when the model is not one of ours. And all that `Dispatcher.send` does
                when the response runs.
        """
        try:
            body = read_body(raw)
            trace.asked(endpoint, body)
            _refuse_what_is_not_passed(endpoint, body)
            with trace.stage("resolve"):
                arm = self._resolver.resolve(body["model"])
        except HubError as error:
            self._metrics.refused(endpoint, error.status)
            trace.refused(error.status, error.code or error.kind)
            raise
        user = body.get("user")
        draft = Draft(
            endpoint,
            body["model"],
            arm,
            raw.decode(),
            user if isinstance(user, str) else None,
        )
        added = asking_for_usage(body) if endpoint in WITH_STREAM_OPTIONS else {}
        exchange = _Exchange(
            arm,
            with_values(raw, added) if added else raw,
            UsageHidden() if added else None,
            draft,
            self._journal,
            self._metrics,
            notes,
            trace,
        )

        async def run(answering: Answering) -> None:
            with self._admission.enter():
                await exchange.run(self._dispatcher, path, answering)

        return Running(run)


def read_body(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"the body is not JSON ({error})") from error
    if not isinstance(body, dict):
        raise UsageError("the body is not a JSON object")
    if not isinstance(body.get("model"), str):
        raise UsageError(
            "the body names no model", hint='Send "model": "base", or an adapter as "support".'
        )
    return body


def _refuse_what_is_not_passed(endpoint: str, body: dict[str, Any]) -> None:
    """What an engine would answer, and its client could make nothing of.

    Raises:
        UsageError: for a response that an engine would keep, for itself and for this life of its;
            for vectors whose shapes would be in a header of vLLM's own.
    """
    for field in ("background", "previous_response_id") if endpoint == RESPONSES else ():
        if body.get(field):
            raise UsageError(
                f"responses are not stored, so '{field}' can't be used",
                hint="Send what was said before in `input`, and wait for the answer.",
            )
    if endpoint in VECTORS and body.get("encoding_format") == "bytes":
        raise UsageError("'encoding_format' is 'bytes', which is not passed on", hint="Use base64.")


@dataclass
class _Exchange:
    """One request on its way through; with `hidden` its usage is for the log only."""

    arm: Arm
    body: bytes
    hidden: UsageHidden | None
    draft: Draft
    journal: Journal
    metrics: Metrics
    notes: Notes
    trace: Trace
    recorded: bool = False

    async def run(self, dispatcher: Dispatcher, path: str, answering: Answering) -> None:
        try:
            async with dispatcher.send(self.arm, path, self.body, self.trace) as reply:
                names = _Names(reply.engine_name, self.arm)
                if reply.is_stream:
                    with self.trace.stage("stream"):
                        await self._stream(reply, names, answering)
                else:
                    await self._whole(reply, names, answering)
        except Overloaded as error:
            self._note(self.draft.finish("failed", str(error)), error.status)
            raise
        except HubError as error:
            await self._record("failed", error.status, str(error))
            raise
        except asyncio.CancelledError:
            if not self.recorded:
                # No await here: the task is being cancelled. The journal has its own thread.
                gone = self.draft.finish("incomplete", "the client went away")
                self.journal.submit(gone)
                self._note(gone, CLIENT_GONE)
            raise

    def _record(
        self, status: str, http_status: int, error: str | None = None
    ) -> "asyncio.Future[bool]":
        """Begin to commit the interaction, once; a failure to is the journal's to report."""
        self.recorded = True
        interaction = self.draft.finish(status, error)
        # While the journal's thread wakes up, the rest can be done.
        written = self.journal.recording(interaction)
        self._note(interaction, http_status)
        return written

    def _note(self, interaction: Interaction, http_status: int) -> None:
        self.metrics.ended(self.arm.adapter, http_status, interaction)
        self.trace.answered(
            interaction, self.arm.public, http_status, self.draft.transcript.finish_reasons
        )
        self.notes.update(
            adapter=interaction.adapter,
            interaction=interaction.id,
            outcome=interaction.status,
            ttft_ms=interaction.ttft_ms,
            prompt_tokens=interaction.prompt_tokens,
            completion_tokens=interaction.completion_tokens,
        )

    async def _whole(self, reply: Reply, names: "_Names", answering: Answering) -> None:
        if reply.status in (404, 405) and not refusals.has_error(reply.head):
            # The engine's web framework, which has no such route.
            raise EndpointNotServed(
                f"the engine does not have this call for the base '{self.arm.base.name}'",
                hint="An engine answers either with text or with vectors and scores; which, its "
                "--runner says.",
            )
        self.draft.transcript.add_body(reply.head)
        if reply.status == 200:
            written = self._record("complete", reply.status)
            body = names.in_answer(reply.head)
        else:
            reason = names.hide(self._words(reply.status))
            written = self._record("failed", reply.status, reason)
            body = names.anywhere(refusals.in_openais_shape(reply.status, reply.head))
        await written
        # Both at once, so that they leave in one piece.
        await answering.start(
            reply.status, {**self._headers(reply), "content-length": str(len(body))}
        )
        await answering.end(body)

    async def _stream(self, reply: Reply, names: "_Names", answering: Answering) -> None:
        self.draft.mark_first_byte()
        await answering.start(200, {**self._headers(reply), "cache-control": "no-cache"})
        last = sse.DONE
        try:
            async for event in reply.events():
                if sse.is_done(event):
                    break
                data = sse.data_of(event)
                if sse.is_last(event):
                    self.draft.transcript.add_data(data)
                    last = names.in_answer(event)
                    break
                shown = self.hidden.seen(event, data) if self.hidden else event
                if shown:
                    await answering.write(names.in_answer(shown))
                self.draft.transcript.add_data(data)
        except EngineUnavailable as error:
            await self._record("incomplete", reply.status, error.message)
            await answering.end(self._held(names) + self._interrupted(error.message))
            return
        if self.draft.transcript.error:
            await self._record("failed", reply.status, names.hide(self._words(reply.status)))
        else:
            await self._record("complete", reply.status)
        await answering.end(self._held(names) + last)

    def _held(self, names: "_Names") -> bytes:
        return names.in_answer(self.hidden.rest()) if self.hidden else b""

    def _interrupted(self, reason: str) -> bytes:
        """The event that ends a stream which broke."""
        error = {
            "message": f"the answer was cut off: {reason}; ask again",
            "type": "engine_interrupted",
            "param": None,
            "code": "engine_interrupted",
            "retryable": True,
        }
        transcript = self.draft.transcript
        if not isinstance(transcript, Items):
            return sse.write({"error": error})
        # OpenAI's own error event, with the whole of ours in it.
        own = {name: error[name] for name in ("message", "param", "code")}
        number = transcript.sequence_number + 1
        event = {"type": "error", **own, "sequence_number": number, "error": error}
        return sse.write(event, "error")

    def _words(self, status: int) -> str:
        return f"HTTP {status}: {self.draft.transcript.reason}"

    def _headers(self, reply: Reply) -> dict[str, str]:
        return {
            "content-type": reply.content_type,
            "x-hub-adapter": self.arm.logged,
            "x-hub-digest": f"sha256:{self.arm.digest}",
            "x-hub-interaction-id": self.draft.id,
        }


class _Names:
    """Puts the public name where the engine wrote its own: the one that it was asked for (a name
    template's), or the hub's name for the version, which is a part of that."""

    def __init__(self, engine_name: str, arm: Arm) -> None:
        inner = arm.version.engine_name if arm.version else engine_name
        self._public = arm.public
        # The longer one first: in running text it holds the other.
        self._names = [name for name in dict.fromkeys((engine_name, inner)) if name != arm.public]
        self._old = frozenset(orjson.dumps(name) for name in self._names)
        self._new = orjson.dumps(arm.public)

    def in_answer(self, data: bytes) -> bytes:
        if not self._names:
            return data
        if b'"error"' in data[:24]:
            return self.anywhere(data)
        return _MODEL.sub(self._renamed, data)

    def _renamed(self, field: "re.Match[bytes]") -> bytes:
        return field[1] + (self._new if field[2] in self._old else field[2])

    def anywhere(self, data: bytes) -> bytes:
        """For error messages, which name the model in running text."""
        for name in self._names:
            data = data.replace(name.encode(), self._public.encode())
        return data

    def hide(self, text: str) -> str:
        for name in self._names:
            text = text.replace(name, self._public)
        return text
