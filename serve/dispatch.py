"""One request to the engine, with everything that must hold until its answer begins.

`send` takes a turn, waits for the engine, leases the version, sends, and looks at the beginning of
the answer. Until that beginning is good nothing has reached the client, so what fails there is
tried again: a connection that fails, a 502, 503 or 504, an empty body, a 5xx or an error event of
an engine that turns out dead, an engine that forgot the adapter. After `_MAX_TRIES` the request
itself is suspect and gets EngineUnavailable: it must not kill engine after engine.

What comes after the beginning is never tried again: the events end with `[DONE]` or raise
EngineUnavailable where they break. Empty text is not looked for: a model may well say nothing.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson

from hub.errors import DeadlineExceeded, EngineUnavailable
from serve import sse
from serve.bodies import with_values
from serve.engines.base import Engine, EngineState
from serve.engines.wire import EngineAnswer
from serve.metrics import Metrics
from serve.residency import Lease, Residency
from serve.resolver import Arm
from serve.turns import Turns

_log = logging.getLogger(__name__)

_MAX_TRIES = 3
_RETRY_PAUSE_S = 0.1
_TRY_AGAIN = frozenset({502, 503, 504})
_UNKNOWN_MODEL = b"does not exist"  # vLLM's words


@dataclass(frozen=True)
class Reply:
    """An answer that has begun: a whole body in `head`, or a stream with its first event there."""

    status: int
    content_type: str
    head: bytes
    rest: AsyncIterator[bytes] | None
    engine_name: str

    @property
    def is_stream(self) -> bool:
        return self.rest is not None

    async def events(self) -> AsyncIterator[bytes]:
        """A stream's whole events, the last being `[DONE]`.

        Raises:
            EngineUnavailable: when the stream breaks off.
        """
        yield self.head
        if self.rest is not None:
            async for event in self.rest:
                yield event


@dataclass
class _Attempt:
    reply: Reply
    answer: EngineAnswer
    lease: Lease | None

    def end(self) -> None:
        self.answer.close()
        if self.lease is not None:
            self.lease.release()


class Dispatcher:
    def __init__(
        self,
        engine: Engine,
        residency: Residency,
        turns: Turns,
        metrics: Metrics,
        *,
        timeout_s: float,
    ) -> None:
        self._engine = engine
        self._residency = residency
        self._turns = turns
        self._metrics = metrics
        self._timeout_s = timeout_s

    @asynccontextmanager
    async def send(self, arm: Arm, path: str, body: bytes) -> AsyncIterator[Reply]:
        """The answer of an arm to a body, whose `model` becomes the engine's name for the arm.

        Leaving the block gives turn and lease back, and aborts what the engine still generates.

        Raises:
            Overloaded: when too many wait for their turn.
            DeadlineExceeded: when no answer began in time, waiting for the turn included.
            EngineUnavailable: when none began in `_MAX_TRIES`.
            EngineRefused: when the engine will not load the adapter.
            IntegrityError: when the adapter's files are not what was published.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                turn = await self._turns.take((arm.adapter,))
                try:
                    if turn.waited_s:
                        self._metrics.queue_wait.observe(turn.waited_s)
                    attempt = await self._begin(arm, path, body)
                except BaseException:  # also a cancelled request: the next one gets its turn
                    turn.release()
                    raise
        except TimeoutError:
            raise DeadlineExceeded(
                f"no answer began within {self._timeout_s:g} s",
                hint="Ask for less at once, or try again when there is less to do.",
            ) from None
        try:
            yield attempt.reply
        finally:
            attempt.end()
            turn.release()

    async def warm(self, arm: Arm) -> None:
        """Have the arm loaded, so that its first answer shows no sign of it. Raises as `send`."""
        if arm.version is not None:
            (await self._residency.acquire(arm.version)).release()

    async def _begin(self, arm: Arm, path: str, body: bytes) -> _Attempt:
        tries = 0
        while True:
            await self._engine.wait_ready()
            try:
                return await self._try(arm, path, body)
            except EngineUnavailable as error:
                tries += 1
                if tries >= _MAX_TRIES or self._engine.state is EngineState.STOPPED:
                    raise
                _log.warning("%s: %s; trying again", arm.public, error)
                self._metrics.retries.inc()
            await self._engine.check()
            await asyncio.sleep(_RETRY_PAUSE_S)

    async def _try(self, arm: Arm, path: str, body: bytes) -> _Attempt:
        began = time.perf_counter()
        lease = await self._residency.acquire(arm.version) if arm.version else None
        if lease is not None:
            self._metrics.adapter_wait.observe(time.perf_counter() - began)
        answer: EngineAnswer | None = None
        try:
            name = lease.engine_name if lease else self._engine.base_model
            named = with_values(body, {"model": orjson.dumps(name)})
            answer = await self._engine.open(path, named)
            return _Attempt(await self._beginning(arm, answer, name), answer, lease)
        except BaseException:  # also a cancelled request: its connection and lease are freed
            if answer is not None:
                answer.close()
            if lease is not None:
                lease.release()
            raise

    async def _beginning(self, arm: Arm, answer: EngineAnswer, name: str) -> Reply:
        rest: AsyncIterator[bytes] | None = None
        if answer.is_stream and answer.status == 200:
            rest = _whole_stream(answer)
            head = await anext(rest, b"")
        else:
            head = await answer.read()
        if answer.status == 200 and not head:
            raise EngineUnavailable("the engine gave an empty answer")
        if answer.status in _TRY_AGAIN:
            raise EngineUnavailable(f"the engine is not available (HTTP {answer.status})")
        if answer.status >= 500:
            # A dead engine core, or an honest failure of a live engine, which is the client's.
            await self._engine.check()
            if self._engine.state is not EngineState.READY:
                raise EngineUnavailable("the engine died")
        if answer.status == 404 and arm.version is not None and _UNKNOWN_MODEL in head:
            self._residency.forget(arm.version)
            raise EngineUnavailable("the engine had forgotten the adapter")
        return Reply(answer.status, answer.content_type, head, rest, name)


async def _whole_stream(answer: EngineAnswer) -> AsyncIterator[bytes]:
    """The events up to and with `[DONE]`; a stream that ends before it raises."""
    async for event in sse.events(answer.chunks()):
        if _is_engine_failure(event):
            raise EngineUnavailable("the engine failed within its answer")
        yield event
        if sse.is_done(event):
            return
    raise EngineUnavailable("the engine's answer ended too soon")


def _is_engine_failure(event: bytes) -> bool:
    """vLLM's event `{"error": {…, "code": 500}}`, which it sends when its core dies."""
    if b'"error"' not in event[:24]:
        return False
    try:
        error = orjson.loads(sse.data_of(event)).get("error")
    except (orjson.JSONDecodeError, AttributeError):
        return False
    code = error.get("code") if isinstance(error, dict) else None
    return isinstance(code, int) and code >= 500
