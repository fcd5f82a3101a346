"""A client's OpenAI request, passed to the engine and back untouched but for `model`.

The body is not validated beyond being a JSON object with a text in `model`: vLLM does that, and
knows more fields than any copy of its schema would. In the answer, `model` becomes the exact public
version; every other byte stays. The interaction is committed before the client sees the end of its
answer (the last byte of a body, the `[DONE]` of a stream), and never before its first token.

A stream that breaks after its first byte ends with one event, and nothing after it:

    data: {"error": {"message": …, "type": "engine_interrupted", "code": "engine_interrupted",
                     "param": null, "retryable": true}}

Absent on purpose: counting the tokens of a stream whose client did not ask for usage.
"""

import asyncio
import re
from dataclasses import dataclass
from typing import Any

import orjson

from hub.errors import EngineUnavailable, HubError, UsageError
from serve import sse
from serve.admission import Admission
from serve.dispatch import Dispatcher, Reply
from serve.draft import Draft
from serve.journal import Journal
from serve.resolver import Arm, Resolver
from serve.running import Answering, Running

PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}


class Forwarder:
    def __init__(
        self,
        resolver: Resolver,
        dispatcher: Dispatcher,
        journal: Journal,
        admission: Admission,
    ) -> None:
        self._resolver = resolver
        self._dispatcher = dispatcher
        self._journal = journal
        self._admission = admission

    def answer(self, endpoint: str, raw: bytes) -> Running:
        """The response to a body sent to `endpoint`, a key of PATHS.

        Raises:
            UsageError: when the body is not an object that names a model.
            UnknownReference: when the model is not one of ours. And all that `Dispatcher.send` does
                when the response runs.
        """
        body = read_body(raw)
        arm = self._resolver.resolve(body["model"])
        user = body.get("user")
        draft = Draft(
            endpoint,
            body["model"],
            arm,
            raw.decode(),
            user if isinstance(user, str) else None,
        )
        exchange = _Exchange(arm, body, PATHS[endpoint], draft, self._journal)

        async def run(answering: Answering) -> None:
            with self._admission.enter():
                await exchange.run(self._dispatcher, answering)

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


@dataclass
class _Exchange:
    """One request on its way through."""

    arm: Arm
    body: dict[str, Any]
    path: str
    draft: Draft
    journal: Journal
    recorded: bool = False

    async def run(self, dispatcher: Dispatcher, answering: Answering) -> None:
        try:
            async with dispatcher.send(self.arm, self.path, self.body) as reply:
                names = _Names(reply.engine_name, self.arm.public)
                if reply.is_stream:
                    await self._stream(reply, names, answering)
                else:
                    await self._whole(reply, names, answering)
        except HubError as error:
            await self._record("failed", str(error))
            raise
        except asyncio.CancelledError:
            if not self.recorded:
                # No await here: the task is being cancelled. The journal has its own thread.
                self.journal.submit(self.draft.finish("incomplete", "the client went away"))
            raise

    async def _record(self, status: str, error: str | None = None) -> None:
        """Commit the interaction, once; a failure to is the journal's to report."""
        self.recorded = True
        await self.journal.record(self.draft.finish(status, error))

    async def _whole(self, reply: Reply, names: "_Names", answering: Answering) -> None:
        self.draft.transcript.add_body(reply.head)
        if reply.status == 200:
            body = names.in_answer(reply.head)
            await self._record("complete")
        else:
            body = names.anywhere(reply.head)
            await self._record("failed", names.hide(self._words(reply.status)))
        await answering.start(
            reply.status, {**self._headers(reply), "content-length": str(len(body))}
        )
        await answering.end(body)

    async def _stream(self, reply: Reply, names: "_Names", answering: Answering) -> None:
        self.draft.mark_first_byte()
        await answering.start(200, {**self._headers(reply), "cache-control": "no-cache"})
        try:
            async for event in reply.events():
                if sse.is_done(event):
                    break
                await answering.write(names.in_answer(event))
                self.draft.transcript.add_data(sse.data_of(event))
        except EngineUnavailable as error:
            await self._record("incomplete", error.message)
            await answering.end(sse.write(_interrupted(error.message)))
            return
        if self.draft.transcript.error:
            await self._record("failed", names.hide(self._words(200)))
        else:
            await self._record("complete")
        await answering.end(sse.DONE)

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
    """Puts the public name where the engine wrote its own."""

    def __init__(self, engine_name: str, public: str) -> None:
        self._engine_name = engine_name
        self._public = public
        self._new = orjson.dumps(public)
        # Inside a JSON text every quote is escaped, so this can only be a real key and its value.
        self._field = re.compile(rb'("model"\s*:\s*)' + re.escape(orjson.dumps(engine_name)))

    def in_answer(self, data: bytes) -> bytes:
        if self._engine_name == self._public:
            return data
        if b'"error"' in data[:24]:
            return self.anywhere(data)
        return self._field.sub(lambda match: match[1] + self._new, data)

    def anywhere(self, data: bytes) -> bytes:
        """For error messages, which name the model in running text."""
        return data.replace(self._engine_name.encode(), self._public.encode())

    def hide(self, text: str) -> str:
        return text.replace(self._engine_name, self._public)


def _interrupted(reason: str) -> dict[str, Any]:
    return {
        "error": {
            "message": f"the answer was cut off: {reason}; ask again",
            "type": "engine_interrupted",
            "param": None,
            "code": "engine_interrupted",
            "retryable": True,
        }
    }
