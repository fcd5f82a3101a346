"""Many clients in one event loop, each asking again as soon as it is answered.

Bare sockets rather than an HTTP client, which would need more of the processor than what is
measured. It reads answers whose length is announced, and counts those that are no 200.
"""

import asyncio
import json
import time
from dataclasses import dataclass
from typing import cast

import uvloop


@dataclass(frozen=True)
class Rate:
    """Requests a second, and how many of all of them failed."""

    requests_per_s: float
    requests: int
    failed: int


def drive(url: str, path: str, body: dict[str, object], *, clients: int, seconds: float) -> Rate:
    """Ask for `seconds` with `clients` at a time; a broken connection raises ConnectionError."""
    return uvloop.run(_drive(url, path, body, clients, seconds))


async def _drive(
    url: str, path: str, body: dict[str, object], clients: int, seconds: float
) -> Rate:
    host, port = url.removeprefix("http://").split(":")
    content = json.dumps(body).encode()
    request = (
        f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\n\r\n"
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
