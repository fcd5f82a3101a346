"""Many clients in one event loop, each asking again as soon as it is answered.

Bare sockets rather than an HTTP client, which would need more of the processor than what is
measured. It reads answers whose length is announced, and counts those that are no 200.
"""

import asyncio
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import cast

import uvloop

Counts = dict[int, int]
_CONNECTIONS = 16
_PIPELINED = 16


@dataclass(frozen=True)
class Rate:
    """Requests a second, and how many of all of them failed."""

    requests_per_s: float
    requests: int
    failed: int


def drive(
    url: str,
    path: str,
    body: dict[str, object],
    *,
    clients: int,
    seconds: float,
    key: str | None = None,
) -> Rate:
    """Ask for `seconds` with `clients` at a time; a broken connection raises ConnectionError."""
    return uvloop.run(_drive(url, path, body, clients, seconds, key))


async def _drive(
    url: str, path: str, body: dict[str, object], clients: int, seconds: float, key: str | None
) -> Rate:
    host, port = url.removeprefix("http://").split(":")
    content = json.dumps(body).encode()
    authorization = f"authorization: Bearer {key}\r\n" if key else ""
    request = (
        f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
        f"{authorization}content-length: {len(content)}\r\n\r\n"
    ).encode() + content
    answered: list[bool] = []
    end = time.perf_counter() + seconds

    async def ask_on() -> None:
        _, client = await asyncio.get_running_loop().create_connection(_Client, host, int(port))
        while time.perf_counter() < end:
            answered.append(await client.ask(request))
        client.transport.close()

    started = time.perf_counter()
    await asyncio.gather(*(ask_on() for _ in range(clients)))
    took = time.perf_counter() - started
    return Rate(len(answered) / took, len(answered), answered.count(False))


class _Client(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._received = b""
        self._answered: asyncio.Future[bool] | None = None

    def ask(self, request: bytes) -> "asyncio.Future[bool]":
        self._answered = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._answered

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if found and len(body) >= _length(head):
            self._received = b""
            assert self._answered is not None
            self._answered.set_result(head.startswith(b"HTTP/1.1 200 "))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(ConnectionError("the connection broke"))


def _length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])


def send_each(url: str, path: str, models: Iterable[str]) -> Counts:
    """Ask once for each model, over kept connections with several requests under way on each; how
    often each status came. A broken connection raises ConnectionError."""
    return uvloop.run(_send_each(url, path, iter(models)))


async def _send_each(url: str, path: str, models: Iterator[str]) -> Counts:
    host, port = url.removeprefix("http://").split(":")
    counts: Counts = {}

    async def line() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        while some := list(islice(models, _PIPELINED)):
            writer.write(b"".join(_request(host, path, model) for model in some))
            for _ in some:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(_length(head[:-4]))
                status = int(head.split(b" ", 2)[1])
                counts[status] = counts.get(status, 0) + 1
        writer.close()

    await asyncio.gather(*(line() for _ in range(_CONNECTIONS)))
    return counts


def _request(host: str, path: str, model: str) -> bytes:
    messages = [{"role": "user", "content": "Hello"}]
    content = json.dumps({"model": model, "messages": messages}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content
