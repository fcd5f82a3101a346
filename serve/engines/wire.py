"""Requests on their way to an engine and back: HTTP/1.1 between a parser and whoever reads.

httptools parses (uvicorn's own parser). What is here is what lies around it: connections that are
kept, answers that are read as they come, and their ends. aiohttp does all of this and much that an
engine never needs; that was 0.6 ms of the 2.5 that the gateway added to a request of a lone client
(2 cores, November 2026). What is rare (probes, loads) goes through aiohttp, in
`serve.engines.client`.

Absent on purpose: redirects, compression, cookies, proxies, trying again, answers that only the end
of the connection ends.
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from urllib.parse import urlsplit

import httptools

from hub.errors import EngineUnavailable

# vLLM's server closes idle connections after 5 s; reusing one just then would fail a request.
_KEPT_S = 4.0
_CONNECT_S = 10.0
# A reader this far behind keeps the engine from sending more.
_UNREAD_MOST = 1 << 20
_OK = 200
_NO_MORE: Mapping[str, str] = {}


class EngineAnswer:
    """An answer whose head has arrived; close it, or the engine goes on generating."""

    def __init__(self, connection: "_Connection") -> None:
        self.status = 0
        self.content_type = "application/json"
        self._connection = connection
        self._parts: deque[bytes] = deque()
        self._unread = 0
        self._complete = False
        self._broken: str | None = None
        self._news: asyncio.Future[None] | None = None

    @property
    def is_stream(self) -> bool:
        return self.content_type.startswith("text/event-stream")

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body's bytes as they come. Raises EngineUnavailable when the connection breaks."""
        while True:
            while self._parts:
                part = self._parts.popleft()
                self._unread -= len(part)
                yield part
            if self._complete:
                return
            if self._broken is not None:
                raise _unavailable("the engine broke off its answer", self._broken)
            self._connection.read_on()
            await self._next()

    async def read(self) -> bytes:
        """The whole body. Raises EngineUnavailable when the connection breaks."""
        return b"".join([part async for part in self.chunks()])

    async def head(self) -> None:
        """Returns when status and headers are there; raises EngineUnavailable."""
        while not self.status:
            if self._broken is not None:
                raise _unavailable("the engine does not answer", self._broken)
            await self._next()

    def close(self) -> None:
        """Drop the connection unless the body has ended: vLLM then aborts the request."""
        if not self._complete:
            self._connection.abort("closed")

    # -- from the connection ----------------------------------------------------------------------

    def began(self, status: int) -> None:
        self.status = status
        self._tell()

    def add(self, part: bytes) -> bool:
        """Tells whether the reader is too far behind."""
        self._parts.append(part)
        self._unread += len(part)
        self._tell()
        return self._unread > _UNREAD_MOST

    def completed(self) -> None:
        self._complete = True
        self._tell()

    def broke(self, why: str) -> None:
        self._broken = why
        self._tell()

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def _next(self) -> None:
        self._news = asyncio.get_running_loop().create_future()
        await self._news


class Wire:
    """One engine's address, and the connections to it."""

    def __init__(self, url: str, *, silence_s: float) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._prefix = parts.path.rstrip("/")
        self._netloc = parts.netloc.rpartition("@")[2]
        self._silence_s = silence_s
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()
        self._closed = False

    async def post(
        self, path: str, body: bytes, headers: Mapping[str, str] = _NO_MORE
    ) -> EngineAnswer:
        """Send a JSON body, with further headers; returns at the answer's head.

        Raises:
            EngineUnavailable: when there is no connection, or it breaks or is silent before that.
        """
        connection = self._kept() or await self._connect()
        head = (
            f"POST {self._prefix}{path} HTTP/1.1\r\nhost: {self._netloc}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        )
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        answer = connection.ask(f"{head}{more}\r\n".encode("latin-1") + body)
        try:
            await answer.head()
        except BaseException:  # also a cancelled request: the engine must not go on with it
            answer.close()
            raise
        return answer

    def close(self) -> None:
        """Break every connection, and with it what is still being answered."""
        self._closed = True
        for connection in list(self._all):
            connection.abort("given up")

    def _kept(self) -> "_Connection | None":
        now = time.monotonic()
        while self._idle:
            connection = self._idle.pop()  # the one used last: the others may grow old
            if connection.is_usable(now):
                return connection
            connection.abort("idle")
        return None

    async def _connect(self) -> "_Connection":
        try:
            async with asyncio.timeout(_CONNECT_S):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: _Connection(self._idle, self._all, self._silence_s),
                    self._host,
                    self._port,
                    ssl=self._tls,
                )
        except (OSError, TimeoutError) as error:
            raise _unavailable("the engine does not answer", type(error).__name__) from error
        if self._closed:
            connection.abort("given up")
        return connection


class _Connection(asyncio.Protocol):
    """One request at a time; it puts itself among the idle ones after each."""

    def __init__(
        self, idle: "list[_Connection]", connections: "set[_Connection]", silence_s: float
    ) -> None:
        self._idle = idle
        self._connections = connections
        self._silence_s = silence_s
        self._answer: EngineAnswer | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._heard = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._paused = False

    def is_usable(self, now: float) -> bool:
        return now - self._heard < _KEPT_S and not self._transport.is_closing()

    def ask(self, request: bytes) -> EngineAnswer:
        self._answer = answer = EngineAnswer(self)
        if self._transport.is_closing():
            self._end("closed")
            return answer
        self._parser = httptools.HttpResponseParser(self)
        self._heard = time.monotonic()
        self._watch_for_silence(self._silence_s)
        self._transport.write(request)
        return answer

    def abort(self, why: str) -> None:
        """Break it at once; whoever reads from it hears why."""
        self._end(why)
        self._transport.abort()

    def read_on(self) -> None:
        if self._paused:
            self._paused = False
            self._heard = time.monotonic()
            self._transport.resume_reading()

    # -- asyncio's --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        self._heard = time.monotonic()
        if self._answer is None or self._parser is None:
            self.abort("unasked")
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.abort(type(error).__name__)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(type(exc).__name__ if exc else "closed")
        self._connections.discard(self)
        if self in self._idle:
            self._idle.remove(self)

    # -- the parser's -----------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._answer is not None and name.lower() == b"content-type":
            self._answer.content_type = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        if self._answer is not None and status >= _OK:
            self._answer.began(status)

    def on_body(self, body: bytes) -> None:
        if self._answer is not None and self._answer.add(body) and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        assert self._parser is not None
        if self._parser.get_status_code() < _OK:
            return
        answer, self._answer = self._answer, None
        if answer is None:
            self.abort("unasked")
            return
        answer.completed()
        self._stop_watching()
        self.read_on()
        if self._parser.should_keep_alive():
            self._idle.append(self)
        else:
            self._transport.close()

    # -- ends -------------------------------------------------------------------------------------

    def _end(self, why: str) -> None:
        self._stop_watching()
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.broke(why)

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _watch_for_silence(self, after_s: float) -> None:
        self._watch = asyncio.get_running_loop().call_later(after_s, self._look)

    def _look(self) -> None:
        # While the reader is behind, it is not the engine that is silent.
        silent_s = 0.0 if self._paused else time.monotonic() - self._heard
        if silent_s >= self._silence_s:
            self.abort("silent")
        else:
            self._watch_for_silence(self._silence_s - silent_s)


def _unavailable(what: str, why: str) -> EngineUnavailable:
    return EngineUnavailable(f"{what} ({why})", hint="Try again in a moment.")
