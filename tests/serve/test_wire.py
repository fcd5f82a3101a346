"""HTTP/1.1 with an engine: whatever it sends and however it ends, byte by byte."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from hub.errors import EngineUnavailable
from serve.engines.wire import EngineAnswer, Wire

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    b"5\r\nfirst\r\n6;x=y\r\nsecond\r\n0\r\n\r\n"
)
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Reads whole requests and lets `talk` answer; counts connections, and those that ended."""

    def __init__(self) -> None:
        self.talk: Talk = _say(WHOLE)
        self.opened = 0
        self.ended = 0
        self.requests: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                await self.talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.ended += 1
            writer.close()


def _say(*parts: bytes, then_close: bool = False) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        if then_close:
            raise ConnectionError

    return talk


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
    yield server
    listening.close()


@pytest.fixture
async def wire(server: Server) -> AsyncIterator[Wire]:
    wire = Wire(server.url, silence_s=5)  # type: ignore[attr-defined]
    yield wire
    wire.close()


async def _read(wire: Wire) -> tuple[EngineAnswer, bytes]:
    answer = await wire.post("/v1/x", b'{"a":1}')
    return answer, await answer.read()


async def test_a_request_is_what_any_server_reads(server: Server, wire: Wire) -> None:
    """Path, host, length and body; nothing else is said."""
    answer, body = await _read(wire)
    assert (answer.status, answer.content_type, body) == (200, "application/json", b"{}")
    host = server.url.removeprefix("http://")  # type: ignore[attr-defined]
    assert server.requests == [
        b"POST /v1/x HTTP/1.1\r\nhost: %s\r\ncontent-type: application/json\r\n"
        b'content-length: 7\r\n\r\n{"a":1}' % host.encode()
    ]


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_an_answer_is_the_same_however_it_was_cut(
    server: Server, wire: Wire, size: int
) -> None:
    """Headers and chunks split anywhere, and a 100 before them."""
    data = b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED
    server.talk = _say(*(data[at : at + size] for at in range(0, len(data), size)))
    for _ in range(2):
        answer, body = await _read(wire)
        assert (answer.status, body, answer.is_stream) == (200, b"firstsecond", True)
    assert server.opened == 1


async def test_a_connection_is_used_again_by_one_at_a_time(server: Server, wire: Wire) -> None:
    """Ten in a row need one; ten at once need ten, of which each is kept."""
    for _ in range(10):
        await _read(wire)
    assert server.opened == 1
    await asyncio.gather(*(_read(wire) for _ in range(10)))
    assert server.opened == 10
    await asyncio.gather(*(_read(wire) for _ in range(10)))
    assert server.opened == 10


async def test_an_answer_may_be_read_after_its_connection_went_on(
    server: Server, wire: Wire
) -> None:
    """What has arrived belongs to its answer, whoever has the connection now."""
    server.talk = _say(CHUNKED)
    first = await wire.post("/", b"{}")
    await asyncio.sleep(0.05)
    server.talk = _say(WHOLE)
    _, second = await _read(wire)
    assert (await first.read(), second, server.opened) == (b"firstsecond", b"{}", 1)


@pytest.mark.parametrize(
    "talk",
    [
        _say(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}"),
        _say(WHOLE, then_close=True),
    ],
)
async def test_a_closed_connection_is_not_used_again(
    server: Server, wire: Wire, talk: Talk
) -> None:
    """Whether it was announced or not."""
    server.talk = talk
    for number in range(1, 4):
        assert (await _read(wire))[1] == b"{}"
        await asyncio.sleep(0.02)
        assert server.opened == number


async def test_an_idle_connection_is_given_up_before_the_engine_closes_it(
    server: Server, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM's does so after five seconds; a request on it just then would fail."""
    await _read(wire)
    monkeypatch.setattr("serve.engines.wire._KEPT_S", 0.0)
    await _read(wire)
    assert server.opened == 2


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
        CHUNKED[:-5],
    ],
)
async def test_a_broken_answer_is_an_error_and_never_a_short_one(
    server: Server, wire: Wire, said: bytes
) -> None:
    """Cut off in the head or the body, or not HTTP at all; the next request is none the wiser."""
    server.talk = _say(said, then_close=True)
    with pytest.raises(EngineUnavailable):
        await _read(wire)
    server.talk = _say(WHOLE)
    assert (await _read(wire))[1] == b"{}"


async def test_what_nobody_asked_for_ends_the_connection(server: Server, wire: Wire) -> None:
    """A second answer to one request must not become the answer to the next."""
    server.talk = _say(WHOLE + WHOLE.replace(b"{}", b"[]"))
    assert (await _read(wire))[1] == b"{}"
    assert (await _read(wire))[1] == b"{}"
    assert server.opened == 2


async def test_silence_is_an_end_too(server: Server) -> None:
    """Before the head, and within the body; a slow answer that goes on is none."""
    wire = Wire(server.url, silence_s=0.2)  # type: ignore[attr-defined]

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for at in range(0, len(CHUNKED), 20):
            writer.write(CHUNKED[at : at + 20])
            await asyncio.sleep(0.06)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED[:-20])
        await asyncio.sleep(10)

    server.talk = slow
    assert (await _read(wire))[1] == b"firstsecond"
    server.talk = silent
    with pytest.raises(EngineUnavailable, match="silent"):
        await _read(wire)
    server.talk = lambda reader, writer: asyncio.sleep(10)
    with pytest.raises(EngineUnavailable, match="silent"):
        await _read(wire)


@pytest.mark.parametrize("how", ["close", "cancel", "give up"])
async def test_who_leaves_ends_the_engines_work(server: Server, wire: Wire, how: str) -> None:
    """The engine's side sees its connection end, and readers are not left waiting."""
    server.talk = _say(CHUNKED[:-5]) if how != "cancel" else lambda reader, writer: reader.read()
    asking = asyncio.create_task(wire.post("/", b"{}"))
    if how == "cancel":
        while not server.requests:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        asking.cancel()
    else:
        answer = await asking
        reading = asyncio.create_task(answer.read())
        await asyncio.sleep(0.02)
        answer.close() if how == "close" else wire.close()
        with pytest.raises(EngineUnavailable):
            await asyncio.wait_for(reading, 5)
    async with asyncio.timeout(5):
        while not server.ended:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_reader_that_is_behind_holds_the_engine_back(server: Server, wire: Wire) -> None:
    """Of a body of 64 MiB a little waits in memory; read on, all of it comes."""
    size, sent = 64 << 20, 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        while sent < size:
            writer.write(b"x" * (1 << 16))
            await writer.drain()
            sent += 1 << 16

    server.talk = flood
    answer = await wire.post("/", b"{}")
    await asyncio.sleep(0.3)
    assert sent < 16 << 20
    assert len(await answer.read()) == size


async def test_an_engine_that_is_not_there_is_unavailable() -> None:
    """Not an OSError of somebody else's."""
    with pytest.raises(EngineUnavailable, match="does not answer"):
        await Wire("http://127.0.0.1:9", silence_s=1).post("/", b"{}")
