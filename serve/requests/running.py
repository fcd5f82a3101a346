"""A response that is written by a coroutine, which is cancelled when the client goes away.

Starlette's own streaming looks for the client only when it sends; here the request to the engine is
dropped at once, also while nothing has come from it yet.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send


class Answering:
    """What the coroutine writes with."""

    def __init__(self, send: Send) -> None:
        self.started = False
        self.ended = False
        self._send = send

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        self.started = True
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def write(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        self.ended = True
        await self._send({"type": "http.response.body", "body": data, "more_body": False})


class Running(Response):
    """Return one from a route. Errors raised before `start` are answered like a route's own."""

    def __init__(self, work: Callable[[Answering], Coroutine[Any, Any, None]]) -> None:
        super().__init__()
        self.started = False
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answering = Answering(send)
        try:
            await unless_gone(receive, self._work(answering), answering)
        finally:
            self.started = answering.started


async def unless_gone(
    receive: Receive, work: Coroutine[Any, Any, None], answering: Answering
) -> None:
    """Run `work`; cancel it when the client disconnects before its answer has ended.

    It runs in the caller's own task: a task more and the waiting for it would cost each request
    as much as reading its body.
    """
    working = asyncio.current_task()
    assert working is not None
    left = False

    async def watch() -> None:
        nonlocal left
        await _gone(receive)
        # A server reports the end of an answer as a disconnect too.
        if not answering.ended:
            left = True
            working.cancel()

    watching = asyncio.create_task(watch())
    try:
        await work
    except asyncio.CancelledError:
        # Cancelled from elsewhere as well, it stays cancelled.
        if not left or working.uncancel():
            raise
    finally:
        watching.cancel()


async def _gone(receive: Callable[[], Awaitable[Mapping[str, Any]]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
